"""Measure a run: held-out error, samples of the averaged generator, batch-norm statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gdn.generator.networks import Generator
from gdn.recipes import Recipe
from gdn.training import losses
from gdn.training import run_log as monitor
from gdn.training.shared_randomness import StepDraws
from gdn.training.state import State
from gdn.training.training_step import encode, with_prior

STUDY_DOSE_PER_A2 = 0.45 / 0.0612**2  # electrons per Å^2 at the study's poisson:1


@torch.no_grad()
def recompute_statistics(
    module: nn.Module, forward: Callable[[Tensor], Tensor], inputs: Tensor
) -> None:
    """Compute the batch-norm statistics of averaged weights: `forward` of `inputs` (n, ...) in
    batches of 64."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative mean
    module.train()
    for batch in inputs.split(64):
        forward(batch)
    module.eval()
    for m in norms:
        m.momentum = 0.1


@torch.no_grad()
def status(
    state: State, recipe: Recipe, held_out: Tensor, fixed: Tensor, device: str
) -> tuple[dict[str, Any], Tensor]:
    """Statistics of the averaged network on held-out patches, and its samples (of `fixed` latents),
    network units."""
    state.average.eval()
    if not isinstance(state.average, Generator):
        return _of_denoiser(state, recipe, held_out, device)
    frozen = state.images >= recipe.optimiser.freeze_norm_from * recipe.optimiser.images
    if state.encoder is not None:
        state.encoder.eval()
    if not frozen and recipe.optimiser.ema_images:
        _own_statistics(state, recipe, held_out, fixed, device)
    samples = state.average(fixed).float()
    row: dict[str, Any] = {"diversity": _diversity(samples, held_out)}
    if state.encoder is not None:
        for name, dose in _doses(recipe).items():
            noisy, sigma = _seen(recipe, held_out, dose, device)
            row[f"psnr_{name}_db"] = _psnr(
                state.average.decode(state.encoder(noisy, sigma)[0]), held_out, recipe
            )
    return row, samples


def _own_statistics(
    state: State, recipe: Recipe, held_out: Tensor, fixed: Tensor, device: str
) -> None:
    assert isinstance(state.average, Generator)
    if state.encoder is None:
        recompute_statistics(state.average, state.average, fixed)
        return
    draws = StepDraws.single(2, device)
    latents = with_prior(
        state, recipe, encode(state.encoder, recipe, held_out, device, draws).z, draws
    )
    recompute_statistics(state.average, state.average.decode, latents)


def _of_denoiser(
    state: State, recipe: Recipe, held_out: Tensor, device: str
) -> tuple[dict[str, Any], Tensor]:
    """A U-Net's error at the study's dose and at ten times that dose; its images at the former."""
    row: dict[str, Any] = {}
    images = held_out
    for name, factor in (("study_x10", 10.0), ("study", 1.0)):
        noisy, _ = _seen(recipe, held_out, factor * _doses(recipe)["study"], device)
        images = torch.cat([state.average(part) for part in noisy.split(32)])
        row[f"psnr_{name}_db"] = _psnr(images, held_out, recipe)
    return {"diversity": _diversity(images, held_out)} | row, images


def _doses(recipe: Recipe) -> dict[str, float]:
    return {"clean": 1e6, "study": STUDY_DOSE_PER_A2 * recipe.network.sampling_angstrom**2}


def _seen(recipe: Recipe, clean: Tensor, dose: float, device: str) -> tuple[Tensor, Tensor]:
    """`clean` with the noise of `dose` electrons per generated pixel, the same every time, and its
    sigma."""
    scale = recipe.network.intensity_scale
    doses = torch.full((len(clean),), dose, device=device)
    return losses.sample_noise(
        clean, doses, scale, StepDraws.single(1, device)
    ), doses.rsqrt() / scale


def _diversity(images: Tensor, data: Tensor) -> float:
    return monitor.diversity(images.cpu().numpy()) / monitor.diversity(data.cpu().numpy())


def _psnr(images: Tensor, clean: Tensor, recipe: Recipe) -> float:
    """PSNR in dB in the study's units (vacuum 0.45, data range 1), from the mean squared error over
    all patches (docs/method.md, "Metrics")."""
    error = ((images - clean) * recipe.network.intensity_scale * 0.45) ** 2
    return float(-10 * torch.log10(error.mean()))

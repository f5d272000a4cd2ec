"""The training loop: set up, restore, then (step, average, status, snapshot, checkpoint).

Progress is counted in images. The same command resumes. A run folder holds `recipe.json`,
`stats.jsonl`, `grids/`, `checkpoint.pt` (tensors and numbers only).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdn import __version__
from gdn.training import distributed, losses, monitor
from gdn.training.data import ArrayStream, WaveStream, open_stream
from gdn.training.networks import Encoder, Generator, freeze_statistics
from gdn.training.recipe import Recipe
from gdn.training.state import State

VALIDATION = 256  # patches
STUDY_DOSE_PER_A2 = 0.45 / 0.0612**2  # electrons per Å^2 at the study's poisson:1


@dataclass(frozen=True)
class RunOptions:
    """Where and how long to run; nothing here changes what is learnt, only when it stops and reports."""

    run: Path
    data: Path
    device: str = "cpu"
    workers: int = 0
    threads: int | None = None
    minutes: float | None = None
    status_every: int = 20_000  # images
    checkpoint_minutes: float = 5.0
    start_from: Path | None = None  # model folder whose weights a new run starts from
    report: Callable[[dict[str, Any]], None] = field(default=lambda row: None)


def learning_rate_factor(recipe: Recipe, images: int) -> float:
    """Linear warm-up, constant, cosine fall to 1 % over the last part of the run."""
    o = recipe.optimiser
    share = images / o.images
    warm = min(1.0, (images + o.batch) / o.warmup_images) if o.warmup_images else 1.0
    if share <= o.decay_from:
        return warm
    through = min(1.0, (share - o.decay_from) / (1 - o.decay_from))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * through)))


def _autocast(recipe: Recipe, device: str) -> torch.autocast:
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.optimiser.bf16)


def _gan_losses(state: State, recipe: Recipe, real: Tensor, device: str, rng: torch.Generator) -> dict[str, Tensor]:
    """Adversarial step of the study: discriminator first, then the generator on the same latents."""
    z = torch.randn(len(real), recipe.network.latent, generator=rng, device=device)
    with _autocast(recipe, device):
        fake = state.generator(z)
    row = _discriminator_step(state, recipe, real, fake, device)
    state.opt_g.zero_grad(set_to_none=True)
    with _autocast(recipe, device):
        logits = state.discriminator(fake)
    row["g_loss"] = losses.generator_loss(logits.float())
    row["g_loss"].backward()
    return row


def _discriminator_step(state: State, recipe: Recipe, real: Tensor, fake: Tensor, device: str) -> dict[str, Tensor]:
    state.opt_d.zero_grad(set_to_none=True)
    with _autocast(recipe, device):
        on_real, on_fake = state.discriminator(real), state.discriminator(fake.detach())
    loss = losses.discriminator_loss(on_real.float(), on_fake.float(), recipe.loss.label_smoothing)
    loss.backward()
    distributed.average_gradients(state.discriminator)
    state.opt_d.step()
    return {"d_loss": loss, "d_real": on_real.float().sigmoid().mean(), "d_fake": on_fake.float().sigmoid().mean()}


def _encode(
    encoder: Encoder, recipe: Recipe, real: Tensor, device: str, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dose, latent mean, log-variance and a draw for `real`, half of it seen through noise, half clean."""
    n, loss, scale = len(real), recipe.loss, recipe.network.intensity_scale
    low, high = loss.log10_dose
    dose = 10 ** (low + (high - low) * torch.rand(n, generator=rng, device=device))
    dose[int(n * loss.noisy_share) :] = 1e6  # practically clean
    noisy = losses.sample_noise(real, dose, scale, rng)
    with _autocast(recipe, device):
        mean, log_variance = encoder(noisy, dose.rsqrt() / scale)
    mean, log_variance = mean.float(), log_variance.float()
    z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=rng, device=device)
    return dose, mean, log_variance, z


def _with_prior(recipe: Recipe, z: Tensor, rng: torch.Generator) -> Tensor:
    """Encoded latents and random ones in one batch, so that they share batch-norm statistics."""
    n_prior = int(len(z) * recipe.loss.prior_share) if recipe.loss.adversarial_weight else 0
    return torch.cat([z, torch.randn(n_prior, z.shape[1], generator=rng, device=z.device)])


def _range_losses(state: State, recipe: Recipe, real: Tensor, device: str, rng: torch.Generator) -> dict[str, Tensor]:
    """Evidence lower bound on clean images, seen clean or through noise, and a small adversarial term."""
    n, loss, scale = len(real), recipe.loss, recipe.network.intensity_scale
    assert state.encoder is not None
    dose, mean, log_variance, z = _encode(state.encoder, recipe, real, device, rng)
    latents = _with_prior(recipe, z, rng)
    n_prior = len(latents) - n
    with _autocast(recipe, device):
        images = state.generator(latents).float()
    # What d latents fitted to counts cannot know (DESIGN section 3) is not asked of the noisy half.
    unknown = recipe.network.latent / (dose * recipe.network.patch**2)
    variance = (loss.sigma**2 + unknown) / scale**2
    fit = losses.reconstruction(images[:n], real, variance)
    kl = losses.kl_to_prior(mean, log_variance)
    pixels = real[0].numel()
    total = (fit + loss.kl_weight * kl).mean() / pixels
    row = {"fit": fit.mean() / pixels, "kl": kl.mean()}
    if n_prior:
        fake = images[n:]
        row |= _discriminator_step(state, recipe, real[:n_prior], fake, device)
        with _autocast(recipe, device):
            logits = state.discriminator(fake)
        row["g_loss"] = losses.generator_loss(logits.float())
        total = total + loss.adversarial_weight * row["g_loss"]
    state.opt_g.zero_grad(set_to_none=True)
    total.backward()
    return row


def _step(state: State, recipe: Recipe, real: Tensor, device: str, rng: torch.Generator) -> dict[str, float]:
    """One update of all networks on one batch; returns the scalars worth recording."""
    factor = learning_rate_factor(recipe, state.images)
    rates = [recipe.optimiser.lr_generator, recipe.optimiser.lr_encoder]
    for group, rate in zip(state.opt_g.param_groups, rates, strict=False):
        group["lr"] = rate * factor
    state.opt_d.param_groups[0]["lr"] = recipe.optimiser.lr_discriminator * factor
    compute = _range_losses if recipe.loss.kind == "range" else _gan_losses
    row = compute(state, recipe, real, device, rng)
    distributed.average_gradients(state.generator, state.encoder)
    state.opt_g.step()
    _update_average(state, recipe, len(real) * distributed.world_size())
    return {name: float(value.detach()) for name, value in row.items()}


@torch.no_grad()
def _update_average(state: State, recipe: Recipe, images: int) -> None:
    """Exponential average of the generator with a half-life in images; buffers are copied."""
    half_life = recipe.optimiser.ema_images
    # Short at first, so that the start is forgotten (Karras et al. 2024, section 3).
    decay = 0.5 ** (images / min(half_life, 0.05 * state.images + 1)) if half_life else 0.0
    for ours, theirs in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)
    for mine, its in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        mine.copy_(its)


@torch.no_grad()
def recompute_statistics(generator: Generator, latents: Tensor) -> None:
    """Give averaged weights batch-norm statistics of their own, from `latents` (n, d) in batches of 64."""
    norms = [m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative mean
    generator.train()
    for batch in latents.split(64):
        generator(batch)
    generator.eval()
    for m in norms:
        m.momentum = 0.1


@torch.no_grad()
def _status(state: State, recipe: Recipe, held_out: Tensor, fixed: Tensor, device: str) -> tuple[dict[str, Any], Tensor]:
    """Statistics of the averaged generator on prior samples and on held-out patches."""
    frozen = state.images >= recipe.optimiser.freeze_norm_from * recipe.optimiser.images
    if state.encoder is not None:
        state.encoder.eval()
    if not frozen and recipe.optimiser.ema_images:
        rng = torch.Generator(device).manual_seed(2)
        latents = fixed
        if state.encoder is not None:
            latents = _with_prior(recipe, _encode(state.encoder, recipe, held_out, device, rng)[3], rng)
        recompute_statistics(state.average, latents)
    state.average.eval()
    samples = state.average(fixed).float()
    data = held_out.cpu().numpy()
    row: dict[str, Any] = {"diversity": monitor.diversity(samples.cpu().numpy()) / monitor.diversity(data)}
    if state.encoder is not None:
        scale = recipe.network.intensity_scale
        study = STUDY_DOSE_PER_A2 * recipe.network.sampling_angstrom**2
        rng = torch.Generator(device).manual_seed(1)
        for name, level in {"clean": 1e6, "study": study}.items():
            dose = torch.full((len(held_out),), level, device=device)
            noisy = losses.sample_noise(held_out, dose, scale, rng)
            found = state.average(state.encoder(noisy, dose.rsqrt() / scale)[0])
            # In the study's units (vacuum 0.45, data range 1).
            error = ((found - held_out) * scale * 0.45) ** 2
            row[f"psnr_{name}_db"] = float(-10 * torch.log10(error.mean()))
    return row, samples


def train(recipe: Recipe, options: RunOptions) -> State:
    """Run or resume until the recipe's images are seen or the minutes are spent; returns the state.

    Raises ValueError for a folder that holds another recipe's run or for unusable data.
    """
    rank, world = distributed.start()
    device = options.device if options.device != "cuda" or world == 1 else f"cuda:{distributed.local_rank()}"
    if options.threads:
        torch.set_num_threads(options.threads)
    _prepare_folder(recipe, options.run, rank)
    stream = open_stream(options.data, recipe, options.workers, (rank, world))
    try:
        state = State(recipe, device)
        if (options.run / "checkpoint.pt").exists():
            state.load(options.run / "checkpoint.pt", device)
            stream.skip(state.images // world)
            if rank == 0:
                monitor.cut_stats(options.run, state.images)
        elif options.start_from is not None:
            state.start_from(options.start_from)
        distributed.same_weights(*state.modules().values())
        _run(state, recipe, options, stream, device, rank, world)
        return state
    finally:
        stream.close()
        distributed.stop()


def _run(
    state: State, recipe: Recipe, options: RunOptions, stream: WaveStream | ArrayStream, device: str, rank: int, world: int
) -> None:
    per_process = recipe.optimiser.batch // world
    held_out = torch.from_numpy(stream.validation(VALIDATION)).to(device, memory_format=torch.channels_last)
    fixed = torch.from_numpy(np.random.default_rng(7).standard_normal((256, recipe.network.latent), np.float32)).to(device)
    started, before, last_save = time.monotonic(), state.seconds, time.monotonic()
    next_status = state.images + (0 if state.images == 0 else options.status_every)
    sums: dict[str, float] = {}
    steps = 0
    while state.images < recipe.optimiser.images:
        for module in state.modules().values():
            module.train()
        if state.images >= recipe.optimiser.freeze_norm_from * recipe.optimiser.images:
            freeze_statistics(state.generator)
            if state.encoder is not None:
                freeze_statistics(state.encoder)
        # Each step's noise follows from the seed and the place in the run, so that a resume repeats it.
        rng = torch.Generator(device).manual_seed(hash((recipe.stream.seed, state.images, rank)) % 2**63)
        real = torch.from_numpy(stream.draw(per_process)).to(device, memory_format=torch.channels_last)
        row = _step(state, recipe, real, device, rng)
        state.images += per_process * world
        state.seconds = before + time.monotonic() - started
        steps += 1
        sums = {name: sums.get(name, 0.0) + value for name, value in row.items()}
        spent = options.minutes is not None and time.monotonic() - started > 60 * options.minutes
        if state.images >= next_status or spent or state.images >= recipe.optimiser.images:
            _check_finite(sums, state.images)
            if rank == 0:
                means = {name: value / steps for name, value in sums.items()}
                _report(state, recipe, options, means, held_out, fixed, device)
            next_status, sums, steps = state.images + options.status_every, {}, 0
        if rank == 0 and time.monotonic() - last_save > 60 * options.checkpoint_minutes:
            state.save(options.run / "checkpoint.pt")
            last_save = time.monotonic()
        if distributed.any_true(spent):
            break
    if rank == 0:
        state.save(options.run / "checkpoint.pt")


def _check_finite(sums: dict[str, float], images: int) -> None:
    if not all(math.isfinite(v) for v in sums.values()):
        raise FloatingPointError(
            f"training diverged at {images} images (a loss is not finite); resume with a lower learning rate"
        )


def _report(
    state: State, recipe: Recipe, options: RunOptions, means: dict[str, float], held_out: Tensor, fixed: Tensor, device: str
) -> None:
    row, samples = _status(state, recipe, held_out, fixed, device)
    row = {"images": state.images, "seconds": round(state.seconds, 1)} | means | row
    row["warnings"] = monitor.collapse_warnings(row)
    row = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
    monitor.append_stats(options.run, row)
    grid = options.run / "grids" / f"{state.images:010d}.png"
    monitor.save_grid(grid, held_out[:64].cpu().numpy(), samples[:64].cpu().numpy())
    options.report(row)


def _prepare_folder(recipe: Recipe, run: Path, rank: int) -> None:
    """Write the recipe, or check that the run in the folder is this one (its length may differ)."""
    path = run / "recipe.json"
    if path.exists():
        found = json.loads(path.read_text())["recipe"]
        mine = recipe.model_dump(mode="json")
        for one in (found, mine):
            one["optimiser"].pop("images", None)
        if found != mine:
            raise ValueError(f"{run}: holds a run with other settings; choose another -o folder or the same recipe")
    if rank == 0:
        (run / "grids").mkdir(parents=True, exist_ok=True)
        content = {"gdn": __version__, "torch": torch.__version__, "recipe": recipe.model_dump(mode="json")}
        path.write_text(json.dumps(content, indent=1) + "\n")

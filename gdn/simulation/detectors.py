"""Simulate detectors on clean patches, for networks that must know real noise: counts at any dose,
Gaussian and mixed noise, noise correlated by a camera, scan lines and jitter of a STEM, residual
gain patterns, lost pixels, and up to four neighbouring frames (docs/simulation.md, "Any
crystal")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gdn.models import SLOTS
from gdn.simulation.conditions import Draws

LOG10_DOSE = (-0.3, 3.2)  # electrons a pixel of the patch
ONE_FRAME = 0.6  # share of the patches of which there is one frame alone


@dataclass(frozen=True)
class Observed:
    """Noisy frames as input of the restorer: `frames` and `mask` (n, SLOTS, h, w), and `dose` (n,)
    in electrons per pixel."""

    frames: Tensor
    mask: Tensor
    dose: Tensor


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def observe(clean: Tensor, draws: Draws) -> Observed:
    """Noisy frames of `clean` (n, 1, h, w), whose mean is 1, in units of that mean."""
    n, _, h, w = clean.shape
    dose = 10 ** draws.uniform(*LOG10_DOSE, n)
    moved = _displaced(clean, draws)
    expected = moved * _wide(dose) * _gain_residue(moved, draws)
    counts = torch.poisson(expected, generator=draws.generator)
    kind = draws.uniform(0, 1, n)
    read = torch.where(
        kind < 0.15, 0.2 * dose.sqrt() * draws.log_uniform(0.2, 5, n), torch.zeros_like(dose)
    )
    noise = counts - expected + _wide(read) * draws.normal(*expected.shape)
    gauss = _wide(dose.sqrt()) * draws.normal(*expected.shape)
    noise = torch.where(_wide((kind > 0.15) & (kind < 0.3)), gauss, noise)
    noise = torch.where(_wide((kind > 0.3) & (kind < 0.5)), _correlated(noise, draws), noise)
    noise = noise + _scan_lines(n, h, dose, draws)
    frames = (expected + noise) / _wide(dose)
    return Observed(frames, _mask(n, h, w, draws), dose)


def _displaced(clean: Tensor, draws: Draws) -> Tensor:
    """Frames (n, SLOTS, h, w): the patch, in some cases with jittering lines, and its neighbours
    with the misalignment that remains after aligning."""
    n, _, h, w = clean.shape
    shift = 0.2 * draws.normal(n, SLOTS, 2) * _wide(draws.uniform(0, 1, n))[..., 0]
    shift[:, 0] = 0
    jitter = (
        draws.normal(n, SLOTS, h)
        * (draws.uniform(0, 0.6, n) * draws.chance(0.08, n))[:, None, None]
    )
    y = torch.arange(h, device=clean.device) + shift[..., 0, None]  # (n, SLOTS, h)
    x = torch.arange(w, device=clean.device) + shift[..., 1, None]
    columns = x[:, :, None, :] + jitter[..., None]
    rows = y[..., None].expand_as(columns)
    grid = torch.stack([2 * columns / (w - 1) - 1, 2 * rows / (h - 1) - 1], -1).reshape(
        n, SLOTS * h, w, 2
    )
    moved = F.grid_sample(clean, grid, mode="bilinear", padding_mode="border", align_corners=True)
    moved = moved.reshape(n, SLOTS, h, w)
    # Where nothing moved the patch itself, without interpolation.
    still = (shift.abs().sum(-1) + jitter.abs().sum(-1) == 0)[..., None, None]
    return torch.where(still, clean.expand_as(moved), moved).clamp_min(1e-3)


def _gain_residue(moved: Tensor, draws: Draws) -> Tensor:
    """A fixed pattern of 1 to 6 % on one patch in ten, the same in all frames of the patch."""
    n, _, h, w = moved.shape
    size = draws.uniform(0.01, 0.06, n) * draws.chance(0.1, n)
    return (1 + _wide(size) * draws.normal(n, 1, h, w)).clamp_min(0.1)


def _correlated(noise: Tensor, draws: Draws) -> Tensor:
    """`noise` blurred as a camera blurs each electron."""
    n = len(noise)
    return blur_as_camera(noise, draws.uniform(0.3, 1.3, n), draws.chance(0.5, n))


def blur_as_camera(noise: Tensor, width: Tensor, gaussian: Tensor) -> Tensor:
    """`noise` (n, slots, h, w) blurred by a `width` (n,) px: by a Gaussian where `gaussian` (n,) is
    True, else by a spread with long tails (docs/simulation.md, "Pt on CeO2", "Camera")."""
    h, w = noise.shape[-2:]
    ky, kx = torch.fft.fftfreq(h, device=noise.device), torch.fft.rfftfreq(w, device=noise.device)
    k2 = ky[:, None] ** 2 + kx[None, :] ** 2
    gauss = torch.exp(-2 * (math.pi * _wide(width)) ** 2 * k2)
    tailed = (1 + (2 * math.pi * _wide(width)) ** 2 * k2) ** -0.75
    transfer = torch.where(_wide(gaussian), gauss, tailed)
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * transfer, s=(h, w))
    return blurred


def _scan_lines(n: int, h: int, dose: Tensor, draws: Draws) -> Tensor:
    """Scan lines that are too bright or too dark as a whole, on one patch in twelve."""
    size = dose.sqrt() * draws.uniform(0.02, 0.4, n) * draws.chance(1 / 12, n)
    return _wide(size) * draws.normal(n, SLOTS, h, 1)


def _mask(n: int, h: int, w: int, draws: Draws) -> Tensor:
    """Mask (n, SLOTS, h, w) of how many frames there are, lost pixels, and sides beyond a frame's
    edge."""
    count = torch.where(
        draws.chance(ONE_FRAME, n),
        torch.ones(n, device=draws.device),
        2 + draws.integers(SLOTS - 1, n).float(),
    )
    there = torch.arange(SLOTS, device=draws.device) < count[:, None]
    mask = there[..., None, None].float().expand(n, SLOTS, h, w).clone()
    lost = draws.uniform(0, 0.1, n) * draws.chance(0.08, n)
    mask *= draws.uniform(0, 1, n, 1, h, w) >= _wide(lost)
    cut = (0.4 * min(h, w) * draws.uniform(0, 1, n, SLOTS, 4)) * draws.chance(0.3, n, SLOTS, 4)
    cut *= draws.chance(0.1, n)[:, None, None]
    y, x = torch.arange(h, device=draws.device), torch.arange(w, device=draws.device)
    inside_y = (y >= cut[..., 0, None]) & (y < h - cut[..., 1, None])
    inside_x = (x >= cut[..., 2, None]) & (x < w - cut[..., 3, None])
    return mask * (inside_y[..., None] & inside_x[..., None, :])

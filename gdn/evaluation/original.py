"""The original study's search, kept as the baseline: mean-squared error, one latent at a time.

10 random restarts of 1,500 Adam steps at 1e-2; the best goes on for 10,000 steps, with the rate a
tenth of it from step 10,000 on; latents clamped to [-5, 5]; batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdn.engines.base import Engine
from gdn.engines.observation import Array, TileData
from gdn.frames.sampling import bin_sum, grids_for, unbin
from gdn.frames.tiling import cut, merge, tile_frame
from gdn.search.bank import restart_latents


@dataclass(frozen=True)
class OriginalSettings:
    """The study's numbers; smaller ones only for tests."""

    restarts: int = 10
    restart_steps: int = 1_500
    final_steps: int = 10_000
    rate: float = 1e-2
    clamp: float = 5.0


def denoise_original(
    frame: Array, sampling_angstrom: float, engine: Engine, vacuum: float, seed: int, settings: OriginalSettings
) -> Array:
    """Denoise a frame (rows, columns) tile by tile, tiles side by side; `vacuum` is the frame's vacuum level."""
    card = engine.model.card
    grids = grids_for((frame.shape[0], frame.shape[1]), sampling_angstrom, card.sampling_angstrom)
    binned = bin_sum(frame, grids) / np.float32(grids.area * vacuum)
    tiling = tile_frame(grids.binned_shape, card.patch, card.patch)
    tiles, weights = cut(binned, tiling)
    found = np.empty_like(tiles)
    for i in range(len(tiles)):
        # Gaussian noise of variance 1/2 makes the objective the sum of squares.
        data = TileData(tiles[i : i + 1], weights[i : i + 1], 0.0, 0.5)
        found[i] = _search_tile(engine, data, seed, settings)
    return np.asarray(unbin(merge(found, tiling), grids) * vacuum, dtype=np.float32)


def _search_tile(engine: Engine, data: TileData, seed: int, settings: OriginalSettings) -> Array:
    starts = restart_latents(seed, range(settings.restarts), engine.model.card.latent)
    best, best_loss = starts[:1], np.inf
    for start in starts:
        z, loss = _adam(engine, data, start[None], settings.restart_steps, settings)
        if loss < best_loss:
            best, best_loss = z, loss
    z, _ = _adam(engine, data, best, settings.final_steps, settings)
    image: Array = engine.generate(np.clip(z, -settings.clamp, settings.clamp))[0]
    return image


def _adam(engine: Engine, data: TileData, z: Array, steps: int, settings: OriginalSettings) -> tuple[Array, float]:
    """Adam as PyTorch's defaults have it; returns the last latent and its mean-squared error."""
    one, zero = np.ones(1, np.float32), np.zeros_like(data.counts)
    pixels = data.counts[0].size
    first, second = np.zeros_like(z), np.zeros_like(z)
    loss = np.inf
    for step in range(1, steps + 1):
        inside = np.abs(z) <= settings.clamp
        found = engine.value_and_gradient(np.clip(z, -settings.clamp, settings.clamp), data, one, zero)
        loss = float(found.value[0]) / pixels
        # The mean over pixels, and a clamp that passes no gradient outside.
        gradient = found.gradient * inside / pixels
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = settings.rate * (0.1 if step >= 10_000 else 1.0)
        z = z - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return z.astype(np.float32), loss

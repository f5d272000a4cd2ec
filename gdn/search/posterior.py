"""From several refined candidates per tile to one image and its spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn.engines.observation import Array
from gdn.frames.tiling import Tiling, merge
from gdn.search.refine import Candidates


def candidate_weights(objective: NDArray[np.float64], tile: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """Weights (n,) proportional to exp(-objective / temperature), summing to 1 over each tile.

    A temperature above 1 nat stands for what the point estimates leave out: the volume around each.
    """
    tiles = int(tile.max()) + 1
    best = np.full(tiles, np.inf)
    np.minimum.at(best, tile, objective)
    raw = np.exp(-(objective - best[tile]) / temperature)
    return np.asarray(raw / np.bincount(tile, raw, tiles)[tile])


def blend(candidates: Candidates, tiling: Tiling, temperature: float, variance: Array | None = None) -> tuple[Array, Array]:
    """Posterior mean and spread over restarts and overlapping tiles, electrons per binned pixel.

    The spread is the standard deviation of the estimates that meet in a pixel (restarts of a tile,
    and the tiles that overlap there), with `variance` (tiles, h, w) within each of them where given. It is
    not calibrated: without the variance a lower bound, in either case no confidence interval.
    """
    weight = candidate_weights(candidates.objective, candidates.tile, temperature)
    n, p = len(tiling.corners), tiling.patch
    mean = np.zeros((n, p, p), np.float64)
    square = np.zeros_like(mean)
    np.add.at(mean, candidates.tile, weight[:, None, None] * candidates.mean)
    np.add.at(square, candidates.tile, weight[:, None, None] * candidates.mean.astype(np.float64) ** 2)
    if variance is not None:
        square += variance
    image = merge(mean.astype(np.float32), tiling)
    second = merge(square.astype(np.float32), tiling).astype(np.float64)
    return image, np.sqrt(np.maximum(second - image.astype(np.float64) ** 2, 0)).astype(np.float32)

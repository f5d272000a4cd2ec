"""From several refined candidates per tile to one image and its spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn.frames.tiling import Tiling, merge
from gdn.likelihood import Array
from gdn.search.refine import Candidates

Values = NDArray[np.float64]


def candidate_weights(objective: Values, tile: NDArray[np.int64], temperature: float) -> Values:
    """Weights (n,) proportional to exp(-objective / temperature), summing to 1 over each tile.

    A temperature above 1 nat stands for what the point estimates leave out: the volume around each.
    """
    raw, total, _ = _weights(objective, tile, temperature)
    return np.asarray(raw / total[tile])


def _weights(
    objective: Values, tile: NDArray[np.int64], temperature: float
) -> tuple[Values, Values, Values]:
    """exp(-objective / temperature) relative to each tile's best (n,), its sum over each tile, and
    the best objectives."""
    tiles = int(tile.max()) + 1
    best = np.full(tiles, np.inf)
    np.minimum.at(best, tile, objective)
    raw = np.exp(-(objective - best[tile]) / temperature)
    return raw, np.asarray(np.bincount(tile, raw, tiles), dtype=np.float64), best


class Mixture:
    """What remains of each tile's candidates for blending: their weighted mean and mean square, as
    float32.

    Candidates come in any portions, those of a tile also in several: the memory is that of the
    tiles, not of the candidates. Without `spread` it is half of that.

    `known` (tiles,): the share of each tile that was recorded, its weight where tiles overlap
    (None: all the same).
    """

    def __init__(
        self,
        tiling: Tiling,
        temperature: float,
        spread: bool = True,
        known: NDArray[np.float32] | None = None,
    ) -> None:
        n, p = len(tiling.corners), tiling.patch
        self.tiling, self.temperature, self._known = tiling, temperature, known
        self._log_weight = np.full(n, -np.inf)
        self._mean = np.zeros((n, p, p), np.float32)
        self._square = np.zeros((n if spread else 0, p, p), np.float32)

    def add(self, candidates: Candidates) -> None:
        """Add candidates; `tile` is the tile's number in the frame."""
        if not len(candidates.tile):
            return
        tiles, own = np.unique(candidates.tile, return_inverse=True)
        raw, total, best = _weights(candidates.objective, own, self.temperature)
        weight = raw / total[own]
        new = np.log(total) - best / self.temperature
        both = np.logaddexp(self._log_weight[tiles], new)
        before, share = np.exp(self._log_weight[tiles] - both), np.exp(new - both)
        self._log_weight[tiles] = both
        for k, t in enumerate(tiles):
            which = np.flatnonzero(own == k)
            means = candidates.mean[which].astype(np.float64)
            w = weight[which][:, None, None]
            self._mean[t] = before[k] * self._mean[t] + share[k] * (w * means).sum(0)
            if len(self._square):
                self._square[t] = before[k] * self._square[t] + share[k] * (w * means**2).sum(0)

    def image(self) -> Array:
        """Posterior mean, electrons per binned pixel."""
        return merge(self._mean, self.tiling, self._known)

    def image_and_spread(self) -> tuple[Array, Array]:
        """Posterior mean and spread over restarts and overlapping tiles.

        The spread is the standard deviation of the estimates that meet in a pixel (restarts of a
        tile, and the tiles that overlap there). It is not calibrated, and a lower bound: no
        confidence interval. Zero without the squares.
        """
        image = self.image()
        if not len(self._square):
            return image, np.zeros_like(image)
        spread = merge(self._square, self.tiling, self._known)
        for row, level in zip(
            spread, image, strict=True
        ):  # in double precision: the difference is small
            row[:] = np.sqrt(np.maximum(row.astype(np.float64) - level.astype(np.float64) ** 2, 0))
        return image, spread

"""A frame on the generator's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdn.frames.tiling import Tiling, cut
from gdn.likelihood import Array, NoiseLaw, TileData

LEAST_KNOWN = 1e-4  # weight of a tile of which nothing was recorded: somebody must fill it in


def mean_of(image: Array, valid: Array | None) -> float:
    """Mean of an image (rows, columns), each pixel weighted by its share that was recorded."""
    if valid is None:
        return float(image.mean())
    return float(np.average(image.astype(np.float64), weights=valid))


@dataclass(frozen=True)
class Binned:
    """A frame on the generator's grid: `counts`, the noise `law` of a binned pixel; `valid`,
    the share of each binned pixel that was recorded by good pixels (None: all of all)."""

    counts: Array
    law: NoiseLaw
    valid: Array | None = None

    @property
    def level(self) -> float:
        """Mean of what was recorded, electrons per binned pixel."""
        return mean_of(self.counts, self.valid)

    def tiles(self, tiling: Tiling) -> TileData:
        """The observed tiles. Bad pixels count as not exposed: of Poisson counts y scaled up by 1 /
        f for the share f that was recorded, f times the log-likelihood is that of what was
        recorded."""
        counts, weights = cut(self.counts, tiling)
        if self.valid is not None:
            weights *= cut(self.valid, tiling)[0]
        return TileData(counts, weights, self.law)

    def known(self, tiling: Tiling) -> Array | None:
        """Share (tiles,) of each tile that was recorded, where parts of the frame were not: by it
        overlapping tiles are weighted. None for a whole frame."""
        if self.valid is None:
            return None
        shares = cut(self.valid, tiling)[0].mean((1, 2))
        return np.asarray(np.maximum(shares, LEAST_KNOWN), dtype=np.float32)

"""A frame on the generator's grid."""

from __future__ import annotations

from dataclasses import dataclass

from gdn.frames.tiling import Tiling, cut
from gdn.likelihood import Array, NoiseLaw, TileData


@dataclass(frozen=True)
class Binned:
    """A frame on the generator's grid: `counts`, the noise `law` of a binned pixel; `valid`,
    the share of each binned pixel that was recorded by good pixels (None: all of all)."""

    counts: Array
    law: NoiseLaw
    valid: Array | None = None

    def tiles(self, tiling: Tiling) -> TileData:
        """The observed tiles. Bad pixels count as not exposed: of Poisson counts y scaled up by 1 /
        f for the share f that was recorded, f times the log-likelihood is that of what was
        recorded."""
        counts, weights = cut(self.counts, tiling)
        if self.valid is not None:
            weights *= cut(self.valid, tiling)[0]
        return TileData(counts, weights, self.law)

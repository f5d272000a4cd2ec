"""The estimate on the generator's grid: search, blend, and what is added where the generator ends.

All images are float32 (rows, columns) in electrons per binned pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.engines.observation import Array
from gdn.frames.tiling import Tiling, tile_frame
from gdn.search.bank import Bank
from gdn.search.binned import Binned
from gdn.search.heldout import Choice, Recorded, choose, plain_filter, split
from gdn.search.progress import Watch
from gdn.search.residual import shrunk_residual
from gdn.search.tiles import SearchSettings
from gdn.search.whole import Pool, proposed, searched, within


@dataclass(frozen=True)
class TileFit:
    """How each tile was explained: `objective` of its best restart, nats; `energy` |z|^2 / 2 of that one; `dose` it found,
    electrons per binned pixel in vacuum (all (tiles,)). `objectives` and `tile` (restarts,): of every restart refined."""

    objective: NDArray[np.float64]
    energy: NDArray[np.float64]
    dose: NDArray[np.float64]
    objectives: NDArray[np.float64]
    tile: NDArray[np.int64]
    bank_share: float  # share of tiles whose best restart came from the bank


@dataclass(frozen=True)
class Estimate:
    """`generated` by the generator alone and what was `added` to it; standard deviations over `restarts` and
    overlapping tiles, and within each of them (`laplace`; zero where it was not asked for)."""

    binned: Binned
    tiling: Tiling
    generated: Array
    added: Array
    restarts: Array
    laplace: Array
    choice: Choice
    fit: TileFit

    @property
    def image(self) -> Array:
        """The result."""
        return self.generated + self.added

    @property
    def dose(self) -> float:
        """Electrons per binned pixel in vacuum: the median over tiles."""
        return float(np.median(self.fit.dose))

    @property
    def raw_spread(self) -> Array:
        """Standard deviation, not calibrated. What the residual added has no backing by the generator: its size is doubt."""
        return np.asarray(np.sqrt(self.restarts**2 + self.laplace**2 + self.added**2), dtype=np.float32)

    @property
    def residual_share(self) -> float:
        """rms of what was added over rms of the generator's contrast."""
        return float(np.sqrt((self.added**2).mean())) / max(float(self.generated.std()), 1e-12)


def estimate(
    binned: Binned,
    engine: Engine,
    bank: Bank,
    settings: SearchSettings,
    watch: Watch | None = None,
    recorded: Recorded | None = None,
) -> Estimate:
    """Search every tile of a binned frame, blend, and add what counts held out let through: those `recorded`, or, where
    there are none, the binned ones."""
    watch = watch or Watch()
    patch = engine.model.card.patch
    tiling = tile_frame((binned.counts.shape[0], binned.counts.shape[1]), patch, settings.stride or patch // 2)
    pool = searched(engine, bank, binned, tiling, settings, watch)
    spread_within = within(engine, pool, binned, settings, bank.seed)
    watch.clock.mark("laplace")
    image, spread = pool.mixture.image_and_spread()
    fit = _tile_fit(pool)
    del pool
    choice = _choose(engine, bank, binned, tiling, settings, recorded) if settings.residual else Choice(threshold=np.inf)
    added = _beyond(binned, image, choice)
    watch.clock.mark("beyond")
    return Estimate(binned, tiling, image, added, spread, spread_within, choice, fit)


def _tile_fit(pool: Pool) -> TileFit:
    found = pool.best
    assert found is not None  # every frame has a tile, every tile a candidate
    energy = 0.5 * (found.z.astype(np.float64) ** 2).sum(1)
    dose = np.exp(found.nuisance[:, 0].astype(np.float64))
    share = float(found.from_bank.mean())
    return TileFit(found.objective, energy, dose, np.concatenate(pool.objectives), np.concatenate(pool.tile), share)


def _choose(
    engine: Engine, bank: Bank, binned: Binned, tiling: Tiling, settings: SearchSettings, recorded: Recorded | None
) -> Choice:
    """Amounts of residual and plain filter, chosen with the encoder's image of thinned counts."""
    parts = split(binned.counts, binned.alpha, binned.beta, bank.seed) if recorded is None else recorded.split(bank.seed)[0]
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    return choose(parts, proposed(engine, bank, Binned(parts.first, parts.alpha, parts.beta, binned.valid), tiling, quick))


def _beyond(binned: Binned, image: Array, choice: Choice) -> Array:
    """What is added to the generator's `image`: its shrunk residual, and the chosen share of the plain filter."""
    sigma = np.sqrt(np.maximum(binned.alpha * image + binned.beta, 1e-6)).astype(np.float32)
    added = shrunk_residual(binned.counts - image, sigma, choice.threshold)
    if choice.share == 0:
        return added
    filtered = plain_filter(binned.counts, sigma, choice.width)
    return np.asarray((1 - choice.share) * added + choice.share * (filtered - image), dtype=np.float32)

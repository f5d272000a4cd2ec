"""All tiles of a frame searched in portions, so that a large frame needs little more memory than
its tiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.frames.tiling import Tiling, cut, merge
from gdn.likelihood import Array
from gdn.search.bank import Bank
from gdn.search.binned import Binned
from gdn.search.candidate_mixture import Mixture
from gdn.search.laplace import laplace, sampled_variance
from gdn.search.portions import in_portions
from gdn.search.progress import Watch
from gdn.search.refine import Candidates, join
from gdn.search.tile_search import (
    EMPTY,
    SearchSettings,
    best_of_each,
    exchanged,
    propose,
    search,
    structure,
)


@dataclass(kw_only=True)
class SearchedTiles:
    """The candidates of all tiles: `mixture` for blending, the best of each without its mean, every
    one's objective."""

    mixture: Mixture
    best: Candidates | None = None
    objectives: list[NDArray[np.float64]] = field(default_factory=list)
    tile: list[NDArray[np.int64]] = field(default_factory=list)
    log_dose: list[Array] = field(default_factory=list)
    busy: list[NDArray[np.int64]] = field(default_factory=list)  # tiles that are not empty

    def add(self, found: Candidates, index: NDArray[np.int64]) -> None:
        """Add candidates whose `tile` counts within the tiles `index` of the frame."""
        found = replace(found, tile=index[found.tile])
        self.mixture.add(found)
        self.objectives.append(found.objective)
        self.tile.append(found.tile)
        self.log_dose.append(found.nuisance[:, 0])
        few = found.take(best_of_each(found)) if len(found.tile) else found
        few = replace(few, mean=np.zeros((len(few.tile), 1, 1), np.float32))
        both = few if self.best is None else join([self.best, few])
        self.best = both.take(best_of_each(both))

    @property
    def dose(self) -> float:
        """Electrons per binned pixel in vacuum: the median over candidates."""
        return float(np.exp(np.median(np.concatenate(self.log_dose))))


def proposed(
    engine: Engine, bank: Bank, binned: Binned, tiling: Tiling, settings: SearchSettings
) -> Array:
    """The blended image of unrefined starts."""
    mixture = Mixture(tiling, settings.temperature, spread=False, known=binned.known(tiling))
    dose = binned.level

    def work(index: NDArray[np.int64]) -> Candidates:
        return propose(engine, bank, binned.tiles(tiling.take(index)), dose, settings)

    for index, found in in_portions(len(tiling.corners), tiling.patch, work):
        mixture.add(replace(found, tile=index[found.tile]))
    return mixture.image()


def searched(
    engine: Engine,
    bank: Bank,
    binned: Binned,
    tiling: Tiling,
    settings: SearchSettings,
    watch: Watch,
) -> SearchedTiles:
    """Search every tile; then the encoder sees the blended frame, and its new guesses join each
    tile's candidates, once."""
    pool = SearchedTiles(
        mixture=Mixture(
            tiling,
            1e-9 if settings.estimate == "map" else settings.temperature,
            watch.spread,
            binned.known(tiling),
        )
    )
    dose = binned.level
    count, patch = len(tiling.corners), tiling.patch

    def one(index: NDArray[np.int64]) -> tuple[Candidates, NDArray[np.int64]]:
        data = binned.tiles(tiling.take(index))
        starts = propose(engine, bank, data, dose, settings)
        watch.clock.mark("score")
        found = search(engine, data, starts, settings)
        watch.clock.mark("refine")
        watch.progress(0.85 * (index[-1] + 1) / count)
        return found, index[np.unique(found.tile[structure(found, data) >= EMPTY])]

    for index, (found, busy) in in_portions(count, patch, one):
        pool.add(found, index)
        pool.busy.append(busy)
    if not (settings.exchange and settings.encoder and settings.estimate == "mean"):
        return pool
    merged, level, numbers = pool.mixture.image(), pool.dose, np.concatenate(pool.busy)

    def again(at: NDArray[np.int64]) -> Candidates | None:
        part = tiling.take(numbers[at])
        every = np.arange(len(at))
        return exchanged(engine, binned.tiles(part), cut(merged, part)[0], every, level, settings)

    for at, more in in_portions(len(numbers), patch, again):
        if more is not None:
            pool.add(more, numbers[at])
    watch.clock.mark("refine")
    return pool


def within(
    engine: Engine, pool: SearchedTiles, binned: Binned, settings: SearchSettings, seed: int
) -> Array:
    """Standard deviation within each tile's best restart, by the Laplace approximation, blended."""
    tiling, best = pool.mixture.tiling, pool.best
    if settings.laplace == "none" or best is None:
        return np.zeros(tiling.shape, np.float32)
    variance = np.zeros((len(tiling.corners), tiling.patch, tiling.patch), np.float32)

    def work(index: NDArray[np.int64]) -> Array:
        data, found = binned.tiles(tiling.take(index)), best.take(index)
        found = replace(found, tile=found.tile - index[0])
        if settings.laplace == "exact":
            return laplace(engine, data, found)[1]
        return sampled_variance(
            engine, data, found, settings.laplace_samples, seed, first_tile=int(index[0])
        )

    for index, found in in_portions(len(variance), tiling.patch, work):
        variance[index] = found
    return np.sqrt(merge(variance, tiling, binned.known(tiling)))

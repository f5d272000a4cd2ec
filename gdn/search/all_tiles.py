"""Search all tiles of a frame, in portions, and blend their candidates into an image and its
spread.

Because of the portions, a large frame needs little more memory than its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array
from gdn.search.candidates import Candidates, best_of_tiles, propose, propose_from_merged
from gdn.search.laplace import laplace, sampled_variance
from gdn.search.portions import PORTIONS
from gdn.search.progress import PROPOSED, SEARCHED, Watch
from gdn.search.refine import EMPTY, measure_structure, refine_candidates
from gdn.search.settings import Searcher
from gdn.search.tiles import Binned, Tiling, merge

Values = NDArray[np.float64]
Found = TypeVar("Found")


def candidate_weights(objective: Values, tile: NDArray[np.int64], temperature: float) -> Values:
    """Weights (n,) proportional to exp(-objective / temperature), summing to 1 over each tile
    (docs/method.md, "Search", step 5).

    A candidate is a point estimate: its objective leaves out the volume of the posterior around it.
    A temperature above 1 nat makes up for that.
    """
    raw, total, _ = _weights(objective, tile, temperature)
    return np.asarray(raw / total[tile])


def _weights(
    objective: Values, tile: NDArray[np.int64], temperature: float
) -> tuple[Values, Values, Values]:
    """exp(-objective / temperature) relative to each tile's best (n,), its sum over each tile, and
    the best objectives (docs/method.md, "Search", step 5)."""
    tiles = int(tile.max()) + 1
    best = np.full(tiles, np.inf)
    np.minimum.at(best, tile, objective)
    raw = np.exp(-(objective - best[tile]) / temperature)
    return raw, np.asarray(np.bincount(tile, raw, tiles), dtype=np.float64), best


class Mixture:
    """The sums that blending needs of each tile's candidates: their weighted mean and mean square,
    as float32.

    Candidates can be added in any portions, those of one tile in several too. The memory is that of
    the tiles, not of the candidates. Without `spread` it is half of that.
    """

    def __init__(self, tiling: Tiling, temperature: float, spread: bool = True) -> None:
        n, p = len(tiling.corners), tiling.patch
        self.tiling, self.temperature = tiling, temperature
        self._log_weight = np.full(n, -np.inf)
        self._mean = np.zeros((n, p, p), np.float32)
        self._square = np.zeros((n if spread else 0, p, p), np.float32)

    def add(self, candidates: Candidates) -> None:
        """Add candidates; `tile` is the tile's number in the frame. Weights are as in
        `candidate_weights` (docs/method.md, "Search", step 5)."""
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
        return merge(self._mean, self.tiling)

    def image_and_spread(self) -> tuple[Array, Array]:
        """Posterior mean and spread over restarts and overlapping tiles (docs/latent-search.md,
        "The raw spread").

        The spread is the standard deviation of the estimates that meet in a pixel: those of the
        restarts of a tile, and of the tiles that overlap there. It is not calibrated. It is a lower
        bound, not a confidence interval. It is zero if the squares were not kept.
        """
        image = self.image()
        if not len(self._square):
            return image, np.zeros_like(image)
        spread = merge(self._square, self.tiling)
        for row, level in zip(
            spread, image, strict=True
        ):  # in double precision: the difference is small
            row[:] = np.sqrt(np.maximum(row.astype(np.float64) - level.astype(np.float64) ** 2, 0))
        return image, spread


@dataclass(kw_only=True)
class SearchedTiles:
    """The candidates of all tiles.

    - `mixture`: for blending.
    - `best`: the best candidate of each tile, without its mean.
    - `objectives`, `tile`, `log_dose`, `busy`: a part for each portion.
    - `objectives` (candidates,): nats, of all candidates.
    - `tile` (candidates,): their tiles' numbers in the frame.
    - `log_dose` (candidates,): logarithm of their doses, electrons per binned pixel.
    - `busy` (tiles,): numbers of the tiles that are not empty.
    """

    mixture: Mixture
    best: Candidates | None = None
    objectives: list[NDArray[np.float64]] = field(default_factory=list)
    tile: list[NDArray[np.int64]] = field(default_factory=list)
    log_dose: list[Array] = field(default_factory=list)
    busy: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, candidates: Candidates) -> None:
        """Add candidates; `tile` is the tile's number in the frame."""
        self.mixture.add(candidates)
        self.objectives.append(candidates.objective)
        self.tile.append(candidates.tile)
        self.log_dose.append(candidates.nuisance[:, 0])
        bare = replace(candidates, mean=np.zeros((len(candidates.tile), 1, 1), np.float32))
        self.best = best_of_tiles([bare] if self.best is None else [self.best, bare])

    @property
    def dose(self) -> float:
        """Electrons per binned pixel in vacuum: the median over candidates."""
        return float(np.exp(np.median(np.concatenate(self.log_dose))))


def run_in_portions(
    count: int, patch: int, work: Callable[[NDArray[np.int64]], Found]
) -> Iterator[tuple[NDArray[np.int64], Found]]:
    """Do `work` on the tiles 0 ... count - 1 in portions: yield the numbers of each portion and its
    result. Where memory runs out, the portion is halved and tried again. Raises MemoryError where
    even the smallest portion is too large."""
    first = 0
    while first < count:
        index = np.arange(first, min(first + PORTIONS.tiles(patch), count))
        try:
            result = work(index)
        except MemoryError:
            if not PORTIONS.halve():
                raise
            continue
        yield index, result
        first = int(index[-1]) + 1


def blend_starts(searcher: Searcher, binned: Binned, tiling: Tiling) -> Array:
    """The image that is blended from unrefined starts."""
    engine, bank, settings = searcher.engine, searcher.bank, searcher.settings
    mixture = Mixture(tiling, settings.temperature, spread=False)
    dose = binned.level

    def propose_portion(index: NDArray[np.int64]) -> Candidates:
        return propose(engine, bank, binned.tiles(tiling, index), dose, settings)

    for index, starts in run_in_portions(len(tiling.corners), tiling.patch, propose_portion):
        mixture.add(replace(starts, tile=index[starts.tile]))
    return mixture.image()


def search_tiles(searcher: Searcher, binned: Binned, tiling: Tiling, watch: Watch) -> SearchedTiles:
    """Search every tile, then refine each tile once more from the merged image of its neighbours:
    the encoder sees the blended frame, and its new guesses join each tile's candidates."""
    engine, bank, settings = searcher.engine, searcher.bank, searcher.settings
    pool = SearchedTiles(
        mixture=Mixture(
            tiling,
            # Next to no temperature leaves each tile its best candidate alone.
            1e-9 if settings.estimate == "map" else settings.temperature,
            watch.spread,
        )
    )
    dose = binned.level
    count, patch = len(tiling.corners), tiling.patch

    def search_portion(index: NDArray[np.int64]) -> tuple[Candidates, NDArray[np.int64]]:
        data = binned.tiles(tiling, index)
        starts = propose(engine, bank, data, dose, settings)
        watch.ended("score", SEARCHED * (float(index[0]) + PROPOSED * len(index)) / count)
        candidates = refine_candidates(engine, data, starts, settings)
        watch.ended("refine", SEARCHED * float(index[-1] + 1) / count)
        busy = np.unique(candidates.tile[measure_structure(candidates, data) >= EMPTY])
        return replace(candidates, tile=index[candidates.tile]), index[busy]

    for _, (candidates, busy) in run_in_portions(count, patch, search_portion):
        pool.add(candidates)
        pool.busy.append(busy)
    if not (settings.exchange and settings.encoder and settings.estimate == "mean"):
        return pool
    merged = replace(binned, counts=pool.mixture.image())
    level, numbers = pool.dose, np.concatenate(pool.busy)

    def exchange_portion(at: NDArray[np.int64]) -> Candidates | None:
        data, told = (frame.tiles(tiling, numbers[at]) for frame in (binned, merged))
        return propose_from_merged(engine, data, told, level, settings)

    for at, told in run_in_portions(len(numbers), patch, exchange_portion):
        if told is not None:
            pool.add(replace(told, tile=numbers[at][told.tile]))
    watch.ended("refine")
    return pool


def laplace_spread(searcher: Searcher, pool: SearchedTiles, binned: Binned) -> Array:
    """Standard deviation within each tile's best restart, by the Laplace approximation, blended
    (MacKay 2003, ch. 27)."""
    engine, settings, seed = searcher.engine, searcher.settings, searcher.bank.seed
    tiling, best = pool.mixture.tiling, pool.best
    assert best is not None  # every frame has a tile, every tile a candidate
    variance = np.zeros((len(tiling.corners), tiling.patch, tiling.patch), np.float32)

    def work(index: NDArray[np.int64]) -> Array:
        data, portion = binned.tiles(tiling, index), best.take(index)
        portion = replace(portion, tile=portion.tile - index[0])
        if settings.laplace == "exact":
            return laplace(engine, data, portion)[1]
        return sampled_variance(
            engine, data, portion, settings.laplace_samples, seed, first_tile=int(index[0])
        )

    for index, part in run_in_portions(len(variance), tiling.patch, work):
        variance[index] = part
    return np.sqrt(merge(variance, tiling))

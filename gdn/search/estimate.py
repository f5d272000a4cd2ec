"""The estimate on the generator's grid: search, blend, and what is added where the generator ends.

All images are float32 (rows, columns) in electrons per binned pixel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.engines.observation import Array, TileData
from gdn.frames.tiling import Tiling, cut, merge, tile_frame
from gdn.search.bank import Bank
from gdn.search.heldout import Choice, choose, plain_filter, split
from gdn.search.laplace import laplace, sampled_variance
from gdn.search.posterior import blend
from gdn.search.refine import Candidates
from gdn.search.residual import shrunk_residual
from gdn.search.tiles import SearchSettings, best_of_each, exchanged, propose, search

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Binned:
    """A frame on the generator's grid: `counts`, the noise law of a binned pixel, variance = alpha mean + beta; `valid`,
    the share of each binned pixel that was recorded by good pixels (None: all of all)."""

    counts: Array
    alpha: float
    beta: float
    valid: Array | None = None

    def tiles(self, tiling: Tiling) -> TileData:
        """The observed tiles. Bad pixels count as not exposed: of Poisson counts y scaled up by 1 / f for the share f that
        was recorded, f times the log-likelihood is that of what was recorded."""
        counts, weights = cut(self.counts, tiling)
        if self.valid is not None:
            weights *= cut(self.valid, tiling)[0]
        return TileData(counts, weights, self.alpha, self.beta)


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


class Clock:
    """Seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """The time since the last mark was spent in `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 4)
        self._last = now


@dataclass(frozen=True)
class Watch:
    """Who wants to know how far the search is."""

    clock: Clock = field(default_factory=Clock)
    progress: Progress = lambda share: None


def estimate(binned: Binned, engine: Engine, bank: Bank, settings: SearchSettings, watch: Watch | None = None) -> Estimate:
    """Search every tile of a binned frame, blend, and add what counts held out let through."""
    watch = watch or Watch()
    patch = engine.model.card.patch
    dose = float(binned.counts.mean())
    tiling = tile_frame((binned.counts.shape[0], binned.counts.shape[1]), patch, settings.stride or patch // 2)
    data = binned.tiles(tiling)
    starts = propose(engine, bank, data, dose, settings)
    watch.clock.mark("score")
    watch.progress(0.1)
    candidates = search(engine, data, starts, settings)
    if settings.exchange and settings.encoder and settings.estimate == "mean":
        merged, _ = blend(candidates, tiling, settings.temperature)
        candidates = exchanged(engine, data, cut(merged, tiling)[0], candidates, settings)
    watch.clock.mark("refine")
    watch.progress(0.85)
    best = best_of_each(candidates)
    within = _within(engine, data, candidates.take(best), tiling, settings, bank.seed)
    watch.clock.mark("laplace")
    temperature = 1e-9 if settings.estimate == "map" else settings.temperature
    image, spread = blend(candidates, tiling, temperature)
    choice = _choose(engine, bank, binned, tiling, settings) if settings.residual else Choice(threshold=np.inf)
    added = _beyond(binned, image, choice)
    watch.clock.mark("beyond")
    return Estimate(binned, tiling, image, added, spread, within, choice, _tile_fit(candidates, best))


def _tile_fit(candidates: Candidates, best: NDArray[np.int64]) -> TileFit:
    found = candidates.take(best)
    energy = 0.5 * (found.z.astype(np.float64) ** 2).sum(1)
    dose = np.exp(found.nuisance[:, 0].astype(np.float64))
    share = float(found.from_bank.mean())
    return TileFit(found.objective, energy, dose, candidates.objective, candidates.tile, share)


def _within(engine: Engine, data: TileData, best: Candidates, tiling: Tiling, settings: SearchSettings, seed: int) -> Array:
    """Standard deviation within each tile's best restart, by the Laplace approximation, blended."""
    if settings.laplace == "exact":
        variance = laplace(engine, data, best)[1]
    elif settings.laplace == "sampled":
        variance = sampled_variance(engine, data, best, settings.laplace_samples, seed)
    else:
        return np.zeros(tiling.shape, np.float32)
    return np.sqrt(merge(variance, tiling))


def _choose(engine: Engine, bank: Bank, binned: Binned, tiling: Tiling, settings: SearchSettings) -> Choice:
    """Amounts of residual and plain filter, chosen with the encoder's image of thinned counts."""
    parts = split(binned.counts, binned.alpha, binned.beta, bank.seed)
    thinned = Binned(parts.first, parts.alpha, parts.beta, binned.valid).tiles(tiling)
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    dose = float(parts.first.mean())
    guess, _ = blend(propose(engine, bank, thinned, dose, quick), tiling, settings.temperature)
    return choose(parts, guess)


def _beyond(binned: Binned, image: Array, choice: Choice) -> Array:
    """What is added to the generator's `image`: its shrunk residual, and the chosen share of the plain filter."""
    sigma = np.sqrt(np.maximum(binned.alpha * image + binned.beta, 1e-6)).astype(np.float32)
    added = shrunk_residual(binned.counts - image, sigma, choice.threshold)
    if choice.share == 0:
        return added
    filtered = plain_filter(binned.counts, sigma, choice.width)
    return np.asarray((1 - choice.share) * added + choice.share * (filtered - image), dtype=np.float32)

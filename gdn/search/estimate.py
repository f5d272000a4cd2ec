"""The estimate on the generator's grid: search, blend, what is added where the generator ends, and other candidates.

All images are float32 (rows, columns) in electrons per binned pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.frames.tiling import Tiling, tile_frame
from gdn.likelihood import Array
from gdn.search.all_tiles import SearchedTiles, proposed, searched, within
from gdn.search.band_mixture import OWN, Candidate, Mixing, choose_mixing, mixed
from gdn.search.bank import Bank
from gdn.search.binned import Binned
from gdn.search.held_out_shares import Choice, Recorded, choose, noise_deviation, plain_filter, split
from gdn.search.progress import Watch
from gdn.search.residual import shrunk_residual
from gdn.search.tile_search import SearchSettings


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
class Mixed:
    """The `image` of the mixture of all candidates, how far those are apart (`disagreement`), and the weights."""

    image: Array
    disagreement: Array
    mixing: Mixing


@dataclass(frozen=True)
class Estimate:
    """`generated` by the generator alone and what was `added` to it; standard deviations over `restarts` and
    overlapping tiles, and within each of them (`laplace`; zero where it was not asked for). `mixed` with other candidates,
    where counts held out gave those a share (`mixing` also where they did not)."""

    binned: Binned
    tiling: Tiling
    generated: Array
    added: Array
    restarts: Array
    laplace: Array
    choice: Choice
    fit: TileFit
    mixing: Mixing | None = None
    mixed: Mixed | None = None

    @property
    def image(self) -> Array:
        """The result."""
        return self.image_rows(slice(None))

    @property
    def dose(self) -> float:
        """Electrons per binned pixel in vacuum: the median over tiles."""
        return float(np.median(self.fit.dose))

    def image_rows(self, rows: slice) -> Array:
        """Some rows of the result."""
        return self.generated[rows] + self.added[rows] if self.mixed is None else self.mixed.image[rows]

    def disagreement(self, rows: slice = slice(None)) -> Array:
        """Standard deviation over restarts, overlapping tiles, and the candidates of a mixture; of some rows."""
        if self.mixed is None:
            return self.restarts[rows]
        return np.asarray(np.hypot(self.restarts[rows], self.mixed.disagreement[rows]), dtype=np.float32)

    @property
    def raw_spread(self) -> Array:
        """Standard deviation, not calibrated. What the residual added has no backing by the generator: its size is doubt."""
        return np.asarray(np.sqrt(self.disagreement() ** 2 + self.laplace**2 + self.added**2), dtype=np.float32)

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
    others: Sequence[Candidate] = (),
) -> Estimate:
    """Search every tile of a binned frame, blend, and add what counts held out let through: those `recorded`, or, where
    there are none, the binned ones. `others` are candidates of a mixture, which work on `recorded` counts."""
    watch = watch or Watch()
    patch = engine.model.card.patch
    tiling = tile_frame((binned.counts.shape[0], binned.counts.shape[1]), patch, settings.stride or patch // 2)
    pool = searched(engine, bank, binned, tiling, settings, watch)
    spread_within = within(engine, pool, binned, settings, bank.seed)
    watch.clock.mark("laplace")
    image, spread = pool.mixture.image_and_spread()
    fit = _tile_fit(pool)
    del pool
    choice, mixing = Choice(threshold=np.inf), None
    if settings.residual:
        choice, mixing = _choose(engine, bank, binned, tiling, settings, recorded, others)
    added = _beyond(binned, image, choice)
    watch.clock.mark("beyond")
    result = None
    if mixing is not None and mixing.changed and recorded is not None:
        used = np.any(mixing.weights > 0, axis=0).tolist()[len(OWN) :]  # what has no weight need not make its image of all counts
        more = [other(recorded) if wanted else np.zeros_like(image) for other, wanted in zip(others, used, strict=True)]
        images = [*_own(binned.counts, image, binned.alpha, binned.beta, choice), *more]
        result = Mixed(*mixed(images, mixing, recorded.grids.binned_sampling), mixing)
        watch.clock.mark("mixture")
    return Estimate(binned, tiling, image, added, spread, spread_within, choice, fit, mixing, result)


def _tile_fit(pool: SearchedTiles) -> TileFit:
    found = pool.best
    assert found is not None  # every frame has a tile, every tile a candidate
    energy = 0.5 * (found.z.astype(np.float64) ** 2).sum(1)
    dose = np.exp(found.nuisance[:, 0].astype(np.float64))
    share = float(found.from_bank.mean())
    return TileFit(found.objective, energy, dose, np.concatenate(pool.objectives), np.concatenate(pool.tile), share)


def _choose(
    engine: Engine,
    bank: Bank,
    binned: Binned,
    tiling: Tiling,
    settings: SearchSettings,
    recorded: Recorded | None,
    others: Sequence[Candidate],
) -> tuple[Choice, Mixing | None]:
    """Amounts of residual and plain filter, and the weights of other candidates, chosen with the encoder's image of thinned
    counts."""
    if recorded is None:
        parts, first = split(binned.counts, binned.alpha, binned.beta, bank.seed), None
    else:
        parts, first = recorded.split(bank.seed)
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    guess = proposed(engine, bank, Binned(parts.first, parts.alpha, parts.beta, binned.valid), tiling, quick)
    choice = choose(parts, guess)
    if first is None or not others:
        return choice, None
    images = [*_own(parts.first, guess, parts.alpha, parts.beta, choice), *(other(first) for other in others)]
    names = (*OWN, *(other.name for other in others))
    return choice, choose_mixing(parts, images, names, choice, first.grids.binned_sampling)


def _own(counts: Array, image: Array, alpha: float, beta: float, choice: Choice) -> tuple[Array, Array]:
    """The generator's `image` with its shrunk residual, and the plain filter's."""
    sigma = noise_deviation(image, alpha, beta)
    return image + shrunk_residual(counts - image, sigma, choice.threshold), plain_filter(counts, sigma, choice.width)


def _beyond(binned: Binned, image: Array, choice: Choice) -> Array:
    """What is added to the generator's `image`: its shrunk residual, and the chosen share of the plain filter."""
    sigma = noise_deviation(image, binned.alpha, binned.beta)
    added = shrunk_residual(binned.counts - image, sigma, choice.threshold)
    if choice.share == 0:
        return added
    filtered = plain_filter(binned.counts, sigma, choice.width)
    return np.asarray((1 - choice.share) * added + choice.share * (filtered - image), dtype=np.float32)

"""The estimate on the generator's grid: search, blend, what is added where the generator ends, and
other candidates.

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
from gdn.search.held_out_shares import (
    Choice,
    Recorded,
    Split,
    choose,
    filled_by,
    plain_filter,
    split,
)
from gdn.search.progress import Watch
from gdn.search.residual import shrunk_residual
from gdn.search.tile_search import SearchSettings


@dataclass(frozen=True, kw_only=True)
class TileFit:
    """How each tile was explained: `objective` of its best restart, nats; `energy` |z|^2 / 2 of
    that one; `dose` it found, electrons per binned pixel in vacuum (all (tiles,)). `objectives` and
    `tile` (restarts,): of every restart refined."""

    objective: NDArray[np.float64]
    energy: NDArray[np.float64]
    dose: NDArray[np.float64]
    objectives: NDArray[np.float64]
    tile: NDArray[np.int64]
    bank_share: float  # share of tiles whose best restart came from the bank


@dataclass(frozen=True)
class Mixed:
    """The `image` of the mixture of all candidates, how far those are apart (`disagreement`), and
    the weights."""

    image: Array
    disagreement: Array
    mixing: Mixing


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """The two `parts` into which `seed` divides a frame's counts, the first as `recorded`, and the
    `images` that the `others` made of it: the held-out score asks for them again."""

    seed: int
    parts: Split
    recorded: Recorded
    others: tuple[Candidate, ...]
    images: list[Array]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`generated` by the generator alone and what was `added` to it; standard deviations over
    `restarts` and overlapping tiles, and within each of them (`laplace`; zero where it was not
    asked for). `mixed` with other candidates, where counts held out gave those a share (`mixing`
    also where they did not). `thinned`: the counts by which that was chosen, where there were
    recorded ones."""

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
    thinned: Thinned | None = None

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
        return (
            self.generated[rows] + self.added[rows]
            if self.mixed is None
            else self.mixed.image[rows]
        )

    def disagreement(self, rows: slice = slice(None)) -> Array:
        """Standard deviation over restarts, overlapping tiles, and the candidates of a mixture; of
        some rows."""
        if self.mixed is None:
            return self.restarts[rows]
        return np.asarray(
            np.hypot(self.restarts[rows], self.mixed.disagreement[rows]), dtype=np.float32
        )

    @property
    def raw_spread(self) -> Array:
        """Standard deviation, not calibrated. What the residual added has no backing by the
        generator: its size is doubt."""
        return np.asarray(
            np.sqrt(self.disagreement() ** 2 + self.laplace**2 + self.added**2), dtype=np.float32
        )

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
    theirs: Sequence[Array] | None = None,
) -> Estimate:
    """Search every tile of a binned frame, blend, and add what counts held out let through: those
    `recorded`, or, where there are none, the binned ones. `others` are candidates of a mixture,
    which work on `recorded` counts; `theirs`: the images that they make of those, where they are
    known already."""
    watch = watch or Watch()
    patch = engine.model.card.patch
    tiling = tile_frame(
        (binned.counts.shape[0], binned.counts.shape[1]), patch, settings.stride or patch // 2
    )
    pool = searched(engine, bank, binned, tiling, settings, watch)
    spread_within = within(engine, pool, binned, settings, bank.seed)
    watch.clock.mark("laplace")
    image, spread = pool.mixture.image_and_spread()
    fit = _tile_fit(pool)
    del pool
    choice, mixing, thinned = Choice(threshold=np.inf), None, None
    if settings.residual:
        choice, mixing, thinned = _choose(engine, bank, binned, tiling, settings, recorded, others)
    # What has no weight in a mixture need not make its image of all counts.
    used = (
        np.any(mixing.weights > 0, axis=0).tolist() if mixing is not None and mixing.changed else []
    )
    residual, filtered = _own(binned, image, choice, choice.share > 0 or any(used[1:2]))
    added = residual
    if choice.share > 0:
        added = np.asarray(
            (1 - choice.share) * residual + choice.share * (filtered - image), dtype=np.float32
        )
    watch.clock.mark("beyond")
    result = None
    if mixing is not None and used and recorded is not None:
        whole = recorded.refilled(image)
        theirs = theirs or [
            other(whole) if its else image
            for other, its in zip(others, used[len(OWN) :], strict=True)
        ]
        images = [image + residual, filtered, *theirs]
        result = Mixed(*mixed(images, mixing, recorded.grids.binned_sampling), mixing)
        watch.clock.mark("mixture")
    return Estimate(
        binned=binned,
        tiling=tiling,
        generated=image,
        added=added,
        restarts=spread,
        laplace=spread_within,
        choice=choice,
        fit=fit,
        mixing=mixing,
        mixed=result,
        thinned=thinned,
    )


def _tile_fit(pool: SearchedTiles) -> TileFit:
    found = pool.best
    assert found is not None  # every frame has a tile, every tile a candidate
    energy = 0.5 * (found.z.astype(np.float64) ** 2).sum(1)
    dose = np.exp(found.nuisance[:, 0].astype(np.float64))
    share = float(found.from_bank.mean())
    return TileFit(
        objective=found.objective,
        energy=energy,
        dose=dose,
        objectives=np.concatenate(pool.objectives),
        tile=np.concatenate(pool.tile),
        bank_share=share,
    )


def _choose(
    engine: Engine,
    bank: Bank,
    binned: Binned,
    tiling: Tiling,
    settings: SearchSettings,
    recorded: Recorded | None,
    others: Sequence[Candidate],
) -> tuple[Choice, Mixing | None, Thinned | None]:
    """Amounts of residual and plain filter, and the weights of other candidates, chosen with the
    encoder's image of thinned counts."""
    if recorded is None:
        parts = replace(split(binned.counts, binned.law, bank.seed), valid=binned.valid)
        first = None
    else:
        parts, first = recorded.split(bank.seed)
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    guess = proposed(engine, bank, Binned(parts.first, parts.law, binned.valid), tiling, quick)
    choice, *own = choose(parts, guess)
    if first is None:
        return choice, None, None
    whole = first.refilled(guess)
    theirs = [other(whole) for other in others]
    thinned = Thinned(
        seed=bank.seed, parts=parts, recorded=first, others=tuple(others), images=theirs
    )
    if not others:
        return choice, None, thinned
    names = (*OWN, *(other.name for other in others))
    images = [*own, *theirs]
    if parts.valid is not None:
        # Where nothing was recorded all candidates are alike, and as far from the counts: none.
        first_image, valid = images[0], parts.valid
        images = [filled_by(first_image, image, valid) for image in images]
        unseen = np.asarray(first_image * ((1 - parts.share) / parts.share), dtype=np.float32)
        parts = replace(parts, second=filled_by(unseen, parts.second, valid))
    return choice, choose_mixing(parts, images, names, choice, first.grids.binned_sampling), thinned


def _own(binned: Binned, image: Array, choice: Choice, with_filter: bool) -> tuple[Array, Array]:
    """What is left of the counts beside the generator's `image`, shrunk; and the plain filter's
    image (the generator's, where it is not asked for)."""
    sigma, counts = binned.law.deviation(image), binned.counts
    if binned.valid is not None:
        counts = filled_by(image, counts, binned.valid)
    residual = shrunk_residual(counts - image, sigma, choice.threshold)
    return residual, plain_filter(counts, sigma, choice.width) if with_filter else image

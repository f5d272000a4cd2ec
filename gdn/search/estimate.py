"""The estimate on the generator's grid: search, blend, add what the generator cannot draw, and mix
in other candidates.

All images are float32 (rows, columns) in electrons per binned pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array
from gdn.search.all_tiles import SearchedTiles, laplace_spread, search_tiles
from gdn.search.band_mixture import Candidate, Mixing, mix_images
from gdn.search.first_part import (
    Thinned,
    choose_by_counts,
    complete_images,
    tiles_of,
)
from gdn.search.flat_places import structure_weight
from gdn.search.held_out_shares import Choice, apply_plain_filter, shrink_residual
from gdn.search.mixture_weights import OWN
from gdn.search.progress import CHOSEN, Watch
from gdn.search.settings import Searcher
from gdn.search.share_map import ShareMap, map_shares
from gdn.search.thinning import Recorded, fill_with
from gdn.search.tiles import Binned, Tiling

# The errors of a result of n frames by those of one: not 1 / sqrt(n), as what generator and
# alignment get wrong is the same in all (docs/measurements/movies.md).
SHARED = -0.2


@dataclass(frozen=True, kw_only=True)
class TileFit:
    """How each tile was explained.

    - `objective` (tiles,): the objective of its best restart, nats.
    - `energy` (tiles,): |z|^2 / 2 of that restart.
    - `dose` (tiles,): the dose of that restart, electrons per binned pixel in vacuum.
    - `objectives`, `tile` (restarts,): objective and tile number of every refined restart.
    """

    objective: NDArray[np.float64]
    energy: NDArray[np.float64]
    dose: NDArray[np.float64]
    objectives: NDArray[np.float64]
    tile: NDArray[np.int64]
    bank_share: float  # share of tiles whose best restart came from the bank


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The mixture of all candidates.

    - `image`: the mixture.
    - `disagreement`: how far the candidates' images differ.
    - `mixing`: the weights.
    - `noise`: how much of the frame's own noise is in the mixture, as a share of that in an image
      of the frame alone. A candidate that sees n frames has n ** SHARED of it.
    - `map`: which candidate contributes where. None for a single candidate, and if it is not
      wanted.
    """

    image: Array
    disagreement: Array
    mixing: Mixing
    noise: float = 1.0
    map: ShareMap | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimate of a frame on the generator's grid.

    - `binned`: the frame on this grid.
    - `tiling`: its tiles.
    - `image`: the result.
    - `dose`: electrons per binned pixel in vacuum (the median over tiles).
    - `generated`: the image of the generator alone.
    - `added`: what was added to it.
    - `restarts`: standard deviation over restarts and overlapping tiles.
    - `laplace`: standard deviation within each restart; zero if it was not asked for.
    - `choice`: what the held-out counts chose.
    - `fit`: how each tile was explained.
    - `mixing`: the weights of other candidates.
    - `mixed`: the mixture with them, if the held-out counts gave them a share.
    - `thinned`: the parts of the counts by which that was chosen, if there were recorded counts.
    """

    binned: Binned
    tiling: Tiling
    image: Array
    dose: float
    generated: Array
    added: Array
    restarts: Array
    laplace: Array
    choice: Choice
    fit: TileFit
    mixing: Mixing | None = None
    mixed: Mixed | None = None
    thinned: Thinned | None = None

    def disagreement(self, rows: slice = slice(None)) -> Array:
        """Standard deviation over restarts, overlapping tiles, and the candidates of a mixture, for
        the given rows (docs/latent-search.md, "The raw spread")."""
        if self.mixed is None:
            return self.restarts[rows]
        own = self.restarts[rows] * np.float32(self.mixed.noise)
        return np.asarray(np.hypot(own, self.mixed.disagreement[rows]), dtype=np.float32)

    @property
    def noise_left(self) -> float:
        """How much of the frame's noise is in the image, as a share of that in an image without
        other frames."""
        return 1.0 if self.mixed is None else self.mixed.noise

    @property
    def raw_spread(self) -> Array:
        """Standard deviation, not calibrated: the root of the summed squares of its parts. The
        generator does not support what was added from the residual, so its size counts as
        uncertainty (docs/latent-search.md, "The raw spread")."""
        return np.asarray(
            np.sqrt(
                self.disagreement() ** 2
                + (self.laplace**2 + self.added**2) * np.float32(self.noise_left) ** 2
            ),
            dtype=np.float32,
        )

    @property
    def residual_share(self) -> float:
        """rms of what was added over rms of the generator's contrast."""
        return float(np.sqrt((self.added**2).mean())) / max(float(self.generated.std()), 1e-12)


def estimate(
    binned: Binned,
    searcher: Searcher,
    watch: Watch | None = None,
    recorded: Recorded | None = None,
    known: Sequence[Array] | None = None,
) -> Estimate:
    """Search every tile of a binned frame, blend, and add what the held-out counts support. Counts
    are held out of `recorded`, or of the binned frame if there are no recorded ones. The other
    candidates of a mixture work on `recorded` counts. `known` are their images of these, if they
    exist already."""
    watch, settings = watch or Watch(), searcher.settings
    tiling = tiles_of(searcher, binned)
    pool = search_tiles(searcher, binned, tiling, watch)
    spread_within = (
        np.zeros_like(binned.counts)
        if settings.laplace == "none"
        else laplace_spread(searcher, pool, binned)
    )
    watch.ended("laplace")
    image, spread = pool.mixture.image_and_spread()
    fit = _tile_fit(pool)
    del pool
    choice, recipe, thinned = Choice(threshold=np.inf), None, None
    if settings.residual:
        choice, recipe, thinned = choose_by_counts(searcher, binned, tiling, recorded)
    mixing = None if recipe is None else recipe.mixing
    # What has no weight in a mixture need not make its image of all counts.
    used = [] if recipe is None else recipe.used
    sigma = binned.law.deviation(image)
    residual, filtered = _own(binned, image, sigma, choice, choice.share > 0 or any(used[1:2]))
    added = residual
    if choice.share > 0:
        added = np.asarray(
            (1 - choice.share) * residual + choice.share * (filtered - image), dtype=np.float32
        )
    if recipe is not None and recipe.level:
        added = added * structure_weight(image + added, sigma, recipe.level, recipe.sampling)
    watch.ended("beyond", CHOSEN)
    result = None
    if recipe is not None and mixing is not None and used and recorded is not None:
        whole = recorded.refill(image)
        theirs = known or [
            other(whole) if its else image
            for other, its in zip(searcher.others, used[len(OWN) :], strict=True)
        ]
        images = complete_images([image + residual, filtered, *theirs])
        images = recipe.structured(images, image, sigma)
        sampling = recorded.grids.binned_sampling
        mixed = mix_images(images, mixing, sampling)
        shares = map_shares(images, mixing, sampling) if watch.spread else None
        result = Mixed(
            image=mixed[0],
            disagreement=mixed[1],
            mixing=mixing,
            noise=_noise_left(mixing, searcher.others),
            map=shares,
        )
        watch.ended("mixture")
    return Estimate(
        binned=binned,
        tiling=tiling,
        image=image + added if result is None else result.image,
        dose=float(np.median(fit.dose)),
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
    best = pool.best
    assert best is not None  # every frame has a tile, every tile a candidate
    energy = 0.5 * (best.z.astype(np.float64) ** 2).sum(1)
    dose = np.exp(best.nuisance[:, 0].astype(np.float64))
    share = float(best.from_bank.mean())
    return TileFit(
        objective=best.objective,
        energy=energy,
        dose=dose,
        objectives=np.concatenate(pool.objectives),
        tile=np.concatenate(pool.tile),
        bank_share=share,
    )


def _noise_left(mixing: Mixing, others: Sequence[Candidate]) -> float:
    """The field `noise` of `Mixed`. Each candidate's share of the contrast stands for its share of
    the image. Frames seen count as in docs/measurements/movies.md (SHARED)."""
    seen = {other.name: float(getattr(other, "frames_seen", 1)) for other in others}
    shares = {name: mixing.share(name) for name in mixing.names}
    total = max(sum(shares.values()), 1e-30)
    return float(sum(s * seen.get(name, 1.0) ** SHARED for name, s in shares.items()) / total)


def _own(
    binned: Binned, image: Array, sigma: Array, choice: Choice, with_filter: bool
) -> tuple[Array, Array]:
    """The residual of the counts against the generator's `image`, shrunk; and the plain filter's
    image (the generator's image if the filter is not asked for). `sigma`: the noise's deviation."""
    counts = binned.counts
    if binned.valid is not None:
        counts = fill_with(image, counts, binned.valid)
    residual = shrink_residual(counts - image, sigma, choice.threshold)
    return residual, apply_plain_filter(counts, sigma, choice.width) if with_filter else image

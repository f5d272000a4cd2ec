"""What is made of the first part of a frame's counts, so that the second part can weigh the
candidates (docs/method.md, "Mixture"); and the evidence of the other frames of a movie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.ndimage import distance_transform_edt

from gdn.likelihood import Array
from gdn.search.all_tiles import blend_starts
from gdn.search.band_mixture import Candidate, measure_evidence
from gdn.search.flat_places import MixtureRecipe, Weighing, choose_recipe
from gdn.search.held_out_shares import Choice, Gains, choose, measure_gains
from gdn.search.mixture_weights import OWN, Evidence
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded, Split, split
from gdn.search.tiles import Binned, Tiling, tile_frame

FADED = 4.0  # px from where a candidate knows nothing to where it is itself


@dataclass(frozen=True, kw_only=True)
class FirstPart:
    """A frame's counts in two parts, and a quick image of the first.

    - `parts`: both parts, on the generator's grid.
    - `recorded`: the first part, as recorded.
    - `guess`: the generator's image of the first part, by the encoder alone.
    """

    parts: Split
    recorded: Recorded
    guess: Array

    def gains(self) -> Gains:
        """What the second part says of residual and plain filter."""
        return measure_gains(self.parts, self.guess)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """The other candidates' `images` of a frame's first part, and the `evidence` of the second."""

    images: list[Array]
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """A frame's counts in two parts, and images of the first. The held-out score uses them again.

    - `seed`: the seed of the split.
    - `parts`: both parts, on the generator's grid.
    - `recorded`: the first part, as recorded.
    - `others`: the other candidates.
    - `images`: the images that they made of the first part.
    """

    seed: int
    parts: Split
    recorded: Recorded
    others: tuple[Candidate, ...]
    images: list[Array]


class Beside(Protocol):
    """The evidence of the other frames of a movie around one frame. It is of counts that no
    candidate of their frame has seen."""

    def gains(self) -> Sequence[Gains]:
        """That about residual and plain filter."""

    def evidence(self) -> Sequence[Evidence]:
        """That about the candidates, where they are those of this frame."""

    def made(self, recorded: Recorded) -> tuple[FirstPart, list[Array]] | None:
        """What was made of the first part of `recorded` already, and the other candidates' images
        of it; None if that is not of this frame's first part."""


def tiles_of(searcher: Searcher, binned: Binned) -> Tiling:
    """The tiles of a frame."""
    patch = searcher.engine.model.card.patch
    shape = (binned.counts.shape[0], binned.counts.shape[1])
    return tile_frame(shape, patch, searcher.settings.stride or patch // 2, binned.valid)


def quick_image(searcher: Searcher, parts: Split, tiling: Tiling) -> Array:
    """The encoder's image of the first part."""
    settings = searcher.settings
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    counts = Binned(parts.first, parts.law, parts.valid)
    return blend_starts(replace(searcher, settings=quick), counts, tiling)


def first_part(searcher: Searcher, recorded: Recorded, tiling: Tiling) -> FirstPart:
    """Split a frame's counts, and make the quick image."""
    parts, first = recorded.split(searcher.bank.seed)
    return FirstPart(parts=parts, recorded=first, guess=quick_image(searcher, parts, tiling))


def others_of_first(searcher: Searcher, first: FirstPart) -> list[Array]:
    """The other candidates' images of the first part."""
    whole = first.recorded.refill(first.guess)
    return [other(whole) for other in searcher.others]


def weigh(searcher: Searcher, first: FirstPart, beside: Sequence[Gains]) -> Weighed:
    """The evidence about a frame's candidates. `beside`: the other frames' gains."""
    images = others_of_first(searcher, first)
    choice, *own = choose(first.parts, first.guess, beside)
    sampling = first.recorded.grids.binned_sampling
    evidence = measure_evidence(
        first.parts,
        complete_images([*own, *images]),
        _names(searcher),
        choice,
        sampling,
    )
    return Weighed(images=images, evidence=evidence)


def choose_by_counts(
    searcher: Searcher, binned: Binned, tiling: Tiling, recorded: Recorded | None
) -> tuple[Choice, MixtureRecipe, Thinned | None]:
    """Choose the amounts of residual and plain filter, where they are added, and the weights of
    other candidates, with the encoder's image of thinned counts."""
    seed, beside = searcher.bank.seed, searcher.beside
    if recorded is None:
        parts = replace(split(binned.counts, binned.law, seed), valid=binned.valid)
        guess = quick_image(searcher, parts, tiling)
        choice, *images = choose(parts, guess)
        sampling = (searcher.engine.model.card.sampling_angstrom,) * 2
        weighing = Weighing(names=OWN, choice=choice, sampling=sampling)
        thinned = None
    else:
        made = None if beside is None else beside.made(recorded)
        first = first_part(searcher, recorded, tiling) if made is None else made[0]
        parts, guess = first.parts, first.guess
        choice, *own = choose(parts, guess, () if beside is None else beside.gains())
        theirs = others_of_first(searcher, first) if made is None else made[1]
        images = complete_images([*own, *theirs])
        weighing = Weighing(
            names=_names(searcher),
            choice=choice,
            sampling=recorded.grids.binned_sampling,
            beside=None if beside is None else beside.evidence(),
        )
        thinned = Thinned(
            seed=seed,
            parts=parts,
            recorded=first.recorded,
            others=tuple(searcher.others),
            images=theirs,
        )
    recipe = choose_recipe(parts, images, guess, weighing)
    return replace(choice, level=recipe.level), recipe, thinned


def _names(searcher: Searcher) -> tuple[str, ...]:
    return (*OWN, *(other.name for other in searcher.others))


def complete_images(images: list[Array]) -> list[Array]:
    """Candidates' images without gaps. Where one has no value (NaN), it takes that of the first
    image; at the edge of the gap it fades into it."""
    completed = []
    for image in images:
        known = np.isfinite(image)
        if not known.all():
            inside = distance_transform_edt(np.pad(known, 1, mode="edge"))[1:-1, 1:-1]
            weight = np.clip(inside / FADED, 0, 1).astype(np.float32)
            image = images[0] + weight * (np.where(known, image, images[0]) - images[0])
        completed.append(image)
    return completed

"""Where the counts show nothing, nothing is added to the generator's image (docs/method.md, "No
ghosts").

The residual and the filters (plain, collaborative, lattice) let some of the noise through. In a
neighbourhood without structure that is all they contribute: ripples, and spots that look like
columns. The mixture's own structure says where such neighbourhoods are. It is measured by its local
power: the mean square of the image without what varies slowly, in units of the noise's variance.
Where this is far below a level, the filters' images are replaced by the generator's. Held-out
counts choose the level.

All images are float32 (rows, columns) in electrons per binned pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array
from gdn.search.band_mixture import Mixing, mix_by_counts, mixture_of
from gdn.search.held_out_shares import LEAST_VARIANCE, Choice, losses
from gdn.search.mixture_weights import FILTERS, OWN, Evidence
from gdn.search.thinning import Split

LEVELS = (0.0, 0.01, 0.02, 0.04, 0.08)  # of the local power; 0 adds everything everywhere
MARGIN = 2.0  # nats by which a level may be worse than the best one: the highest such is taken
AROUND_ANGSTROM = 2.0  # standard deviation of the neighbourhood: about a column's surroundings
SLOW_ANGSTROM = 3.0  # what varies more slowly is no structure
Sampling = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MixtureRecipe:
    """How images of the candidates are put together.

    - `names`: of the candidates, the generator's and the plain filter's first.
    - `share`: of the plain filter, where nothing else is mixed.
    - `sampling`: Å per pixel along rows and columns.
    - `first`: the weights by which the mixture's structure is measured (None: nothing else is
      mixed).
    - `mixing`: the weights of the result.
    - `level`: one of LEVELS.
    """

    names: tuple[str, ...]
    share: float
    sampling: Sampling
    first: Mixing | None = None
    mixing: Mixing | None = None
    level: float = 0.0

    def structured(self, images: Sequence[Array], generated: Array, sigma: Array) -> list[Array]:
        """The candidates' `images`, those of filters only where there is structure; elsewhere they
        are the `generated` one. `sigma`: standard deviation of the noise."""
        if not self.level:
            return list(images)
        if self.first is None:
            mixture = _mix_own(images, self.share)
        else:
            mixture = mixture_of(images, self.first, self.sampling)
        power = _structure_power(mixture, sigma, self.sampling)
        return _only_where(_weight(power, self.level), self.names, images, generated)

    @property
    def used(self) -> list[bool]:
        """Which candidates have a weight anywhere; none if nothing but the first two does."""
        if self.first is None or self.mixing is None or not self.mixing.changed:
            return []
        used: list[bool] = np.any(self.first.weights + self.mixing.weights > 0, axis=0).tolist()
        return used


def structure_weight(image: Array, sigma: Array, level: float, sampling: Sampling) -> Array:
    """A weight for each pixel: near 1 where the local power of the image's structure is above
    `level`, near 0 where it is below, 1/2 where it is equal. The power is that of a column's
    surroundings, in units of the noise's variance (`sigma` squared)."""
    return _weight(_structure_power(image, sigma, sampling), level)


def _structure_power(image: Array, sigma: Array, sampling: Sampling) -> Array:
    """The local power of the image's structure."""
    slow, around = (
        [length / pixel for pixel in sampling] for length in (SLOW_ANGSTROM, AROUND_ANGSTROM)
    )
    least = np.float32(np.sqrt(LEAST_VARIANCE * (sigma**2).mean(dtype=np.float64)))
    structure = (image - gaussian_filter(image, slow)) / np.maximum(sigma, least)
    return np.asarray(np.maximum(gaussian_filter(structure**2, around), 1e-12))


def _weight(power: Array, level: float) -> Array:
    return np.asarray(1 / (1 + (level / power) ** 2), dtype=np.float32)


def _only_where(
    weight: Array, names: tuple[str, ...], images: Sequence[Array], generated: Array
) -> list[Array]:
    """The candidates' images, those of filters by the `weight` of each pixel; the rest is of the
    `generated` image."""
    return [
        np.asarray(generated + weight * (image - generated), dtype=np.float32)
        if name in FILTERS
        else image
        for name, image in zip(names, images, strict=True)
    ]


def _mix_own(images: Sequence[Array], share: float) -> Array:
    """The mixture of generator and plain filter alone."""
    return np.asarray((1 - share) * images[0] + share * images[1], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """What the weights of candidates follow from, beside their images.

    - `names`: of the candidates, the generator's and the plain filter's first.
    - `choice`: the amounts of residual and plain filter.
    - `beside`: for a frame of a movie, the evidence of other frames, whose images have the filters
      everywhere. So the filters are added everywhere in such a frame.
    """

    names: tuple[str, ...]
    choice: Choice
    sampling: Sampling
    beside: Sequence[Evidence] | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels that may be chosen."""
        return LEVELS if self.beside is None else LEVELS[:1]

    def mix(
        self, parts: Split, sets: Iterable[Sequence[Array]]
    ) -> Sequence[tuple[Mixing | None, Array]]:
        """The weights of candidates by each of several sets of their images of the first part, and
        the mixtures."""
        if self.names == OWN:
            return [(None, _mix_own(images, self.choice.share)) for images in sets]
        beside = self.beside or ()
        return mix_by_counts(parts, sets, self.names, self.choice, self.sampling, beside)


def choose_recipe(
    parts: Split, images: Sequence[Array], guess: Array, weighing: Weighing
) -> MixtureRecipe:
    """The recipe of least held-out loss: the weights, and the highest level that is not worse than
    the best one by more than MARGIN. `images` are those of the first part; `guess` is the
    generator's."""
    [(first, mixture)] = weighing.mix(parts, [images])
    recipe = MixtureRecipe(
        names=weighing.names,
        share=weighing.choice.share,
        sampling=weighing.sampling,
        first=first,
        mixing=first,
    )
    power = _structure_power(mixture, parts.law.deviation(guess), weighing.sampling)
    others = weighing.mix(
        parts,
        (  # one set at a time: of a large frame each is a few hundred megabytes
            _only_where(_weight(power, level), weighing.names, images, guess)
            for level in weighing.levels[1:]
        ),
    )
    tried = [
        recipe,
        *(
            replace(recipe, mixing=mixing, level=level)
            for level, (mixing, _) in zip(weighing.levels[1:], others, strict=True)
        ),
    ]
    loss = np.array(losses([mixture, *(image for _, image in others)], parts))
    return tried[int(np.flatnonzero(loss <= loss.min() + MARGIN)[-1])]

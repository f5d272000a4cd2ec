"""How much of the residual and of a plain filter goes into the result, chosen on counts held out of
the estimate.

Counts are thinned into two independent sets: of Poisson counts each electron goes to the first set
with probability 1 - HELD_OUT and to the second otherwise (binomial thinning); Gaussian noise is
split by adding and subtracting a multiple of the same draw (Leiner et al. 2023, data fission, with
which noise that is neither is split approximately). What is estimated from the first is scored on
the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.frames.bad_pixels import Mask
from gdn.frames.resampling import Grids, bin_sum, unbin
from gdn.likelihood import STRIP_PIXELS, Array, NoiseLaw, frame_negative_log_likelihood, strips
from gdn.search.binned import mean_of
from gdn.search.residual import shrunk_residual

Key = TypeVar("Key")
Electrons = Array | NDArray[np.uint8] | NDArray[np.uint16]

HELD_OUT = 0.25
THRESHOLDS = (np.inf, 2.5, 2.0, 1.7, 1.4)  # of the residual's shrinkage; inf adds nothing
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # px, of Gaussian filters
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of the plain filter
MARGIN = 3.0  # nats that more freedom must gain


@dataclass(frozen=True, kw_only=True)
class Split:
    """A frame as two independent ones. `first` and `second` (rows, columns) in electrons; their
    means are `share` and 1 - `share` of the frame's, their noise laws `law` and `other_law`.
    `valid`: the share of each pixel that was recorded, by which it counts (None: all of all)."""

    first: Array
    second: Array
    share: float
    law: NoiseLaw
    other_law: NoiseLaw
    valid: Array | None = None

    @property
    def level(self) -> float:
        """Mean of the first part."""
        return mean_of(self.first, self.valid)

    def first_filled(self, guess: Array) -> Split:
        """With the first part's unrecorded pixels as an image of it has them."""
        if self.valid is None:
            return self
        return replace(self, first=filled_by(guess, self.first, self.valid))


def filled_by(image: Array, counts: Array, valid: Array) -> Array:
    """The counts, as far as they were recorded (`valid`), else the `image`."""
    return np.asarray(image + valid * (counts - image), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`threshold` of the residual, `share` of the plain filter in the result, and the filter's
    `width` in px (None: windowed shrinkage of the counts themselves). `generator` and `filter` are
    the held-out scores, nats of the whole frame better than its mean."""

    threshold: float = 2.5
    share: float = 0.0
    width: float | None = None
    generator: float = float("nan")
    filter: float = float("nan")

    @property
    def filter_wins(self) -> bool:
        """Whether the plain filter alone explains the held-out counts better than generator and
        residual."""
        return self.filter > self.generator + MARGIN


@dataclass(frozen=True)
class Recorded:
    """A frame's `electrons` (rows, columns) as they were recorded, on its own grid, with the noise
    `law` of such a pixel; `depth`, how often they were thinned already; the pixels that are `bad`
    were filled in (None: none were).

    Counts are thinned where they were recorded and then summed on the generator's grid: sums over
    parts of pixels have less than Poisson's variance, and thinning them would leave the two sets
    correlated. Whole numbers are kept as such, in a quarter of the memory: a large frame has
    several of these at a time.
    """

    electrons: Electrons
    law: NoiseLaw
    grids: Grids
    depth: int = 0
    bad: Mask | None = None

    def __post_init__(self) -> None:
        if self.electrons.dtype == np.float32 and _are_counts(self.electrons, self.law):
            object.__setattr__(self, "electrons", _small(self.electrons))

    @cached_property
    def valid(self) -> Array | None:
        """Share of each pixel of the generator's grid that was recorded by good pixels; None: all
        of all."""
        if self.bad is None:
            return None
        return bin_sum((~self.bad).astype(np.float32), self.grids) / np.float32(self.grids.area)

    def refilled(self, image: Array) -> Recorded:
        """With the bad pixels drawn from an `image` of these counts, electrons per pixel of the
        generator's grid: a filter then sees in them what lies around."""
        if self.bad is None:
            return self
        mean = unbin(image, self.grids)[self.bad] / np.float32(self.grids.area)
        electrons = self.electrons.astype(np.float32)
        electrons[self.bad] = self.law.drawn(mean, np.random.default_rng([0x4E11, self.depth]))
        return replace(self, electrons=electrons)

    def split(self, seed: int) -> tuple[Split, Recorded]:
        """The two sets on the generator's grid, and the first as recorded, to be thinned again."""
        parts = split(self.electrons, self.law, seed, self.depth)
        binned = replace(
            parts,
            first=bin_sum(parts.first.astype(np.float32, copy=False), self.grids),
            second=bin_sum(parts.second.astype(np.float32, copy=False), self.grids),
            law=parts.law.of_sum(self.grids.area),
            other_law=parts.other_law.of_sum(self.grids.area),
            valid=self.valid,
        )
        return binned, Recorded(parts.first, parts.law, self.grids, self.depth + 1, self.bad)


def split(binned: Any, law: NoiseLaw, seed: int, depth: int = 0) -> Split:
    """Thin a frame (rows, columns) in electrons, float32, or whole numbers, of which the parts have
    the type. The same seed gives the same split; what was thinned before needs another `depth`, or
    the draws would be those that made it."""
    rng = np.random.default_rng([seed, 0x7E1D, *([depth] if depth else [])])
    keep = 1 - HELD_OUT
    if _are_counts(binned, law):
        first = np.empty_like(binned)
        for rows in strips(
            (binned.shape[0], binned.shape[1]), STRIP_PIXELS
        ):  # whole numbers take twice the frame's memory
            first[rows] = rng.binomial(np.round(binned[rows]).astype(np.int64), keep)
        return Split(first=first, second=binned - first, share=keep, law=law, other_law=law)
    # y1 = k (y + c n), y2 = (1 - k) (y - n / c) with variance v of y: independent where c^2 = (1 -
    # k) / k.
    draw = law.deviation(np.maximum(gaussian_filter(binned, 2.0), 0)) * rng.standard_normal(
        binned.shape
    )
    c = np.sqrt(HELD_OUT / keep)
    first = (keep * (binned + c * draw)).astype(np.float32)
    second = (HELD_OUT * (binned - draw / c)).astype(np.float32)
    # Var y1 = k^2 v (1 + c^2) = k v, and so for the second: a thinned Poisson law with thinned read
    # noise.
    return Split(
        first=first,
        second=second,
        share=keep,
        law=law.of_part(keep),
        other_law=law.of_part(HELD_OUT),
    )


def _are_counts(binned: Any, law: NoiseLaw) -> bool:
    """Whether these are whole numbers, none negative, under Poisson's law."""
    if not law.poisson or binned.dtype != np.float32:
        return law.poisson
    parts = (binned[rows] for rows in strips((binned.shape[0], binned.shape[1]), STRIP_PIXELS))
    return all(np.abs(part - np.round(part)).max() < 1e-3 and part.min() > -0.5 for part in parts)


def _small(counts: Any) -> Any:
    """Whole numbers in the smallest type that holds them, strip by strip; as they are if none
    does."""
    most = counts.max()
    if most > np.iinfo(np.uint16).max:
        return counts
    found = np.empty(counts.shape, np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16)
    for rows in strips((counts.shape[0], counts.shape[1]), STRIP_PIXELS):
        found[rows] = np.round(counts[rows])
    return found


def plain_filter(counts: Array, sigma: Array, width: float | None) -> Array:
    """The plain filter's image of `counts`: a Gaussian of `width` px, or windowed shrinkage about
    the mean."""
    if width is not None:
        return np.asarray(gaussian_filter(counts, width, mode="reflect"), dtype=np.float32)
    mean = np.float32(counts.mean())
    return np.asarray(mean + shrunk_residual(counts - mean, sigma), dtype=np.float32)


def choose(parts: Split, guess: Array) -> tuple[Choice, Array, Array]:
    """Threshold, share and filter of least held-out loss, and with them the image of the generator
    with its residual, and the filter's. `guess` is a generator's image of the first part."""
    noise = parts.law.deviation(guess)
    parts = parts.first_filled(guess)
    level = _score(np.full_like(guess, parts.level), parts)

    def gain(image: Array) -> float:
        return level - _score(image, parts)

    residuals = ((t, guess + shrunk_residual(parts.first - guess, noise, t)) for t in THRESHOLDS)
    threshold, mine, own = _first_of_best(residuals, gain, MARGIN)
    filters = ((w, plain_filter(parts.first, noise, w)) for w in (None, *WIDTHS))
    width, its, other = _first_of_best(filters, gain, 0.0)
    share = _first_of_best(
        ((s, ((1 - s) * mine + s * its).astype(np.float32)) for s in MIXTURES), gain, MARGIN
    )[0]
    return (
        Choice(threshold=threshold, share=share, width=width, generator=own, filter=other),
        mine,
        its,
    )


def explained_nats(parts: Split, guess: Array) -> float:
    """Nats by which a generator's image `guess` of the first part, with what of its residual stands
    out clearly, explains the second part better than the first's mean does."""
    parts = parts.first_filled(guess)
    noise = parts.law.deviation(guess)
    image = guess + shrunk_residual(parts.first - guess, noise)
    return _score(np.full_like(guess, parts.level), parts) - _score(image, parts)


def _first_of_best(
    images: Iterable[tuple[Key, Array]], gain: Callable[[Array], float], margin: float
) -> tuple[Key, Array, float]:
    """The first of named images that no later one beats by the margin, freedom has to be earned,
    and its gain. One image and the best so far are in memory."""
    best: tuple[Key, Array, float] | None = None
    for key, image in images:
        score = gain(image)
        if best is None or score > best[2] + margin:
            best = key, image, score
    if best is None:
        raise ValueError("no image to choose from")
    return best


def _score(image: Array, parts: Split) -> float:
    """Negative log-likelihood of the second part, nats."""
    return frame_negative_log_likelihood(
        image, (1 - parts.share) / parts.share, parts.second, parts.other_law, parts.valid
    )

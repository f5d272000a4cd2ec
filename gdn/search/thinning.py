"""A frame's counts as they were recorded, and as two independent sets.

Poisson counts are thinned: each electron goes to the first set with probability 1 - HELD_OUT, else
to the second (binomial thinning). Gaussian noise is split by adding a multiple of a random draw and
subtracting another multiple of the same draw (data fission: Leiner et al. 2023); noise that is
neither is split approximately in the same way. The draw for noise that a camera has spread over
pixels is spread likewise, so that the two sets are independent in all detail. What is estimated
from the first set is scored on the second (docs/method.md, "Beyond the generator").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter

from gdn.frames.bad_pixels import Mask
from gdn.frames.mean_variance import spread_kernel
from gdn.frames.resampling import Grids, bin_sum, unbin
from gdn.likelihood import POISSON, STRIP_PIXELS, Array, NoiseLaw, strips
from gdn.search.tiles import mean_of

Electrons = Array | NDArray[np.uint8] | NDArray[np.uint16]

HELD_OUT = 0.25


@dataclass(frozen=True, kw_only=True)
class Split:
    """A frame as two independent ones.

    - `first`, `second` (rows, columns): in electrons; their means are `share` and 1 - `share` of
      the frame's.
    - `law`, `other_law`: their noise laws.
    - `valid`: the recorded share of each pixel, by which the pixel is weighted (None: 1
      everywhere).
    """

    first: Array
    second: Array
    share: float
    law: NoiseLaw
    other_law: NoiseLaw
    valid: Array | None = None

    @cached_property
    def level(self) -> float:
        """Mean of the first part."""
        return mean_of(self.first, self.valid)

    @cached_property
    def other_variance(self) -> float:
        """Variance of a pixel of the second part, at its mean."""
        return float(self.other_law.variance(float(self.second.mean())))

    def fill_first(self, guess: Array) -> Split:
        """Take the unrecorded pixels of the first part from an image of it."""
        if self.valid is None:
            return self
        return replace(self, first=fill_with(guess, self.first, self.valid))


def fill_with(image: Array, counts: Array, valid: Array) -> Array:
    """The counts; for the share of a pixel that was not recorded (1 - `valid`), the `image`."""
    return np.asarray(image + valid * (counts - image), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A frame's counts as they were recorded, on its own grid.

    - `electrons` (rows, columns): the counts.
    - `law`: the noise law of such a pixel.
    - `grids`: that of the frame, and the generator's.
    - `depth`: how often they were thinned already.
    - `bad`: the pixels that were filled in (None: none).
    - `stream`: the number of the frame in its movie, 0 for a frame alone. Each frame of a movie is
      thinned by draws of its own. With the same draws, the held-out counts of one frame would be
      correlated with the remaining counts of another.

    Counts are thinned as they were recorded and then summed onto the generator's grid. Sums over
    parts of pixels have less than Poisson's variance, and thinning them would leave the two sets
    correlated. Whole numbers are stored as integers, in a quarter of the memory: for a large frame
    several such arrays exist at a time.
    """

    electrons: Electrons
    law: NoiseLaw
    grids: Grids
    depth: int = 0
    bad: Mask | None = None
    stream: int = 0

    def __post_init__(self) -> None:
        if self.electrons.dtype == np.float32 and _are_counts(self.electrons, self.law):
            object.__setattr__(self, "electrons", _small(self.electrons))

    @cached_property
    def valid(self) -> Array | None:
        """Share of each pixel of the generator's grid that good pixels recorded; None: all of
        each."""
        if self.bad is None:
            return None
        return bin_sum((~self.bad).astype(np.float32), self.grids) / np.float32(self.grids.area)

    def refill(self, image: Array) -> Recorded:
        """Draw the bad pixels anew from an `image` of the counts, electrons per pixel of the
        generator's grid. A filter then sees there what its surroundings show."""
        if self.bad is None:
            return self
        place = [0x4E11, self.depth, *([self.stream] if self.stream else [])]
        mean = unbin(image, self.grids)[self.bad] / np.float32(self.grids.area)
        electrons = self.electrons.astype(np.float32)
        electrons[self.bad] = self.law.draw(mean, np.random.default_rng(place))
        return replace(self, electrons=electrons)

    def split(self, seed: int) -> tuple[Split, Recorded]:
        """The two sets on the generator's grid, and the first as recorded, so that it can be
        thinned again."""
        parts = split(self.electrons, self.law, seed, self.depth, self.stream)
        first = replace(self, electrons=parts.first, law=parts.law, depth=self.depth + 1)
        return bin_parts(parts, self.grids, self.valid), first


def bin_parts(parts: Split, grids: Grids, valid: Array | None = None) -> Split:
    """Two parts of recorded counts, each summed onto the generator's grid. `valid`: the recorded
    share of each pixel of that grid."""
    return replace(
        parts,
        first=bin_sum(parts.first.astype(np.float32, copy=False), grids),
        second=bin_sum(parts.second.astype(np.float32, copy=False), grids),
        law=parts.law.of_sum(grids.area),
        other_law=parts.other_law.of_sum(grids.area),
        valid=valid,
    )


def split(binned: Any, law: NoiseLaw, seed: int, depth: int = 0, stream: int = 0) -> Split:
    """Thin a frame (rows, columns) in electrons, float32 or whole numbers; the parts have the same
    type. The same seed gives the same split. Counts that were thinned before need another `depth`,
    or the draws would be the same again. Another frame of a movie needs another `stream`."""
    place = [depth, stream] if stream else [depth] if depth else []
    rng = np.random.default_rng([seed, 0x7E1D, *place])
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
    draw = _fresh_noise(binned, law, rng)
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


def thin(counts: Array, law: NoiseLaw, share: float, rng: np.random.Generator) -> Array:
    """A part (rows, columns) of `counts`, float32, with the mean `share` of theirs, independent of
    the rest. Like `split`, but for any share and without a seed of its own."""
    if _are_counts(counts, law):
        return rng.binomial(np.round(counts).astype(np.int64), share).astype(np.float32)
    draw = _fresh_noise(counts, law, rng)
    return np.asarray(share * counts + np.sqrt(share * (1 - share)) * draw, dtype=np.float32)


def _fresh_noise(binned: Any, law: NoiseLaw, rng: np.random.Generator) -> Any:
    """Gaussian noise with the strength of that of the counts, and spread over pixels as that is."""
    deviation = law.deviation(np.maximum(gaussian_filter(binned, 2.0), 0))
    draw = deviation * rng.standard_normal(binned.shape)
    if not law.spread:
        return draw
    for axis in range(draw.ndim):
        draw = correlate1d(draw, spread_kernel(law.spread), axis, mode="mirror")
    return draw * law.coarse**0.5


def _are_counts(binned: Any, law: NoiseLaw) -> bool:
    """Whether these are whole numbers, none negative, under Poisson's law."""
    poisson = law == POISSON
    if not poisson or binned.dtype != np.float32:
        return poisson
    parts = (binned[rows] for rows in strips((binned.shape[0], binned.shape[1]), STRIP_PIXELS))
    # Counts that an offset and a gain were taken off are whole but for single precision's rounding.
    return all(np.abs(part - np.round(part)).max() < 1e-3 and part.min() > -0.5 for part in parts)


def _small(counts: Any) -> Any:
    """Whole numbers in the smallest type that can hold them, converted strip by strip. The same
    array if no smaller type can."""
    most = counts.max()
    if most > np.iinfo(np.uint16).max:
        return counts
    small = np.empty(counts.shape, np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16)
    for rows in strips((counts.shape[0], counts.shape[1]), STRIP_PIXELS):
        small[rows] = np.round(counts[rows])
    return small

"""How much of the residual and of a plain filter goes into the result, chosen on counts held out of
the estimate.

Counts are thinned into two independent sets: of Poisson counts each electron goes to the first set
with probability 1 - HELD_OUT and to the second otherwise (binomial thinning); Gaussian noise is
split by adding and subtracting a multiple of the same draw (Leiner et al. 2023, data fission, with
which noise that is neither is split approximately). What is estimated from the first is scored on
the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.frames.resampling import Grids, bin_sum
from gdn.likelihood import STRIP_PIXELS, Array, NoiseLaw, frame_negative_log_likelihoods, strips
from gdn.search.residual import shrunk_residual, shrunk_residuals

Electrons = Array | NDArray[np.uint8] | NDArray[np.uint16]

HELD_OUT = 0.25
THRESHOLDS = (np.inf, 2.5, 2.0, 1.7, 1.4)  # of the residual's shrinkage; inf adds nothing
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # px, of Gaussian filters
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of the plain filter, from none to all
MARGIN = 3.0  # nats that more freedom must gain


@dataclass(frozen=True, kw_only=True)
class Split:
    """A frame as two independent ones. `first` and `second` (rows, columns) in electrons; their
    means are `share` and 1 - `share` of the frame's, their noise laws `law` and `other_law`."""

    first: Array
    second: Array
    share: float
    law: NoiseLaw
    other_law: NoiseLaw


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
    `law` of such a pixel; `depth`, how often they were thinned already.

    Counts are thinned where they were recorded and then summed on the generator's grid: sums over
    parts of pixels have less than Poisson's variance, and thinning them would leave the two sets
    correlated. Whole numbers are kept as such, in a quarter of the memory: a large frame has
    several of these at a time.
    """

    electrons: Electrons
    law: NoiseLaw
    grids: Grids
    depth: int = 0

    def __post_init__(self) -> None:
        if self.electrons.dtype == np.float32 and _are_counts(self.electrons, self.law):
            object.__setattr__(self, "electrons", _small(self.electrons))

    def split(self, seed: int) -> tuple[Split, Recorded]:
        """The two sets on the generator's grid, and the first as recorded, to be thinned again."""
        parts = split(self.electrons, self.law, seed, self.depth)
        area = self.grids.area
        binned = replace(
            parts,
            first=bin_sum(parts.first.astype(np.float32, copy=False), self.grids),
            second=bin_sum(parts.second.astype(np.float32, copy=False), self.grids),
            law=parts.law.of_sum(area),
            other_law=parts.other_law.of_sum(area),
        )
        return binned, Recorded(parts.first, parts.law, self.grids, self.depth + 1)


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
    poisson = law.poisson
    if not poisson or binned.dtype != np.float32:
        return poisson
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
    flat = np.full_like(guess, parts.first.mean())
    images = [guess + part for part in shrunk_residuals(parts.first - guess, noise, THRESHOLDS)]
    level, *losses = _losses([flat, *images], parts)
    best, own = _first_of_best([level - loss for loss in losses], MARGIN)
    threshold, mine = THRESHOLDS[best], images[best]
    widths = (None, *WIDTHS)
    images = [plain_filter(parts.first, noise, width) for width in widths]
    best, other = _first_of_best([level - loss for loss in _losses(images, parts)], 0.0)
    width, its = widths[best], images[best]
    images = [((1 - share) * mine + share * its).astype(np.float32) for share in MIXTURES[1:-1]]
    between = [level - loss for loss in _losses(images, parts)]
    share = MIXTURES[_first_of_best([own, *between, other], MARGIN)[0]]
    choice = Choice(threshold=threshold, share=share, width=width, generator=own, filter=other)
    return choice, mine, its


def explained_nats(parts: Split, guess: Array) -> float:
    """Nats by which a generator's image `guess` of the first part, with what of its residual stands
    out clearly, explains the second part better than the first's mean does."""
    image = guess + shrunk_residual(parts.first - guess, parts.law.deviation(guess))
    flat = np.full_like(guess, parts.first.mean())
    level, loss = _losses([flat, image], parts)
    return level - loss


def _first_of_best(gains: Sequence[float], margin: float) -> tuple[int, float]:
    """Number and gain of the first image that no later one beats by the margin: freedom has to be
    earned."""
    best = 0
    for number, gain in enumerate(gains):
        if gain > gains[best] + margin:
            best = number
    return best, gains[best]


def _losses(images: Sequence[Array], parts: Split) -> list[float]:
    """Negative log-likelihoods of the second part, nats."""
    ratio = (1 - parts.share) / parts.share
    return frame_negative_log_likelihoods(images, ratio, parts.second, parts.other_law)

"""A score without ground truth, on counts that the estimate has not seen: gdn against a plain
filter and a flat image (docs/method.md, "Trust").

The recorded counts are split into two independent parts (`Recorded.split`). Images are made from
the first and compared on the second. For two images a, b and counts y of mean x, all in electrons,
the mean of (b^2 - a^2) - 2 (b - a) y over pixels is an unbiased estimate of the mean of (b - x)^2 -
(a - x)^2, because E y = x (the cross term of Stein 1981, without its derivative, because y is
independent of a and b). Its variance is 4 sum (b - a)^2 Var(y) / n^2. The error of one image alone
has the unbiased estimate mean of (a - y)^2 - Var(y). At low dose the noise of y^2 makes it useless;
the difference does not have this noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.frames.examined import fill_with_noise
from gdn.likelihood import FLOOR, Array, strips
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate, estimate
from gdn.search.progress import Progress, Watch
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded, Split
from gdn.search.tiles import Binned, mean_of
from gdn.trust.comparison import Comparison, Expected

Values = NDArray[np.float64]

WIDTHS = (
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    6.0,
    8.0,
    12.0,
    20.0,
)  # px of the generator's grid
STRIP_PIXELS = 2**20  # compared at a time


def blur_counts(counts: Array, width: float, valid: Array | None = None) -> Array:
    """`counts` (rows, columns) blurred by a Gaussian of `width` px; with an infinite width their
    mean everywhere. `valid` is the recorded share of each pixel, by which it is weighted (None: 1
    everywhere)."""
    if np.isinf(width):
        return np.full_like(counts, mean_of(counts, valid))
    if valid is not None:
        near = gaussian_filter(valid, width, mode="reflect")
        blur = gaussian_filter(valid * counts, width, mode="reflect")
        return np.where(near > 1e-6, blur / np.maximum(near, 1e-6), mean_of(counts, valid))
    return np.asarray(gaussian_filter(counts, width, mode="reflect"), dtype=np.float32)


class HeldOut:
    """gdn's image `mine`, in electrons of the whole frame, and counts that it has not seen, whose
    mean is the `share` of the frame's. `own` is its expected error."""

    def __init__(self, mine: Array, held: Binned, share: float, own: Expected) -> None:
        self._mine, self._counts, self._share, self._own = mine, held.counts, share, own
        self.valid = held.valid
        self._gaussian, self._beta = held.law.gaussian, held.law.beta
        # Unbiased: a pixel is its own estimate of its mean.
        self._variance = held.law.variance(held.counts.astype(np.float64))
        self._strips = strips(held.counts.shape, STRIP_PIXELS)
        self._level = mean_of(mine, held.valid) ** 2
        self._pixels = mine.size if held.valid is None else float(held.valid.sum(dtype=np.float64))

    def compare(self, name: str, other: Array) -> Comparison:
        """Compare gdn's image with the `other`, called `name`, also in electrons of the whole
        frame."""
        level, n = self._level, self._pixels
        sums = sum(self._sums(self._mine[rows], other[rows], rows) for rows in self._strips)
        difference, square, nats, nats_square, measured, measured_square = (
            float(v) for v in np.asarray(sums)
        )
        measured /= n
        spread = np.sqrt(max(measured_square / n - measured**2, 0) / n)
        return Comparison(
            against=name,
            difference=difference / n / level,
            error=2 * square**0.5 / n / level,
            expected=self._own.square,
            nats=nats,
            nats_error=nats_square**0.5,
            expected_error=self._own.error,
            measured=measured / level,
            measured_error=float(spread) / level,
        )

    def _sums(self, mine: Array, other: Array, rows: slice) -> Values:
        """Sums over some rows, of recorded pixels: the difference, its variance / 4, the nats,
        their variance, the unbiased squared error, and its square."""
        share, valid = self._share, self.valid
        w = np.float64(1) if valid is None else valid[rows].astype(np.float64)
        a, b, y = (image.astype(np.float64) for image in (mine, other, self._counts[rows]))
        variance = self._variance[rows] / share**2
        difference = (b**2 - a**2) - 2 * (b - a) * y / share
        gain, slope = self._likelihood_gain(a * share, b * share, y)
        squared = (a - y / share) ** 2 - variance  # unbiased for (a - x)^2, for the same reason
        return np.array(
            [
                (w * difference).sum(),
                (w * ((b - a) ** 2 * variance)).sum(),
                (w * gain).sum(),
                (w * (slope**2 * self._variance[rows])).sum(),
                (w * squared).sum(),
                (w * squared**2).sum(),
            ]
        )

    def _likelihood_gain(self, a: Values, b: Values, y: Values) -> tuple[Values, Values]:
        """log p(y | a) - log p(y | b) of each pixel, nats, and its derivative in y."""
        beta = self._beta
        if self._gaussian:
            return ((b - y) ** 2 - (a - y) ** 2) / (2 * beta), (a - b) / beta
        upper, lower = (np.maximum(m + beta, FLOOR) for m in (a, b))
        slope = np.log(upper / lower)
        return (y + beta) * slope - (upper - lower), slope


def recover_recorded(frame: Array, result: FrameResult, stream: int = 0) -> Recorded:
    """The electrons of a `frame` (as recorded), by the noise model of its result."""
    noise = result.noise
    whole = frame if result.bad is None else fill_with_noise(frame, result.bad, noise)
    return Recorded(
        electrons=noise.electrons(whole),
        law=noise.law,
        grids=result.grids,
        bad=result.bad,
        stream=stream,
    )


@dataclass(frozen=True)
class Halves:
    """gdn's image `mine` of the first of two `parts` of a frame's counts, scaled to all of them."""

    parts: Split
    mine: Array


def denoise_part(
    estimated: Estimate,
    recorded: Callable[[], Recorded],
    seed: int,
    searcher: Searcher,
    progress: Progress = lambda share: None,
) -> Halves:
    """Run gdn on one part of the counts, with all candidates of the mixture. If the estimate was
    chosen by these parts, they and the candidates' images of the first are used again; else
    `recorded` is needed."""
    known, theirs = estimated.thinned, None
    if known is None or known.seed != seed:
        parts, again = recorded().split(seed)
    else:
        parts, again = known.parts, known.recorded
        theirs = known.images if known.others == tuple(searcher.others) else None
    first = Binned(parts.first, parts.law, estimated.binned.valid)
    plain = replace(searcher, settings=replace(searcher.settings, laplace="none"))
    image = estimate(first, plain, Watch(progress=progress, spread=False), again, theirs).image
    return Halves(parts, image / np.float32(parts.share))


def score_held_out(halves: Halves, own: Expected) -> list[Comparison]:
    """gdn minus the best Gaussian blur, and minus the flat image, on a part of the frame's counts.

    gdn runs on the other part (`denoise_part`). The blur's width is the one that is best on the
    held-out counts themselves, which favours the blur. `own` is the expected error of the whole
    frame's result.
    """
    parts = halves.parts
    held = HeldOut(
        halves.mine,
        Binned(parts.second, parts.other_law, parts.valid),
        1 - parts.share,
        own.with_share(parts.share),
    )
    return _against(held, parts.first / np.float32(parts.share))


def score_on_following(estimate: Estimate, following: Binned, own: Expected) -> list[Comparison]:
    """The same scores on the counts of the next frame. It must show the same object, unmoved. No
    counts are held out."""
    share = following.level / estimate.binned.level
    return _against(HeldOut(estimate.image, following, share, own), estimate.binned.counts)


def _against(held: HeldOut, counts: Array) -> list[Comparison]:
    """gdn's image against the best blur of `counts`, and against their mean."""

    def compare(name: str, width: float) -> Comparison:
        other = blur_counts(counts, width, held.valid)
        return replace(held.compare(name, other), width=width)

    blurs = [compare("best blur", width) for width in WIDTHS]
    return [min(blurs, key=lambda c: c.difference), compare("constant", np.inf)]

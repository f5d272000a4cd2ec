"""What the counts show beyond the generator's range, and how much of it and of a plain filter goes
into the result. Held-out counts decide (docs/method.md, "Beyond the generator").

The residual is divided by the known standard deviation of its noise, so that every windowed Fourier
coefficient of pure noise has power 1. A first pass shrinks coefficients in small neighbourhoods by
the James-Stein rule (Cai 1999, block thresholding). It sets to zero what does not rise above the
noise, so a frame that the generator explains does not change. Its result is the pilot of a second
pass, the empirical Wiener filter (Ghael et al. 1997): each coefficient is multiplied by p / (p +
1), where p is its power in the pilot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from gdn.likelihood import Array, frame_negative_log_likelihoods
from gdn.search.thinning import Split

THRESHOLDS = (np.inf, 2.5, 2.0, 1.7, 1.4)  # of the residual's shrinkage; inf adds nothing
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # px, of Gaussian filters
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of the plain filter, from none to all
MARGIN = 3.0  # nats that more freedom must gain
WINDOW = 32  # binned px
HOP = 8
STRIP_PIXELS = 2**20  # in memory at a time, at fifty bytes each
NEIGHBOURHOOD = 3  # Fourier coefficients along each axis
LEAST_VARIANCE = 0.1  # of the mean: an image that is 0, or less, does not know its own noise
THRESHOLD = 2.5  # mean power below which a neighbourhood of noise alone is set to zero
Spectra = NDArray[np.complex128]

_RAMP = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW)
_TAPER = np.outer(_RAMP, _RAMP)
_NORM = float(np.sqrt((_TAPER**2).sum()))  # makes unit white noise of unit power


@dataclass(frozen=True)
class Gains:
    """Nats by which images of a frame's first part explain the second part better than its mean
    does: the generator's with its `residual`, for each of THRESHOLDS, and those of the plain
    `filter`, for windowed shrinkage and each of WIDTHS."""

    residual: NDArray[np.float64]
    filter: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the held-out counts chose.

    - `threshold`: of the residual's coefficients.
    - `share`: of the plain filter in the result.
    - `width`: the filter's width, px (None: windowed shrinkage of the counts themselves).
    - `level`: local power below which a place shows no structure (`gdn.search.flat_places`).
    - `generator`, `filter`: their held-out scores: nats of the whole frame by which they are better
      than its mean.
    """

    threshold: float = 2.5
    share: float = 0.0
    width: float | None = None
    level: float = 0.0
    generator: float = float("nan")
    filter: float = float("nan")

    @property
    def filter_wins(self) -> bool:
        """Whether the plain filter alone explains the held-out counts better than generator and
        residual."""
        return self.filter > self.generator + MARGIN


def apply_plain_filter(counts: Array, sigma: Array, width: float | None) -> Array:
    """The plain filter's image of `counts`: a Gaussian blur of `width` px, or windowed shrinkage
    towards the mean."""
    if width is not None:
        return np.asarray(gaussian_filter(counts, width, mode="reflect"), dtype=np.float32)
    mean = np.float32(counts.mean())
    return np.asarray(mean + shrink_residual(counts - mean, sigma), dtype=np.float32)


def measure_gains(parts: Split, guess: Array) -> Gains:
    """The gains of one frame. `guess` is a generator's image of the first part."""
    return _images_and_gains(parts.fill_first(guess), guess)[2]


def choose(parts: Split, guess: Array, beside: Sequence[Gains] = ()) -> tuple[Choice, Array, Array]:
    """Choose the threshold, share and filter of least held-out loss. Also returns the image of the
    generator with its residual, and that of the filter. `guess` is a generator's image of the first
    part.

    `beside` are the gains of other frames of one movie. They are added to this frame's own: what is
    chosen is best for all of them together. The scores of the choice are this frame's alone.
    """
    parts = parts.fill_first(guess)
    with_residual, filtered, gains = _images_and_gains(parts, guess)
    frames = [gains, *beside]
    ours, theirs = (np.sum([getattr(f, n) for f in frames], 0) for n in ("residual", "filter"))
    best = _first_of_best(ours, MARGIN)
    other = _first_of_best(theirs, 0.0)
    mine, its = with_residual[best], filtered[other]
    ends = float(gains.residual[best]), float(gains.filter[other])
    mixed = [((1 - share) * mine + share * its).astype(np.float32) for share in MIXTURES[1:-1]]
    between = _gains(mixed, parts)
    if beside:
        # What a mixture gains beyond the mean of its ends is about the same in every frame.
        between = [
            (1 - share) * ours[best]
            + share * theirs[other]
            + len(frames) * (gain - (1 - share) * ends[0] - share * ends[1])
            for share, gain in zip(MIXTURES[1:-1], between, strict=True)
        ]
    share = MIXTURES[_first_of_best([ours[best], *between, theirs[other]], MARGIN)]
    width = (None, *WIDTHS)[other]
    choice = Choice(
        threshold=THRESHOLDS[best], share=share, width=width, generator=ends[0], filter=ends[1]
    )
    return choice, mine, its


def _images_and_gains(parts: Split, guess: Array) -> tuple[list[Array], list[Array], Gains]:
    """The generator's images with each residual, the filter's images, and the gains of both."""
    noise = parts.law.deviation(guess)
    residuals = shrink_residuals(parts.first - guess, noise, THRESHOLDS)
    with_residual = [guess + part for part in residuals]
    filtered = [apply_plain_filter(parts.first, noise, width) for width in (None, *WIDTHS)]
    both = np.array(_gains([*with_residual, *filtered], parts))
    gains = Gains(both[: len(with_residual)], both[len(with_residual) :])
    return with_residual, filtered, gains


def explained_nats(parts: Split, guess: Array, residual: bool = True) -> float:
    """Nats by which a generator's image `guess` of the first part explains the second part better
    than the mean of the first does. With `residual` its clearly significant part is added to the
    guess."""
    parts = parts.fill_first(guess)
    image = guess
    if residual:
        image = guess + shrink_residual(parts.first - guess, parts.law.deviation(guess))
    return _gains([image], parts)[0]


def _gains(images: Sequence[Array], parts: Split) -> list[float]:
    """Nats by which `images` explain the second part better than the mean of the first does."""
    flat = np.full_like(images[0], parts.level)
    level, *others = losses([flat, *images], parts)
    return [level - loss for loss in others]


def _first_of_best(gains: Sequence[float] | NDArray[np.float64], margin: float) -> int:
    """Number of the first image that no later one beats by the margin. A later image has more free
    parameters, so it must gain more."""
    best = 0
    for number, gain in enumerate(gains):
        if gain > gains[best] + margin:
            best = number
    return best


def losses(images: Sequence[Array], parts: Split) -> list[float]:
    """Negative log-likelihoods of the second part, nats, if the expected counts of the first are
    each of `images`."""
    ratio = (1 - parts.share) / parts.share
    return frame_negative_log_likelihoods(images, ratio, parts.second, parts.other_law, parts.valid)


def shrink_residual(residual: Array, sigma: Array, threshold: float = THRESHOLD) -> Array:
    """The significant part of `residual` (rows, columns) whose noise has standard deviation
    `sigma`.

    Both float32 in the same units and on the same grid; returns float32 of that shape. A
    `threshold` of infinity leaves nothing.
    """
    return shrink_residuals(residual, sigma, (threshold,))[0]


def shrink_residuals(residual: Array, sigma: Array, thresholds: Sequence[float]) -> list[Array]:
    """Apply `shrink_residual` for each of `thresholds`."""
    rows, columns = residual.shape
    kept = [np.zeros_like(residual) for _ in thresholds]
    least = np.float32(np.sqrt(LEAST_VARIANCE * (sigma**2).mean(dtype=np.float64)))
    step = max(2 * WINDOW, STRIP_PIXELS // columns // HOP * HOP)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        # Each pass looks a window further; no further than the whole frame's windows, so that
        # strips do not show.
        low = max(-WINDOW, first - 2 * WINDOW)
        high = min(rows + WINDOW + -rows % HOP, last + 2 * WINDOW + -last % HOP)
        at = np.ix_(_mirrored(np.arange(low, high), rows), _mirrored(_span(columns), columns))
        white = np.asarray(residual[at] / np.maximum(sigma[at], least), dtype=np.float64)
        inner = (slice(first - low, last - low), slice(WINDOW, WINDOW + columns))
        for part, threshold in zip(kept, thresholds, strict=True):
            if np.isfinite(threshold):
                pilot = _in_windows([white], partial(_shrink, threshold))
                wiener = _in_windows([white, pilot], _wiener)
                part[first:last] = wiener[inner] * np.maximum(sigma[first:last], least)
    return kept


def _in_windows(
    images: list[NDArray[np.float64]], rule: Callable[[list[Spectra]], Spectra]
) -> NDArray[np.float64]:
    """Apply `rule` to the images' windowed spectra, a row of windows (n, WINDOW, WINDOW / 2 + 1) at
    a time, and join the results."""
    rows, columns = (np.arange(0, n - WINDOW + 1, HOP) for n in images[0].shape)
    total = np.zeros(images[0].shape)
    weight = np.full(images[0].shape, 1e-12)
    for y in rows:
        stacks = [
            np.stack([image[y : y + WINDOW, x : x + WINDOW] for x in columns]) for image in images
        ]
        kept = np.fft.irfft2(
            rule([np.fft.rfft2(s * _TAPER) / _NORM for s in stacks]) * _NORM, s=(WINDOW, WINDOW)
        )
        for x, tile in zip(columns, kept, strict=True):
            total[y : y + WINDOW, x : x + WINDOW] += tile * _TAPER
            weight[y : y + WINDOW, x : x + WINDOW] += _TAPER**2
    return np.asarray(total / weight)


def _span(n: int) -> NDArray[np.int64]:
    """Pixels of an axis, with one window before and up to two after, so that whole windows cover
    it."""
    return np.arange(-WINDOW, n + WINDOW + -n % HOP)


def _mirrored(i: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The pixels of an axis of length `n` that continue it by mirroring beyond its ends, at any
    distance."""
    return np.where((i // n) % 2 == 0, i % n, n - 1 - i % n)


def _shrink(threshold: float, spectra: list[Spectra]) -> Spectra:
    """James-Stein shrinkage of (n, rows, columns) coefficients whose noise has power 1."""
    spectrum = spectra[0]
    local = uniform_filter(
        np.abs(spectrum) ** 2, size=(1, NEIGHBOURHOOD, NEIGHBOURHOOD), mode="wrap"
    )
    return np.asarray(spectrum * np.maximum(0, 1 - threshold / np.maximum(local, 1e-12)))


def _wiener(spectra: list[Spectra]) -> Spectra:
    noisy, pilot = spectra
    power = np.abs(pilot) ** 2
    return np.asarray(noisy * (power / (power + 1)))

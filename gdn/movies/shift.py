"""The shift of one frame of a movie against the contrast that is expected of it (docs/method.md,
"Movies", "Drift").

Of two pixels that both images have, half the squared difference counts, not the correlation alone.
The correlation prefers shifts that bring more of a crystal into the overlap: often the next spacing
of its lattice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from gdn.likelihood import Array

Shifts = NDArray[np.float64]

REACH_ANGSTROM = 12.0  # between a frame and its neighbours
# What is expected of a step: most are small, and some are large. It decides only where the counts
# say little: a lattice spacing of 2 Å costs five nats, where a frame of the study's dose holds
# thousands.
STEP_ANGSTROM, TAIL = 1.0, 3.0
FINER = (4, 4, 2)  # times finer from look to look: a 16th of a pixel at last
PEAKS = 9  # that are looked at more finely, at most
NEARLY = 0.15  # by which they are lower than the highest, at most, as a share of it
CHANCE = 3.0  # deviations by which a reference without any truth in it may look like a frame
MIRRORED = 16  # px
LEAST_OVERLAP = 0.5  # share of the field along either axis


def shift_between(
    counts: Array, reference: Array, pixel: float, near: Shifts | None = None
) -> Shifts:
    """The most likely shift (rows, columns) px of `counts` against a `reference`, both (rows,
    columns) with pixels of `pixel` Å, not far from `near`. The reference is the contrast that is
    expected: less the mean, and as a share of it.

    It is where half the squared difference of both is least, over the pixels that both have. Only
    the signal of the counts goes in, and of it only the part that the reference knows, which is
    estimated from the highest correlation: a reference that knows little moves nothing away from
    `near` (docs/method.md, "Movies").
    """
    middle = np.zeros(2) if near is None else near
    span = np.arange(-int(REACH_ANGSTROM / pixel), int(REACH_ANGSTROM / pixel) + 1)
    level = max(float(counts.mean(dtype=np.float64)), 1e-30)
    reference = reference * np.float32(level)
    compared = _Compared(counts, reference, int(np.abs(middle).max() + span[-1]) + 2)

    def prior(rows: Shifts, columns: Shifts) -> Shifts:
        square = (rows - middle[0])[:, None] ** 2 + (columns - middle[1]) ** 2
        return np.asarray(TAIL * np.log1p(square * (pixel / STEP_ANGSTROM) ** 2))

    def correlation(rows: Shifts, columns: Shifts) -> Shifts:
        return compared.likeness(rows, columns, 0) / level - prior(rows, columns)

    rows, columns = (start + span.astype(float) for start in np.rint(middle))
    contrast = max(float(np.square(reference, dtype=np.float64).sum()) / level, 1e-30)
    highest = float(correlation(rows, columns).max())
    known = float(np.clip(highest / contrast - CHANCE / contrast**0.5, 0, 1))

    def value(rows: Shifts, columns: Shifts) -> Shifts:
        like = compared.likeness(rows, columns, known) / level
        # Minus infinity where little overlaps, also if nothing is known.
        return np.where(np.isfinite(like), known * like, -np.inf) - prior(rows, columns)

    # Beside a peak the squares hardly change, but for their noise.
    refined = [
        _refine(correlation, np.array([rows[y], columns[x]]))
        for y, x in _peaks(value(rows, columns))
    ]
    return max(refined, key=lambda shift: float(value(shift[:1], shift[1:])[0, 0]))


def _refine(value: Callable[[Shifts, Shifts], Shifts], shift: Shifts) -> Shifts:
    """Where the highest `value` beside whole `shift` px is."""
    step = 1.0
    for finer in FINER:
        step /= finer
        rows, columns = (start + step * np.arange(-finer, finer + 1) for start in shift)
        values = value(rows, columns)
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        shift = np.array([rows[y], columns[x]])
    return shift


def _peaks(values: Shifts) -> list[tuple[int, int]]:
    """Local maxima of `values`, the highest first. On a lattice some are nearly as high as the
    highest. The true one may lie between whole pixels, and look lower there than one that does
    not."""
    highest = float(values.max())
    peaks = values == maximum_filter(values, size=3, mode="constant", cval=-np.inf)
    peaks &= values >= highest - NEARLY * abs(highest)
    places = [(int(y), int(x)) for y, x in np.argwhere(peaks)]
    return sorted(places, key=lambda place: -values[place])[:PEAKS]


class _Compared:
    """Counts and a reference, both (rows, columns), in Fourier space. They are padded by `beyond`
    px so that shifts of up to that many do not wrap around."""

    def __init__(self, counts: Array, reference: Array, beyond: int) -> None:
        self._shape = [scipy.fft.next_fast_len(n + beyond, real=True) for n in counts.shape]
        ours, theirs, ones = (
            scipy.fft.fft2(image.astype(np.float64), s=self._shape)
            for image in (counts - counts.mean(), reference, np.ones_like(counts))
        )
        self._least = LEAST_OVERLAP**2 * counts.size
        self._products = [
            first * second.conj()
            for first, second in ((ours, theirs), (ours, ones), (ones, theirs), (ones, ones))
        ]
        signal = _signal(counts, reference)
        squares = scipy.fft.fft2(reference.astype(np.float64) ** 2, s=self._shape)
        signals = scipy.fft.fft2(signal, s=self._shape)
        self._products.append(signals * ones.conj() + ones * squares.conj())

    def likeness(self, rows: Shifts, columns: Shifts, known: float) -> Shifts:
        """Minus half the squared difference of the signals at every shift of `rows` and `columns`,
        px, over the pixels that both have; minus infinity where little overlaps. Of the squares of
        both only the share that is `known` is taken: 0 leaves the covariance. Between pixels the
        images are assumed to be band-limited; sums of pixels nearly are."""
        along = [
            np.exp(2j * np.pi * np.outer(shifts, np.fft.fftfreq(n)))
            for shifts, n in zip((rows, columns), self._shape, strict=True)
        ]
        pixels = self._shape[0] * self._shape[1]
        both, ours, theirs, overlap, squares = (
            (along[0] @ product @ along[1].T).real / pixels for product in self._products
        )
        # Of the means where they overlap: those of the whole images would pull towards no shift.
        n = np.maximum(overlap, 1)
        value = both - ours * theirs / n
        value -= known / 2 * (squares - (ours**2 + theirs**2) / n)
        value[overlap < self._least] = -np.inf
        return np.asarray(value)


def _signal(counts: Array, reference: Array) -> Shifts:
    """The squared signal in each pixel of `counts`, without bias: a pixel times what Wiener's
    filter makes of it, with the spectrum of the `reference`, less what the noise adds."""
    level = float(counts.mean(dtype=np.float64))
    # Mirrored beyond the edges, where it counts most: there the frames do not overlap.
    edge = [(min(MIRRORED, n // 2),) * 2 for n in counts.shape]
    ours, theirs = (np.pad(x, edge, mode="symmetric") for x in (counts - level, reference))
    power = np.abs(scipy.fft.rfft2(theirs.astype(np.float64), norm="ortho")) ** 2
    wiener = power / (power + max(level, 1e-30))
    filtered = scipy.fft.irfft2(wiener * scipy.fft.rfft2(ours), s=ours.shape)
    passed = scipy.fft.irfft2(wiener, s=ours.shape)[0, 0]
    inner = tuple(slice(low, -high or None) for low, high in edge)
    return np.asarray((ours * filtered)[inner] - level * passed)

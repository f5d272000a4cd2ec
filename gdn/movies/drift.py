"""Estimate how far a specimen drifted between the frames of a movie (docs/method.md, "Movies").

At low dose two frames cannot be compared with each other: their correlation has its peaks where
noise and the lattice happen to put them. So each frame's counts are compared with a reference,
which is restored from the aligned sum of other frames. If the noise is nearly white, the shift with
the highest correlation with the true image is the most likely one. First each frame, in order, is
compared with those before it. Then, several times, the even frames are compared with a reference of
the odd ones, and the odd ones with a reference of the even ones. A frame is never in its own
reference, because its noise would keep it at its earlier place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from gdn.likelihood import Array
from gdn.search.restored import bin_by

Shifts = NDArray[np.float64]
Smooth = Callable[[Array], Array]

FINE_ANGSTROM = 0.12  # of the pixels by which frames are moved: half of one is below all detail
BEFORE = 16  # frames of the first reference
PIECE = 40  # frames in memory
REACH_ANGSTROM = 12.0  # between a frame and its neighbours
# What is expected of a step: most are small, and some are large. It decides only where the counts
# say little: a lattice spacing of 2 Å costs five nats, where a frame of the study's dose holds
# thousands.
STEP_ANGSTROM, TAIL = 1.0, 3.0
ROUNDS = 3  # of each half against the other
FINER = (4, 4, 2)  # times finer from look to look: a 16th of a pixel at last
LEAST_OVERLAP = 0.5  # share of the field along either axis


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Frames of one field.

    - `counts`: each (rows, columns) in electrons per pixel of about FINE_ANGSTROM, None for a frame
      that cannot be used.
    - `coarse`: number of these pixels along a side of a pixel in which frames are compared.
    - `smooth`: makes the expected image from a sum of counts in such pixels.
    """

    counts: list[Array | None]
    coarse: int
    smooth: Smooth

    def summed(self, shifts: Shifts, chosen: Sequence[int], at: Shifts) -> Array:
        """The sum of the `chosen` frames, moved back by their `shifts` relative to `at`, fine px:
        per frame, in coarse pixels."""
        used = [(self.counts[index], shifts[index] - at) for index in chosen]
        shape = next(counts.shape for counts in self.counts if counts is not None)
        total, exposure = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for counts, shift in used:
            if counts is not None:
                add_moved(total, exposure, counts, shift)
        mean = total.sum(dtype=np.float64) / max(exposure.sum(dtype=np.float64), 1e-30)
        # Where no frame reaches, nothing is known.
        known = np.where(exposure > 0, total / np.maximum(exposure, 1), np.float32(mean))
        return bin_by(known.astype(np.float32), self.coarse)

    def usable(self, chosen: range) -> list[int]:
        """Those of the `chosen` frames that can be used."""
        return [index for index in chosen if self.counts[index] is not None]

    def reference(self, shifts: Shifts, chosen: Sequence[int], at: Shifts) -> Array:
        """The expected image of one frame, from the sum of the `chosen` ones, without its mean."""
        many = np.float32(len(chosen))
        image = self.smooth(self.summed(shifts, chosen, at) * many) / many
        return np.asarray(image - image.mean(), dtype=np.float32)

    def whole(self, index: int) -> Array | None:
        """A frame in coarse pixels."""
        counts = self.counts[index]
        return None if counts is None else bin_by(counts.astype(np.float32), self.coarse)


def add_moved(total: Array, exposure: Array, frame: Array, shift: Shifts) -> None:
    """Add a frame to a sum of frames, and to the number of frames in each pixel of the sum. The
    frame is first moved back by its `shift`, rounded to whole pixels."""
    here, there = [], []
    for moved, length in zip(np.rint(shift).astype(int), total.shape, strict=True):
        low, high = max(0, -moved), min(length, length - moved)
        here.append(slice(low, max(high, low)))
        there.append(slice(low + moved, max(high, low) + moved))
    total[tuple(here)] += frame[tuple(there)]
    exposure[tuple(here)] += 1


def estimate_drift(
    read: Callable[[int], Array | None],
    count: int,
    fine_angstrom: float,
    coarse: int,
    smooth: Smooth,
) -> Shifts:
    """The drift of the specimen in each of `count` frames since the first, (frames, 2) Å along rows
    and columns. It is positive towards higher rows and columns.

    `read` gives a frame's counts in pixels of `fine_angstrom`, or None for a frame that cannot be
    used; such a frame gets the place of its neighbour. `coarse` and `smooth` are those of `Stack`.
    Long movies are aligned in pieces, each tied to the one before, so that few frames are in
    memory.
    """
    shifts = np.zeros((count, 2))
    tail: list[Array | None] = []
    for first in range(0, count, PIECE):
        new = [read(index) for index in range(first, min(first + PIECE, count))]
        stack = Stack(counts=[*tail, *new], coarse=coarse, smooth=smooth)
        known = len(tail)
        place = shifts[first - known : first + len(new)]  # a view: what is found is kept
        _in_order(stack, place, known, fine_angstrom)
        _each_half(stack, place, known, fine_angstrom)
        if known:
            _tie(stack, place, known, fine_angstrom)
        tail = stack.counts[-BEFORE:]
    return np.asarray((shifts - shifts[0]) * fine_angstrom)


def _in_order(stack: Stack, shifts: Shifts, known: int, fine_angstrom: float) -> None:
    """Place the frames from number `known` on, each against those before it."""
    for index in range(max(known, 1), len(stack.counts)):
        shifts[index] = shifts[index - 1]
        counts, before = stack.whole(index), stack.usable(range(max(0, index - BEFORE), index))
        if counts is not None and before:
            reference = stack.reference(shifts, before, shifts[index - 1])
            moved = shift_between(counts, reference, fine_angstrom * stack.coarse)
            shifts[index] += moved * stack.coarse


def _each_half(stack: Stack, shifts: Shifts, known: int, fine_angstrom: float) -> None:
    """Place the even frames from number `known` on against the odd ones and the odd ones against
    the even."""
    usable = stack.usable(range(known, len(stack.counts)))
    halves = usable[::2], usable[1::2]
    for _ in range(ROUNDS if len(usable) > 2 else 0):
        for mine, others in (halves, halves[::-1]):
            at = shifts[known:].mean(0)
            reference = stack.reference(shifts, others, at)
            for index in mine:
                counts = stack.whole(index)
                assert counts is not None
                if _overlap(shifts[index] - at, counts.shape, stack.coarse) < LEAST_OVERLAP**2:
                    continue  # too far from the others' middle: where it was put in order
                near = (_neighbours(shifts, index) - at) / stack.coarse
                shift = shift_between(counts, reference, fine_angstrom * stack.coarse, near)
                shifts[index] = at + shift * stack.coarse


def _tie(stack: Stack, shifts: Shifts, known: int, fine_angstrom: float) -> None:
    """Move all frames from number `known` on together, to the place that fits the frames before
    them."""
    at = shifts[known]
    earlier = stack.usable(range(known))
    later = stack.usable(range(known, min(known + BEFORE, len(stack.counts))))
    if earlier and later:
        reference = stack.reference(shifts, earlier, at)
        counts = stack.summed(shifts, later, at) * np.float32(len(later))
        moved = shift_between(
            counts, reference * np.float32(len(later)), fine_angstrom * stack.coarse
        )
        shifts[known:] += moved * stack.coarse


def _overlap(shift: Shifts, shape: tuple[int, ...], coarse: int) -> float:
    """The share of a field of `shape` coarse px that overlaps with itself after a move by `shift`
    fine px."""
    return float(np.prod(np.clip(1 - np.abs(shift) / np.multiply(shape, coarse), 0, 1)))


def _neighbours(shifts: Shifts, index: int) -> Shifts:
    """The mean place of the frames beside a frame."""
    beside = [i for i in (index - 1, index + 1) if 0 <= i < len(shifts)]
    return np.asarray(shifts[beside].mean(0))


def shift_between(
    counts: Array, reference: Array, pixel: float, near: Shifts | None = None
) -> Shifts:
    """The most likely shift (rows, columns) px of `counts` against a `reference` of the same mean,
    both (rows, columns) with pixels of `pixel` Å, not far from `near`.

    The log-likelihood of counts y of level m, for nearly Gaussian noise and the true image r, is
    the sum of y r / m over pixels, except for terms without the shift (docs/method.md, "Movies").
    """
    middle = np.zeros(2) if near is None else near
    span = np.arange(-int(REACH_ANGSTROM / pixel), int(REACH_ANGSTROM / pixel) + 1)
    compared = _Compared(counts, reference, int(np.abs(middle).max() + span[-1]) + 2)
    level = max(float(counts.mean()), 1e-30)
    shift, step = np.rint(middle), 1.0
    for finer in FINER:
        rows, columns = (start + step * span for start in shift)
        value = compared.covariance(rows, columns) / level
        square = (rows - middle[0])[:, None] ** 2 + (columns - middle[1]) ** 2
        value -= TAIL * np.log1p(square * (pixel / STEP_ANGSTROM) ** 2)
        y, x = np.unravel_index(int(value.argmax()), value.shape)
        shift = np.array([rows[y], columns[x]])
        step, span = step / finer, np.arange(-finer, finer + 1)
    return shift


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

    def covariance(self, rows: Shifts, columns: Shifts) -> Shifts:
        """Sum of the product at every shift of `rows` and `columns`, px; minus infinity where
        little overlaps. Between pixels the images are assumed to be band-limited; sums of pixels
        nearly are."""
        along = [
            np.exp(2j * np.pi * np.outer(shifts, np.fft.fftfreq(n)))
            for shifts, n in zip((rows, columns), self._shape, strict=True)
        ]
        pixels = self._shape[0] * self._shape[1]
        both, ours, theirs, overlap = (
            (along[0] @ product @ along[1].T).real / pixels for product in self._products
        )
        known = np.maximum(overlap, 1)
        # Of the means where they overlap: those of the whole images would pull towards no shift.
        value = both - ours * theirs / known
        value[overlap < self._least] = -np.inf
        return np.asarray(value)

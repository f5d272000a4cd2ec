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

from gdn.likelihood import Array
from gdn.movies.shift import LEAST_OVERLAP, Shifts, shift_between
from gdn.search.restored import bin_by

Smooth = Callable[[Array], Array]

FINE_ANGSTROM = 0.12  # of the pixels by which frames are moved: half of one is below all detail
BEFORE = 16  # frames of the first reference
PIECE = 40  # frames in memory
ROUNDS, SETTLED = 8, 1.0  # of each half against the other, at most; fine px, of the last one


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
        """The expected contrast of a frame, from the sum of the `chosen` ones: less its mean, and
        as a share of it."""
        image = self.smooth(self.summed(shifts, chosen, at) * np.float32(len(chosen)))
        mean = max(float(image.mean(dtype=np.float64)), 1e-30)
        return np.asarray((image - mean) / mean, dtype=np.float32)

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
        before = shifts.copy()
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
        if np.abs(shifts - before).max() < SETTLED:
            break


def _tie(stack: Stack, shifts: Shifts, known: int, fine_angstrom: float) -> None:
    """Move all frames from number `known` on together, to the place that fits the frames before
    them."""
    at = shifts[known]
    earlier = stack.usable(range(known))
    later = stack.usable(range(known, min(known + BEFORE, len(stack.counts))))
    if earlier and later:
        reference = stack.reference(shifts, earlier, at)
        counts = stack.summed(shifts, later, at) * np.float32(len(later))
        moved = shift_between(counts, reference, fine_angstrom * stack.coarse)
        shifts[known:] += moved * stack.coarse


def _overlap(shift: Shifts, shape: tuple[int, ...], coarse: int) -> float:
    """The share of a field of `shape` coarse px that overlaps with itself after a move by `shift`
    fine px."""
    return float(np.prod(np.clip(1 - np.abs(shift) / np.multiply(shape, coarse), 0, 1)))


def _neighbours(shifts: Shifts, index: int) -> Shifts:
    """The mean place of the frames beside a frame."""
    beside = [i for i in (index - 1, index + 1) if 0 <= i < len(shifts)]
    return np.asarray(shifts[beside].mean(0))

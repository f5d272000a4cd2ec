"""Collaborative filtering of an image in white noise of deviation 1: what is alike in many places is shrunk together.

The method of Dabov et al. 2007 (BM3D) with sizes for crystals, whose blocks repeat over the whole field: they are looked for far
away and taken in groups of 64. Two passes: coefficients of each group's three-dimensional cosine transform that rise above the
noise are kept; then each is shrunk by the empirical Wiener rule, the first pass its pilot. Images (rows, columns) float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from gdn.likelihood import Array

Index = NDArray[np.int64]

BLOCK = 8  # px, side of a block
STEP = 4  # px between reference blocks
REACH = 30  # px: blocks are looked for at most as far along either axis
GROUPS = (64, 32)  # blocks in a group, in either pass
THRESHOLD = 2.7  # deviations
SMOOTH = 0.3  # px: of the noisy image for comparing blocks; more would match their noise
STRIP = 2048  # reference blocks matched and transformed at a time: about 100 MiB
LEAST = 2 * BLOCK  # px: smaller images have no blocks to compare

_WINDOW = np.outer(np.kaiser(BLOCK, 2.0), np.kaiser(BLOCK, 2.0)).astype(np.float32)


def collaborative_filter(noisy: Array) -> Array:
    """The expected image of `noisy`, noise of deviation 1; the mean where it is smaller than LEAST px. Deterministic."""
    if min(noisy.shape) < LEAST:
        return np.full_like(noisy, noisy.mean())
    level = np.float32(noisy.mean())  # blocks are compared about zero, where single precision is finest
    padded = np.pad(noisy.astype(np.float32) - level, BLOCK, mode="symmetric")
    pilot = _pass(padded, np.asarray(gaussian_filter(padded, SMOOTH)), GROUPS[0], wiener=False)
    return _pass(padded, pilot, GROUPS[1], wiener=True)[BLOCK:-BLOCK, BLOCK:-BLOCK] + level


def _pass(noisy: Array, pilot: Array, group: int, wiener: bool) -> Array:
    """One pass: blocks matched in `pilot`, which with `wiener` also says how much of each coefficient is signal."""
    total, weight = np.zeros(noisy.size), np.full(noisy.size, 1e-12)
    offset, columns = np.arange(BLOCK), noisy.shape[1]
    for y, x in _matches(pilot, group):
        # Rows of the strip alone: a large image has many strips.
        here = slice(int(y.min()) * columns, (int(y.max()) + BLOCK) * columns)
        index = (y[:, :, None, None] + offset[:, None]) * columns + x[:, :, None, None] + offset - here.start
        spectrum = _transform(noisy.ravel()[here][index])
        if wiener:
            power = _transform(pilot.ravel()[here][index]) ** 2
            gain = power / (power + 1)
        else:
            gain = (np.abs(spectrum) > THRESHOLD).astype(np.float32)
        gain[:, 0, 0, 0] = 1  # the group's mean is as good as known
        found = scipy.fft.idctn(spectrum * gain, axes=(1, 2, 3), norm="ortho")
        # A group counts by the inverse of the noise that is left in it (Dabov et al. 2007, eqs. 10 and 11).
        share = _WINDOW / np.maximum((gain**2).sum((1, 2, 3)), 1)[:, None, None, None]
        length = here.stop - here.start
        total[here] += np.bincount(index.ravel(), (found * share).ravel(), length)
        weight[here] += np.bincount(index.ravel(), np.broadcast_to(share, index.shape).ravel(), length)
    return np.asarray((total / weight).reshape(noisy.shape), dtype=np.float32)


def _transform(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthonormal cosine transform of (groups, group, BLOCK, BLOCK) within the blocks and across each group."""
    return np.asarray(scipy.fft.dctn(blocks, axes=(1, 2, 3), norm="ortho"))


def _references(length: int) -> Index:
    """First pixels of the reference blocks along an axis."""
    last = length - BLOCK
    return np.append(np.arange(0, last, STEP), last)


def _matches(pilot: Array, group: int) -> Iterator[tuple[Index, Index]]:
    """First rows and columns, each (references, group), of the blocks most like each reference block, in the order of their
    likeness; a strip of references at a time."""
    top, left = _references(pilot.shape[0]), _references(pilot.shape[1])
    per_strip = max(1, STRIP // len(left))
    for start in range(0, len(top), per_strip):
        rows = top[start : start + per_strip]
        low = max(0, int(rows[0]) - REACH)
        part = pilot[low : int(rows[-1]) + BLOCK + REACH]
        y, x = _matches_within(part, rows - low, left, group)
        yield y + low, x


def _matches_within(pilot: Array, top: Index, left: Index, group: int) -> tuple[Index, Index]:
    side = 2 * REACH + 1
    flat = _distances(pilot, top, left).reshape(side**2, -1).T
    count = min(group, int(np.isfinite(flat).sum(1).min()))
    chosen = np.argpartition(flat, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(flat, chosen, 1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, 1)
    at_y, at_x = (v.reshape(-1, 1) for v in np.meshgrid(top, left, indexing="ij"))
    return at_y + chosen // side - REACH, at_x + chosen % side - REACH


def _distances(pilot: Array, top: Index, left: Index) -> NDArray[np.float32]:
    """Mean squared differences (shifts, rows, columns) of the reference blocks from those at every shift up to REACH along
    either axis, rows of shifts first; infinite where a block would leave the image, -1 for the reference itself."""
    side = 2 * REACH + 1
    found = np.full((side**2, len(top), len(left)), np.inf, np.float32)
    rows, columns = pilot.shape
    half, middle = BLOCK // 2, side**2 // 2
    found[middle] = -1
    for number in range(middle):
        dy, dx = number // side - REACH, number % side - REACH
        y0, y1, x0, x1 = max(0, -dy), min(rows, rows - dy), max(0, -dx), min(columns, columns - dx)
        if y1 - y0 < BLOCK or x1 - x0 < BLOCK:
            continue
        square = (pilot[y0:y1, x0:x1] - pilot[y0 + dy : y1 + dy, x0 + dx : x1 + dx]) ** 2
        mean = uniform_filter(square, BLOCK, mode="nearest")  # of the block that starts `half` px before
        # What a block differs from the one at a shift by, that one does from it at the opposite shift.
        for at, first_row, first_column in ((number, top, left), (side**2 - 1 - number, top - dy, left - dx)):
            inner_rows = (first_row >= y0) & (first_row + BLOCK <= y1)
            inner_columns = (first_column >= x0) & (first_column + BLOCK <= x1)
            values = mean[np.ix_(first_row[inner_rows] - y0 + half, first_column[inner_columns] - x0 + half)]
            found[at][np.ix_(inner_rows, inner_columns)] = values
    return found

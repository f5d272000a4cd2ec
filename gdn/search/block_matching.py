"""Blocks of an image that look alike, for the collaborative filter.

A crystal's blocks repeat at its lattice vectors, over the whole field. So blocks are not compared
with all of their surroundings, but at the shifts at which the image is most like itself: those of
its largest autocorrelation, and the next few pixels. There are far fewer of these, so they may lie
much farther away; and a block that is compared with fewer others is matched less often with one
that is alike by its noise alone.

Images are (rows, columns) float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array

Index = NDArray[np.int64]

BLOCK = 8  # px, side of a block
STEP = 4  # px between reference blocks
REACH = 128  # px: blocks are looked for at most as far along either axis
SHIFTS = 2000  # at which blocks are compared
NEAR = 8  # px: shifts up to this are always among them, so that a block in a corner has partners
SLOW = 8.0  # px: what varies more slowly says nothing of the lattice
OVERLAP = 0.02  # of the image: shifts with less in common are not preferred for it
BAND = 256  # px: rows whose blocks are compared at the same shifts
PIECE = 2**18  # px compared at a time, at 12 bytes each
STRIP = 2048  # reference blocks matched at a time: about 8 MiB


def references(length: int) -> Index:
    """First pixels of the reference blocks along an axis."""
    last = length - BLOCK
    return np.append(np.arange(0, last, STEP), last)


def matches(guide: Array, group: int) -> Iterator[tuple[Index, Index, Index]]:
    """First rows and columns, each (references, at most group), of the blocks most similar to each
    reference block by the image `guide`, most similar first, and how many they are (references,):
    in a corner fewer blocks are in reach, and the rest of the row is the reference itself.

    Computed for a strip of references at a time. The shifts are those of a band of rows and what is
    in reach of it, so that one crystal of a large frame does not decide for all."""
    top, left = references(guide.shape[0]), references(guide.shape[1])
    for first in range(0, guide.shape[0], BAND):
        band = top[(top >= first) & (top < first + BAND)]
        if not len(band):
            continue
        shifts = likely_shifts(guide[max(0, first - REACH) : first + BAND + REACH])
        per_strip = max(1, STRIP // len(left))
        for start in range(0, len(band), per_strip):
            rows = band[start : start + per_strip]
            low = max(0, int(rows[0]) - REACH)
            part = guide[low : int(rows[-1]) + BLOCK + REACH]
            y, x, count = _matches_within(part, rows - low, left, shifts, group)
            yield y + low, x, count


def _matches_within(
    guide: Array, top: Index, left: Index, shifts: Index, group: int
) -> tuple[Index, Index, Index]:
    flat = distances(guide, top, left, shifts).reshape(len(shifts), -1).T
    inside = np.isfinite(flat).sum(1)
    most = min(group, int(inside.max()))
    chosen = np.argpartition(flat, most - 1, axis=1)[:, :most]
    order = np.argsort(np.take_along_axis(flat, chosen, 1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, 1)
    to = np.where(np.arange(most)[:, None] < inside[:, None, None], shifts[chosen], 0)
    at_y, at_x = (v.reshape(-1, 1) for v in np.meshgrid(top, left, indexing="ij"))
    return at_y + to[..., 0], at_x + to[..., 1], np.minimum(inside, most)


def likely_shifts(image: Array) -> Index:
    """Shifts (n, 2) along rows and columns at which blocks of the image may be alike: the SHIFTS of
    the largest autocorrelation within REACH, and all within NEAR. With each its opposite. In order
    of rows, then columns."""
    reach = [min(REACH, length - BLOCK) for length in image.shape]
    similar = _autocorrelation(image, reach)
    # An image is as like itself at a shift as at its opposite. The sum makes them exactly equal.
    similar = similar + similar[::-1, ::-1]
    middle = similar.size // 2
    half = np.argsort(-similar.ravel()[:middle], kind="stable")[: SHIFTS // 2]
    kept = np.zeros(similar.shape, bool)
    kept.flat[half] = kept.flat[similar.size - 1 - half] = True
    kept[tuple(slice(max(r - NEAR, 0), r + NEAR + 1) for r in reach)] = True
    return np.asarray(np.argwhere(kept) - reach, dtype=np.int64)


def _autocorrelation(image: Array, reach: list[int]) -> NDArray[np.float64]:
    """Mean product of the image's structure with itself at each shift within `reach`."""
    structure = image.astype(np.float64)
    structure -= gaussian_filter(structure, SLOW)
    shape = [
        scipy.fft.next_fast_len(n + r, real=True) for n, r in zip(image.shape, reach, strict=True)
    ]
    spectrum = scipy.fft.rfft2(structure, s=shape)
    whole = scipy.fft.irfft2(np.abs(spectrum) ** 2, s=shape)
    rows, columns = (np.arange(-r, r + 1) for r in reach)
    common = np.outer(image.shape[0] - np.abs(rows), image.shape[1] - np.abs(columns))
    return np.asarray(whole[np.ix_(rows, columns)] / np.maximum(common, OVERLAP * image.size))


def distances(guide: Array, top: Index, left: Index, shifts: Index) -> NDArray[np.float32]:
    """Mean squared differences (shifts, rows, columns) between the reference blocks at `top` and
    `left` and the blocks at each of `shifts` (n, 2), in order of rows, from them. They are infinite
    where a block would leave the image, and -1 for the reference itself.

    Sums over the rows of a block are rounded once, then those over its columns, so their order has
    no effect. A block that is its own mirror image is therefore exactly as far from another block
    as from that block's mirror image.
    """
    squares = np.empty((len(shifts), len(top), len(left)), np.float32)
    inner = guide[top[0] : top[-1] + BLOCK]
    reach = np.abs(shifts).max(0)
    around = np.pad(guide, [(r, r) for r in reach], constant_values=np.inf)
    # (rows, shifts along columns, columns)
    shifted = sliding_window_view(around, guide.shape[1], axis=1)[top[0] :]
    some = max(1, PIECE // inner.size)
    ends = np.searchsorted(shifts[:, 0], np.unique(shifts[:, 0]), side="right")
    first = 0
    for end in ends:
        dy = shifts[first, 0] + reach[0]
        for now in range(first, end, some):
            dx = shifts[now : min(now + some, end), 1] + reach[1]
            square = inner[:, None] - shifted[dy : dy + len(inner), dx]
            np.multiply(square, square, out=square)
            means = _block_means(np.moveaxis(_block_means(square, top - top[0]), 2, 0), left)
            squares[now : now + len(dx)] = means.transpose(2, 1, 0)
        first = int(end)
    squares[(shifts == 0).all(1)] = -1
    return squares


def _block_means(values: NDArray[np.float32], starts: Index) -> NDArray[np.float32]:
    """Means (starts, ...) of `values` (n, ...) along the first axis, over BLOCK from each of
    `starts` on: multiples of STEP, and one more at the end. A block is two halves; each half
    belongs to two blocks."""
    regular = len(starts) - (starts[-1] % STEP > 0)
    end = STEP * (regular + 1)
    halves = np.add(values[0:end:STEP], values[1:end:STEP], dtype=np.float64)
    for row in range(2, STEP):
        halves += values[row:end:STEP]
    means = halves[:-1] + halves[1:]
    if regular < len(starts):
        means = np.concatenate([means, values[starts[-1] :][:BLOCK].sum(0, dtype=np.float64)[None]])
    means /= BLOCK
    return means.astype(np.float32)

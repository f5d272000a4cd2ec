"""Collaborative filtering of an image whose noise is white, of standard deviation 1: blocks that
look alike are denoised together.

The method is that of Dabov et al. 2007 (BM3D), with sizes for crystals. A crystal's blocks repeat
over the whole field, so similar blocks are looked for far away and taken in groups of 64. There are
two passes. The first keeps the coefficients of each group's three-dimensional cosine transform that
rise above the noise. The second shrinks each coefficient by the empirical Wiener rule, with the
first pass's image as its pilot. Images are (rows, columns) float32.

As a candidate of the mixture, the filter works on counts summed by a whole number, after a
transform that makes their variance constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter

from gdn.likelihood import Array, NoiseLaw
from gdn.search.restored import image_of_sums
from gdn.search.thinning import Recorded

Index = NDArray[np.int64]

BLOCK = 8  # px, side of a block
STEP = 4  # px between reference blocks
REACH = 30  # px: blocks are looked for at most as far along either axis
GROUPS = (64, 32)  # blocks in a group, in either pass
THRESHOLD = 2.7  # deviations
SMOOTH = 0.3  # px: of the noisy image for comparing blocks; more would match their noise
PIECE = 2**18  # px compared at a time, at 12 bytes each
STRIP = 2048  # reference blocks matched and transformed at a time: about 100 MiB
LEAST = 2 * BLOCK  # px: smaller images have no blocks to compare

_TAPER = np.kaiser(BLOCK, 2.0)
_WINDOW = np.outer(_TAPER, _TAPER).astype(np.float32)
SAMPLING_ANGSTROM = 0.5  # of the pixels that are filtered: counts of blocks of 4 Å are compared


def filter_collaboratively(noisy: Array) -> Array:
    """The expected image of `noisy`, whose noise has standard deviation 1. An image smaller than
    LEAST px becomes its mean. Deterministic."""
    if min(noisy.shape) < LEAST:
        return np.full_like(noisy, noisy.mean())
    level = np.float32(
        noisy.mean()
    )  # blocks are compared about zero, where single precision is finest
    padded = np.pad(noisy.astype(np.float32) - level, BLOCK, mode="symmetric")
    pilot = _pass(padded, np.asarray(gaussian_filter(padded, SMOOTH)), GROUPS[0], wiener=False)
    return _pass(padded, pilot, GROUPS[1], wiener=True)[BLOCK:-BLOCK, BLOCK:-BLOCK] + level


def _pass(noisy: Array, pilot: Array, group: int, wiener: bool) -> Array:
    """One pass. Blocks are matched in `pilot`. With `wiener` the pilot also says how much of each
    coefficient is signal."""
    total, weight = np.zeros(noisy.size), np.zeros(noisy.shape)
    offset, columns = np.arange(BLOCK), noisy.shape[1]
    within = (offset[:, None] * columns + offset).ravel()
    for y, x in _matches(pilot, group):
        # Rows of the strip alone: a large image has many strips.
        top, bottom = int(y.min()), int(y.max()) + BLOCK
        here = slice(top * columns, bottom * columns)
        corner = (y - top) * columns + x
        index = corner[:, :, None] + within
        spectrum = _transform(noisy.ravel()[here][index])
        if wiener:
            power = _transform(pilot.ravel()[here][index]) ** 2
            gain = power / (power + 1)
        else:
            gain = (np.abs(spectrum) > THRESHOLD).astype(np.float32)
        gain[:, 0, 0] = 1  # the group's mean is as good as known
        spectrum *= gain
        blocks = _transform(spectrum, inverse=True)
        # A group counts by the inverse of the noise that is left in it (Dabov et al. 2007, eqs. 10
        # and 11).
        share = 1 / np.maximum(np.einsum("nij,nij->n", gain, gain), 1)
        blocks *= share[:, None, None] * _WINDOW.ravel()
        total[here] += np.bincount(index.ravel(), blocks.ravel(), here.stop - here.start)
        counted = np.bincount(
            corner.ravel(), np.repeat(share, corner.shape[1]), here.stop - here.start
        )
        counted = counted.reshape(-1, columns)
        for axis in (0, 1):  # a block's window begins at its first pixel
            counted = convolve1d(counted, _TAPER, axis, mode="constant", origin=-(BLOCK // 2))
        weight[top:bottom] += counted
    return np.asarray(total.reshape(noisy.shape) / np.maximum(weight, 1e-12), dtype=np.float32)


def _transform(blocks: NDArray[np.float32], inverse: bool = False) -> NDArray[np.float32]:
    """Orthonormal cosine transform of (groups, group, BLOCK^2), within the blocks and across each
    group, or its inverse. It is computed as two matrix products: for such short axes they take half
    the time of a fast transform."""
    across, inside = _cosines(blocks.shape[1]), np.kron(_cosines(BLOCK), _cosines(BLOCK))
    return np.asarray(across.T @ (blocks @ inside) if inverse else across @ (blocks @ inside.T))


@lru_cache
def _cosines(length: int) -> NDArray[np.float32]:
    """Matrix (length, length) of the orthonormal cosine transform."""
    return np.asarray(scipy.fft.dct(np.eye(length), axis=0, norm="ortho"), dtype=np.float32)


def references(length: int) -> Index:
    """First pixels of the reference blocks along an axis."""
    last = length - BLOCK
    return np.append(np.arange(0, last, STEP), last)


def _matches(pilot: Array, group: int) -> Iterator[tuple[Index, Index]]:
    """First rows and columns, each (references, group), of the blocks most similar to each
    reference block, most similar first. Computed for a strip of references at a time."""
    top, left = references(pilot.shape[0]), references(pilot.shape[1])
    per_strip = max(1, STRIP // len(left))
    for start in range(0, len(top), per_strip):
        rows = top[start : start + per_strip]
        low = max(0, int(rows[0]) - REACH)
        part = pilot[low : int(rows[-1]) + BLOCK + REACH]
        y, x = _matches_within(part, rows - low, left, group)
        yield y + low, x


def _matches_within(pilot: Array, top: Index, left: Index, group: int) -> tuple[Index, Index]:
    side = 2 * REACH + 1
    flat = distances(pilot, top, left).reshape(side**2, -1).T
    count = min(group, int(np.isfinite(flat).sum(1).min()))
    chosen = np.argpartition(flat, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(flat, chosen, 1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, 1)
    at_y, at_x = (v.reshape(-1, 1) for v in np.meshgrid(top, left, indexing="ij"))
    return at_y + chosen // side - REACH, at_x + chosen % side - REACH


def distances(pilot: Array, top: Index, left: Index) -> NDArray[np.float32]:
    """Mean squared differences (shifts, rows, columns) between the reference blocks and the blocks
    at every shift up to REACH along either axis, rows of shifts first. They are infinite where a
    block would leave the image, and -1 for the reference itself.

    Sums over the rows of a block are rounded once, then those over its columns, so their order has
    no effect. A block that is its own mirror image is therefore exactly as far from another block
    as from that block's mirror image.
    """
    side = 2 * REACH + 1
    squares = np.empty((side, side, len(top), len(left)), np.float32)
    inner = pilot[top[0] : top[-1] + BLOCK]
    around = np.pad(pilot, REACH, constant_values=np.inf)
    shifted = sliding_window_view(around, pilot.shape[1], axis=1)[
        top[0] :
    ]  # (rows, shifts along columns, columns)
    some = max(1, PIECE // inner.size)
    for dy, dx in itertools.product(range(side), range(0, side, some)):
        square = inner[:, None] - shifted[dy : dy + len(inner), dx : dx + some]
        np.multiply(square, square, out=square)
        means = _block_means(np.moveaxis(_block_means(square, top - top[0]), 2, 0), left)
        squares[dy, dx : dx + some] = means.transpose(2, 1, 0)
    squares[REACH, REACH] = -1
    return squares.reshape(side**2, len(top), len(left))


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


def stabilise(electrons: Array, law: NoiseLaw) -> Array:
    """Values with a variance near 1, from electrons of that noise law (generalised Anscombe
    transform: Starck et al. 1998, eq. 2.4). Purely Gaussian noise is divided by its standard
    deviation."""
    alpha, beta = law.alpha, law.beta
    if alpha == 0:
        return np.asarray(electrons / np.sqrt(max(beta, 1e-12)), dtype=np.float32)
    inner = np.maximum(alpha * electrons + 0.375 * alpha**2 + beta, 0)
    return np.asarray(2 / alpha * np.sqrt(inner), dtype=np.float32)


def invert_stabilise(values: Array, law: NoiseLaw) -> Array:
    """The mean electrons whose stabilised values have the means `values` (closed form of the exact
    unbiased inverse: Mäkitalo & Foi 2011, eq. 10, and 2013, eq. 9)."""
    alpha, beta = law.alpha, law.beta
    if alpha == 0:
        return np.asarray(values * np.sqrt(max(beta, 1e-12)), dtype=np.float32)
    d = np.maximum(values.astype(np.float64), 1e-3)
    counts = (
        d**2 / 4
        + np.sqrt(1.5) / 4 / d
        - 11 / 8 / d**2
        + 5 * np.sqrt(1.5) / 8 / d**3
        - 1 / 8
        - beta / alpha**2
    )
    lowest = 2 * np.sqrt(0.375 + beta / alpha**2)
    return np.asarray(alpha * np.where(values > lowest, counts, 0), dtype=np.float32)


@dataclass(frozen=True)
class CollaborativeCandidate:
    """The collaborative filter as one of the mixture's candidates
    (`gdn.search.band_mixture.Candidate`)."""

    sampling_angstrom: float = SAMPLING_ANGSTROM
    name = "collaborative"  # as the record has it

    @property
    def identity(self) -> str:
        """What its images depend on apart from the counts."""
        return f"collaborative-1, {self.sampling_angstrom:g}"

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid."""

        def filter_counts(counts: Array, law: NoiseLaw) -> Array:
            return invert_stabilise(filter_collaboratively(stabilise(counts, law)), law)

        return image_of_sums(recorded, self.sampling_angstrom, filter_counts)

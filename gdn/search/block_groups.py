"""One pass of the collaborative filter: groups of blocks that look alike, denoised together.

How many blocks a group has is decided for each. The more there are, the less noise is left, if they
are alike: in a lattice that repeats, many are, and at the edge of a particle few. So the expected
error of each size is computed from the image in which blocks are compared, and the size with the
least is taken.

Images are (rows, columns) float32; their noise has standard deviation 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from gdn.likelihood import Array
from gdn.search.block_matching import BLOCK, Index, matches

THRESHOLD, THRESHOLD_REST = 3.0, 4.0  # deviations: of an image, and of what is left of one
PIECE = 2**21  # values of blocks transformed at a time: 8 MiB

_TAPER = np.kaiser(BLOCK, 2.0)
_WINDOW = np.outer(_TAPER, _TAPER).astype(np.float32)

Blocks = NDArray[np.float32]


def filter_groups(
    noisy: Array, pilot: Array, sizes: tuple[int, ...], wiener: bool, rest: bool = False
) -> Array:
    """The image of one pass, in groups of one of `sizes` blocks, each twice the last. Blocks are
    matched in `pilot`. With `wiener` the pilot also says how much of each coefficient is signal;
    without it, coefficients below THRESHOLD are taken for noise. `rest`: the image is what a model
    leaves, and nothing of it, not even a group's mean, is taken for signal without evidence."""
    total, weight = np.zeros(noisy.size), np.zeros(noisy.shape)
    columns = noisy.shape[1]
    within = (np.arange(BLOCK)[:, None] * columns + np.arange(BLOCK)).ravel()
    for y, x, there in matches(pilot, sizes[-1]):
        # Rows of the strip alone: a large image has many strips.
        top, bottom = int(y.min()), int(y.max()) + BLOCK
        here = slice(top * columns, bottom * columns)
        guide, counts = pilot.ravel()[here], noisy.ravel()[here]
        counted = np.zeros(len(counts))
        for corner in groups_by_size(guide, (y - top) * columns + x, there, within, sizes):
            index = corner[:, :, None] + within
            blocks, share = _shrunk(counts[index], guide[index] if wiener else None, rest)
            total[here] += np.bincount(index.ravel(), blocks.ravel(), len(counts))
            counted += np.bincount(corner.ravel(), np.repeat(share, corner.shape[1]), len(counts))
        windows = counted.reshape(-1, columns)
        for axis in (0, 1):  # a block's window begins at its first pixel
            windows = convolve1d(windows, _TAPER, axis, mode="constant", origin=-(BLOCK // 2))
        weight[top:bottom] += windows
    return np.asarray(total.reshape(noisy.shape) / np.maximum(weight, 1e-12), dtype=np.float32)


def _shrunk(noisy: Blocks, pilot: Blocks | None, rest: bool) -> tuple[Blocks, Array]:
    """Denoised blocks (groups, size, BLOCK^2) under their window, times their group's weight; and
    this weight (groups,): the inverse of the noise that is left in the group (Dabov et al. 2007,
    eqs. 10 and 11)."""
    spectrum = _transform(noisy)
    if pilot is None:
        least = THRESHOLD_REST if rest else THRESHOLD
        gain = (np.abs(spectrum) > least).astype(np.float32)
    else:
        gain = _signal_share(_transform(pilot))
    if not rest:
        gain[:, 0, 0] = 1  # the group's mean is as good as known
    spectrum *= gain
    share = 1 / np.maximum(np.einsum("nij,nij->n", gain, gain), 1)
    blocks = _transform(spectrum, inverse=True)
    blocks *= share[:, None, None] * _WINDOW.ravel()
    return blocks, share


def _signal_share(coefficients: Blocks) -> Blocks:
    """Share of the signal in each coefficient's power: the gain of the Wiener rule, and the error
    that it leaves, in units of the noise's variance."""
    power = coefficients * coefficients
    return np.asarray(power / (power + 1))


def groups_by_size(
    pilot: Array, corner: Index, there: Index, within: Index, sizes: tuple[int, ...]
) -> Iterator[Index]:
    """The groups, those of one size together: first pixels (groups, size) in the flat image.

    `corner` (groups, most) has each group's blocks, most similar first, as many as `there`
    (groups,); `within` (BLOCK^2,) the places of a block's pixels after its first. A group of fewer
    blocks than the least of `sizes` has all of them.
    """
    chosen = np.minimum(there, sizes[0])
    fit = tuple(size for size in sizes if size <= there.max())
    if len(fit) > 1:
        across = corner[:, : fit[-1]]
        for some in _pieces(across):
            blocks = pilot[across[some][:, :, None] + within]
            errors = expected_errors(blocks, fit)
            errors[there[some, None] < fit] = np.inf
            best = np.take(fit, errors.argmin(1))
            chosen[some] = np.where(there[some] < sizes[0], there[some], best)
    for size in np.unique(chosen):
        groups = corner[chosen == size, :size]
        yield from (groups[some] for some in _pieces(groups))


def _pieces(corner: Index) -> Iterator[slice]:
    """Slices of groups (groups, size) whose blocks have at most PIECE values."""
    some = max(1, PIECE // (corner.shape[1] * BLOCK**2))
    yield from (slice(first, first + some) for first in range(0, len(corner), some))


def expected_errors(blocks: Blocks, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """Error (groups, sizes) that is left in a block by the Wiener rule, if the signal is `blocks`
    (groups, largest size, BLOCK^2) and a group has the first of them, as many as each of `sizes`.
    Summed over a block, in units of the noise's variance in a pixel.

    Across the group the transform is Haar's and not the cosine transform. So that of the first half
    of the blocks is a part of that of all.
    """
    means = blocks @ _inside().T  # of ever more blocks, times the square root of their number
    errors = np.zeros((len(blocks), len(sizes)))
    details = np.zeros((len(blocks), means.shape[1]))  # by the last block that each concerns
    half = np.float32(np.sqrt(0.5))
    for level in range(1, sizes[-1].bit_length()):
        even, odd = means[:, 0::2], means[:, 1::2]
        span = 1 << level
        details[:, span - 1 :: span] += _signal_share((even - odd) * half).sum(2)
        means = (even + odd) * half
        if span in sizes:
            errors[:, sizes.index(span)] = _signal_share(means[:, 0]).sum(1)
    within = np.cumsum(details, axis=1)
    for column, size in enumerate(sizes):
        errors[:, column] = (errors[:, column] + within[:, size - 1]) / size
    return errors


def _transform(blocks: Blocks, inverse: bool = False) -> Blocks:
    """Orthonormal cosine transform of (groups, size, BLOCK^2), within the blocks and across each
    group, or its inverse. It is computed as two matrix products: for such short axes they take half
    the time of a fast transform."""
    across, inside = _cosines(blocks.shape[1]), _inside()
    return np.asarray(across.T @ (blocks @ inside) if inverse else across @ (blocks @ inside.T))


@lru_cache
def _inside() -> Blocks:
    """Matrix (BLOCK^2, BLOCK^2) of the cosine transform within a block."""
    return np.kron(_cosines(BLOCK), _cosines(BLOCK))


@lru_cache
def _cosines(length: int) -> Blocks:
    """Matrix (length, length) of the orthonormal cosine transform."""
    return np.asarray(scipy.fft.dct(np.eye(length), axis=0, norm="ortho"), dtype=np.float32)

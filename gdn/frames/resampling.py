"""Between a frame's own pixel grid and the generator's: area-weighted sums to the coarse grid,
cosine interpolation back (docs/method.md, "Grid").

Both grids cover exactly the same field. The frame is treated as mirrored at its edges, so nothing
wraps around from one edge to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Frame = NDArray[np.float32]


@dataclass(frozen=True)
class Grids:
    """The two grids of a frame: its own `frame_shape` and the coarse `binned_shape` (rows,
    columns)."""

    frame_shape: tuple[int, int]
    binned_shape: tuple[int, int]
    sampling_angstrom: float

    @cached_property
    def binned_sampling(self) -> tuple[float, float]:
        """Å per binned pixel along rows and columns."""
        f, b = self.frame_shape, self.binned_shape
        return self.sampling_angstrom * f[0] / b[0], self.sampling_angstrom * f[1] / b[1]

    @cached_property
    def area(self) -> float:
        """Recorded pixels in one binned pixel."""
        return (
            self.frame_shape[0]
            * self.frame_shape[1]
            / (self.binned_shape[0] * self.binned_shape[1])
        )


def grids_for(
    frame_shape: tuple[int, int], sampling_angstrom: float, target_angstrom: float
) -> Grids:
    """The coarse grid nearest to `target_angstrom` that covers the field in whole pixels."""
    binned = tuple(max(1, round(n * sampling_angstrom / target_angstrom)) for n in frame_shape)
    return Grids(frame_shape, (binned[0], binned[1]), sampling_angstrom)


def _overlaps(n: int, m: int) -> NDArray[np.float32]:
    """Matrix (m, n): the part of pixel j of n that lies in bin i of m, both over the same
    length."""
    edges = np.linspace(0, n, m + 1)
    left = np.maximum(edges[:-1, None], np.arange(n))
    right = np.minimum(edges[1:, None], np.arange(1, n + 1))
    return np.asarray(np.clip(right - left, 0, None), dtype=np.float32)


def bin_sum(frame: Frame, grids: Grids) -> Frame:
    """Area-weighted sums, `binned_shape`: a sum of Poisson counts is Poisson."""
    rows, columns = (
        _overlaps(frame.shape[0], grids.binned_shape[0]),
        _overlaps(frame.shape[1], grids.binned_shape[1]),
    )
    return np.asarray(rows @ frame @ columns.T, dtype=np.float32)


def unbin(binned: Frame, grids: Grids) -> Frame:
    """The band-limited frame whose bins have the means `binned`; `frame_shape`, float32.

    The type-II cosine transform is padded with zeros (or cut). Each frequency is divided by the
    effect of averaging over a bin and over a pixel. `bin_sum(unbin(b)) / area == b` exactly where
    bins are whole pixels, and nearly (for detail well below the Nyquist frequency) where they are
    not.
    """
    coefficients = scipy.fft.dctn(binned.astype(np.float64), type=2, norm="ortho")
    (m0, m1), (n0, n1) = grids.binned_shape, grids.frame_shape
    k0, k1 = min(m0, n0), min(m1, n1)
    gain = [_undo_averaging(k, m, n) for k, m, n in ((k0, m0, n0), (k1, m1, n1))]
    full = np.zeros((n0, n1))
    full[:k0, :k1] = coefficients[:k0, :k1] * gain[0][:, None] * gain[1][None, :]
    scale = np.sqrt(n0 * n1 / (m0 * m1))
    return np.asarray(scipy.fft.idctn(full, type=2, norm="ortho") * scale, dtype=np.float32)


def rebin(image: Frame, fine: Grids, coarse: Grids) -> Frame:
    """`bin_sum(unbin(image, fine)[...], coarse)` for an `image` on the bins of `fine`, whose frame
    is that of `coarse` or extends beyond it. The frame in between is never made: both operations
    are matrix products along each axis."""
    along = [
        _rebinning(
            image.shape[i], fine.frame_shape[i], coarse.frame_shape[i], coarse.binned_shape[i]
        )
        for i in (0, 1)
    ]
    return np.asarray(along[0] @ image.astype(np.float64) @ along[1].T, dtype=np.float32)


@lru_cache(maxsize=8)
def _rebinning(m: int, n: int, cut: int, bins: int) -> NDArray[np.float64]:
    """Matrix (bins, m) from means of m bins over the first `cut` of n pixels to sums over `bins` of
    those pixels."""
    coefficients = scipy.fft.dct(np.eye(m), axis=0, norm="ortho")[: min(m, n)]
    full = np.zeros((n, m))
    full[: min(m, n)] = coefficients * _undo_averaging(min(m, n), m, n)[:, None]
    pixels = scipy.fft.idct(full, axis=0, norm="ortho") * np.sqrt(n / m)
    return np.asarray(_overlaps(cut, bins).astype(np.float64) @ pixels[:cut])


def _undo_averaging(k: int, m: int, n: int) -> NDArray[np.float64]:
    """Factor for each of the first `k` cosines from means of `m` bins to means of `n` pixels.

    Bins of whole pixels average the image once, over a bin. Bins that cut pixels average pixel
    values: the image is averaged over a pixel, held constant over the pixel, and averaged over the
    bin.
    """
    frequency = np.arange(k) / 2
    over_bin, over_pixel = np.sinc(frequency / m), np.sinc(frequency / n)
    return np.asarray(over_pixel / over_bin if n % m == 0 else 1 / (over_bin * over_pixel))

"""What the data say beyond the generator's range: the whitened residual, shrunk where it is noise.

The residual is divided by the known standard deviation of its noise, so that every windowed Fourier
coefficient of pure noise has power 1. Coefficients are shrunk in small neighbourhoods by the
James-Stein rule (Cai 1999, block thresholding): what does not rise above the noise is set to zero,
so that a frame that the generator explains comes back unchanged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from gdn.engines.base import Array

WINDOW = 32  # binned px
HOP = 8
NEIGHBOURHOOD = 3  # Fourier coefficients along each axis
THRESHOLD = 2.5  # mean power below which a neighbourhood of noise alone is set to zero


def _windows(length: int) -> NDArray[np.int64]:
    """Starts of windows that cover an axis padded by one window on both sides."""
    return np.arange(0, length + WINDOW, HOP)


def shrunk_residual(residual: Array, sigma: Array, threshold: float = THRESHOLD) -> Array:
    """The significant part of `residual` (rows, columns) whose noise has standard deviation `sigma`.

    Both float32 in the same units and on the same grid; returns float32 of that shape.
    """
    white = np.pad(residual / sigma, WINDOW, mode="symmetric") if min(residual.shape) >= WINDOW else _pad(residual / sigma)
    taper = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW)
    window = np.outer(taper, taper)
    norm = np.sqrt((window**2).sum())  # makes unit white noise of unit power
    total = np.zeros(white.shape)
    weight = np.zeros(white.shape)
    columns = [x for x in _windows(residual.shape[1]) if x + WINDOW <= white.shape[1]]
    for y in _windows(residual.shape[0]):
        if y + WINDOW > white.shape[0]:
            continue
        rows = np.stack([white[y : y + WINDOW, x : x + WINDOW] for x in columns])
        kept = np.fft.irfft2(_shrink(np.fft.rfft2(rows * window) / norm, threshold) * norm, s=(WINDOW, WINDOW))
        for x, tile in zip(columns, kept, strict=True):
            total[y : y + WINDOW, x : x + WINDOW] += tile * window
            weight[y : y + WINDOW, x : x + WINDOW] += window**2
    inner = (slice(WINDOW, WINDOW + residual.shape[0]), slice(WINDOW, WINDOW + residual.shape[1]))
    return np.asarray(total[inner] / weight[inner] * sigma, dtype=np.float32)


def _pad(image: Array) -> Array:
    """Mirror padding by one window also where the image is smaller than that."""
    rows, columns = (np.arange(-WINDOW, n + WINDOW) for n in image.shape)
    mirrored = [np.where((i // n) % 2 == 0, i % n, n - 1 - i % n) for i, n in zip((rows, columns), image.shape, strict=True)]
    return image[np.ix_(*mirrored)]


def _shrink(spectrum: NDArray[np.complex128], threshold: float) -> NDArray[np.complex128]:
    """James-Stein shrinkage of (n, rows, columns) coefficients whose noise has power 1."""
    power = np.abs(spectrum) ** 2
    local = uniform_filter(power, size=(1, NEIGHBOURHOOD, NEIGHBOURHOOD), mode="wrap")
    return np.asarray(spectrum * np.maximum(0, 1 - threshold / np.maximum(local, 1e-12)))

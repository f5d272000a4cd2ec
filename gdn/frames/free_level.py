"""The level of a frame with Gaussian noise. It is free: noise that is the same on every level does
not show which value means zero intensity (docs/method.md, "Noise law", step 7).

For most frames the file's zero is the zero of intensity, and gdn keeps it. For a normalised frame
(mean 0, standard deviation 1), a differential signal or one with a large offset it is not. The
generator draws contrasts around a vacuum of 1. So such a frame gets an offset and a gain that give
it a usual contrast. They are computed from the data, so an affine map of the data maps the result
in the same way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.frames.mean_variance import SpreadNoise, spread_kernel

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

CONTRAST = 0.07  # standard deviation over mean of clean frames; the median of the generators'
LOWEST, HIGHEST = 0.005, 0.4  # of a frame whose zero is believed; images of specimens lie between
SMALLEST_LEVEL = 0.01  # below this mean the likelihood's floors, in electrons, would be felt
SMOOTHING = 1.0  # px
_NOISE_LEFT = 1 / (4 * np.pi * SMOOTHING**2)  # share of white noise's variance after smoothing


def signal_variance(
    frame: Frame,
    noise_variance: float,
    good: Mask | None,
    count: int,
    spread: SpreadNoise | None = None,
) -> tuple[float, float]:
    """Variance of what a `frame` (rows, columns) shows apart from its noise, and its standard
    error, in squared units. It is the covariance of smoothed even and odd rows, whose noise is
    independent, or alike only as it was `spread`. `count` pixels are `good`."""
    odd, even = frame[1::2], frame[0::2][: len(frame[1::2])]
    a, b = (gaussian_filter(rows.astype(np.float64), SMOOTHING) for rows in (even, odd))
    if good is not None:
        kept = good[1::2] & good[0::2][: len(odd)]
        a, b = a[kept], b[kept]
    variance = float(((a - a.mean()) * (b - b.mean())).mean()) if a.size else 0.0
    variance -= _alike(spread)
    # Products of smoothed noise are alike over about 8 pi SMOOTHING^2 pixels of the half frame.
    independent = max(count / 2 / (8 * np.pi * SMOOTHING**2), 1.0)
    return variance, noise_variance * _NOISE_LEFT / independent**0.5


def _alike(spread: SpreadNoise | None) -> float:
    """Covariance of smoothed even and odd rows of `spread` noise alone."""
    if spread is None:
        return 0.0
    own, smooth = spread_kernel(spread.width), spread_kernel(SMOOTHING)
    rows = np.zeros(2 * len(smooth) - 1)
    rows[::2] = smooth  # every second row only
    rows, columns = np.convolve(rows, own), np.convolve(smooth, own)
    return spread.variance * float((rows[1:] * rows[:-1]).sum() * (columns**2).sum())


def zero_is_possible(mean: float, variance: float, error: float) -> bool:
    """Whether 0 can be the zero of a frame's intensities, given its `mean` and the `variance` of
    its signal with its standard `error`."""
    if mean <= 0:
        return False
    if max(variance, 0.0) + 2 * error > (HIGHEST * mean) ** 2:
        return False
    # A frame of vacuum has no contrast to speak of; one of a specimen on a pedestal has a small
    # one, and it is not noise.
    return not bool(variance > 10 * error and variance < (LOWEST * mean) ** 2)


def free_level(
    frame: Frame,
    noise_variance: float,
    good: Mask | None,
    values: Frame,
    spread: SpreadNoise | None = None,
) -> tuple[float, float] | None:
    """Offset and gain, in units, for a `frame` (rows, columns) with Gaussian noise whose file's
    zero cannot be that of its intensities; None if it can be. `values` are its `good` pixels."""
    mean = float(values.mean(dtype=np.float64))
    variance, error = signal_variance(frame, noise_variance, good, values.size, spread)
    if zero_is_possible(mean, variance, error):
        return None if mean > SMALLEST_LEVEL else (0.0, mean)
    gain = max(variance, 2 * error, 1e-30) ** 0.5 / CONTRAST
    return mean - gain, gain

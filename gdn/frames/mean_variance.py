"""The mean-variance relation of a frame (Janesick 2007, ch. 5): variance of differences of
neighbouring pixels against their mean, and the cumulants of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

_GROUPS = 24  # classes of equal mean for the mean-variance line
_SMOOTHING = 4.0  # px, of the rows that sort pixels into classes
_APART = 5.0  # widths of a spread between two rows whose noise is not the same: exp(-25 / 4)
SHAPE = 0.25  # of a cumulant: its width alone says too little of a spread's shape to tell offset
_LEAST_APART = 3  # px: the noise of a filter is alike further away than a Gaussian's
_ROWS = 4  # on either side, which sort the pixels of spread noise
SAMPLES = 256  # of a transfer function
Values = NDArray[np.float64]


@dataclass(frozen=True)
class SpreadNoise:
    """Noise that a camera or a program has spread over pixels like a Gaussian.

    - `width`: standard deviation of the Gaussian, px.
    - `variance`: of a pixel if nothing were spread, the noise of coarse detail; frame units
      squared.
    """

    width: float
    variance: float


def spread_kernel(width: float) -> Values:
    """Weights (n,) of a spread of `width` px along one axis; their sum is 1, and their transfer is
    a Gaussian up to the finest detail of pixels."""
    half = int(np.ceil(4 * width)) + 3
    frequencies = (np.arange(SAMPLES) + 0.5) / (2 * SAMPLES)  # 1/px
    transfer = np.exp(-2 * (np.pi * width * frequencies) ** 2)
    places = np.arange(-half, half + 1)
    weights = np.cos(2 * np.pi * places[:, None] * frequencies) @ transfer / SAMPLES
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, kw_only=True)
class MeanVariance:
    """Fits to the variances of the classes, with their errors.

    - `slope`, `intercept`: of the line of variance against mean.
    - `level`: the mean variance.
    - `ratio`: variance over mean.
    - `chi2_poisson`, `chi2_gaussian`: reduced chi-squared of variance = ratio * mean, and of
      variance = level.
    - `mean`: of the frame.
    - `third`, `fourth`: the cumulants of its noise.
    - `slope_error`, `third_error`, `fourth_error`: standard errors.
    """

    slope: float
    slope_error: float
    intercept: float
    level: float
    ratio: float
    chi2_poisson: float
    chi2_gaussian: float
    mean: float
    third: float
    third_error: float
    fourth: float
    fourth_error: float


def measure_mean_variance(
    frame: Frame, good: Mask | None = None, spread: SpreadNoise | None = None
) -> MeanVariance:
    """Fit the variance of neighbour differences against the local mean over classes of equal mean
    (docs/method.md, "Noise law", step 2).

    Even rows give mean and variance; odd rows (smoothed) sort their pixels into classes. If a
    pixel's own noise chose its class, high counts would meet high variance, and the slope would be
    too steep. Rows of `spread` noise are sorted by others that are several of its widths away, and
    what is returned is what pixels would have had if nothing were spread. A difference is used if
    all of its pixels are `good`.
    """
    y = frame.astype(np.float64)
    pixels = _alternate(y, good) if spread is None else _apart(y, good, spread)
    group = np.searchsorted(np.quantile(pixels.key, np.arange(1, _GROUPS) / _GROUPS), pixels.key)
    size = np.bincount(group, minlength=_GROUPS)
    group, size = (
        (np.unique(group, return_inverse=True)[1], size[size > 0])
        if (size == 0).any()
        else (group, size)
    )
    variance = pixels.difference**2
    m, v, square = (
        np.bincount(group, values) / size for values in (pixels.mean, variance, variance**2)
    )
    e = np.sqrt(np.maximum(square - v**2, 0) / (size * pixels.independent))
    # A class without a count is not certain; of a few stray counts most classes have none.
    typical = np.median(e) or e.max()
    e = np.maximum(e, 0.3 * typical + 1e-12 * v.mean() + 1e-30)
    mean = float(y.mean() if good is None else y[good].mean())
    return _fit(m, v, e, mean, _cumulants(pixels))


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """Pixels (n,) that are sorted into classes.

    - `difference`: second difference at a pixel; its variance is that of a pixel.
    - `mean`: its value.
    - `key`: by which it is sorted.
    - `independent`: share of the differences that are independent.
    - `cubes`, `fourths`: the differences' third and fourth cumulant for one of a pixel's.
    - `uncertain`: standard error of these two, as a share.
    """

    difference: Values
    mean: Values
    key: Values
    independent: float
    cubes: float
    fourths: float
    uncertain: float = 0.0


def _alternate(y: Values, good: Mask | None) -> _Pixels:
    """Pixels of even rows, sorted by odd ones."""
    odd = y[1::2]
    even = y[0::2][: len(odd)]
    kept: Mask | EllipsisType = ...
    if good is not None:
        rows = good[0::2][: len(odd)]
        kept = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    # Second differences also cancel a linear slope of the signal: (1, -2, 1)/sqrt(6) has unit noise
    # gain. Neighbouring ones share pixels: about a third of them are independent.
    return _Pixels(
        difference=((even[:, :-2] - 2 * even[:, 1:-1] + even[:, 2:]) / 6**0.5)[kept].ravel(),
        mean=even[:, 1:-1][kept].ravel(),
        key=gaussian_filter(odd, (_SMOOTHING / 2, _SMOOTHING))[:, 1:-1][kept].ravel(),
        independent=1 / 3,
        cubes=-6 / 6**1.5,
        fourths=1 / 2,
    )


def _apart(y: Values, good: Mask | None, spread: SpreadNoise) -> _Pixels:
    """Pixels of rows a few px apart, sorted by the rows above and below whose noise is not
    theirs."""
    away = min(max(_LEAST_APART, int(np.ceil(_APART * spread.width))), len(y) // 4)
    stride = min(max(1, round(spread.width)), y.shape[1] // 4)
    beyond = min(away + _ROWS, (len(y) - 1) // 2)
    rows = np.arange(beyond, len(y) - beyond, max(2, int(2 * spread.width)))
    inner = slice(stride, -stride)
    smooth = gaussian_filter1d(y, _SMOOTHING, axis=1)[:, inner]
    sums = np.concatenate([np.zeros((1, smooth.shape[1])), smooth.cumsum(0)])
    key = sums[rows + beyond + 1] - sums[rows + away] + sums[rows - away + 1] - sums[rows - beyond]
    left, middle, right = (y[rows][:, at] for at in _shifted(stride))
    difference = (left - 2 * middle + right) / 6**0.5
    kept: Mask | EllipsisType = ...
    if good is not None:
        kept = np.logical_and.reduce([good[rows][:, at] for at in _shifted(stride)])
    difference, own = difference[kept].ravel(), spread_kernel(spread.width)
    weights = np.convolve(_second_difference(stride), own)
    # What of the variance is left: more is said by the spectrum than by the width.
    left_over = float((difference**2).mean()) / spread.variance
    expected, third, fourth = (float((weights**n).sum() * (own**n).sum()) for n in (2, 3, 4))
    return _Pixels(
        difference=difference / left_over**0.5,
        mean=middle[kept].ravel(),
        key=key[kept].ravel(),
        independent=1 / 3 / max(1.0, 3.5 * spread.width),
        cubes=third / expected**1.5,
        fourths=fourth / expected**2,
        uncertain=SHAPE,
    )


def _shifted(stride: int) -> tuple[slice, slice, slice]:
    return slice(None, -2 * stride), slice(stride, -stride), slice(2 * stride, None)


def _second_difference(stride: int) -> Values:
    weights = np.zeros(2 * stride + 1)
    weights[[0, stride, -1]] = np.array([1, -2, 1]) / 6**0.5
    return weights


def _cumulants(pixels: _Pixels) -> dict[str, float]:
    """Of the noise of a pixel: those of a difference are a pixel's times the sum of the weights'
    powers."""
    difference = pixels.difference
    variance = difference**2
    independent = np.sqrt(len(difference) * pixels.independent)
    third, fourth = difference**3, difference**4
    of_fourth = float((fourth.mean() - 3 * variance.mean() ** 2) / pixels.fourths)
    return {
        "third": float(third.mean() / pixels.cubes),
        "third_error": float(
            np.hypot(
                third.std() / abs(pixels.cubes) / independent,
                pixels.uncertain * third.mean() / pixels.cubes,
            )
        ),
        "fourth": of_fourth,
        "fourth_error": float(
            np.hypot(
                (fourth - 6 * variance.mean() * variance).std() / pixels.fourths / independent,
                pixels.uncertain * of_fourth,
            )
        ),
    }


def _fit(m: Values, v: Values, e: Values, mean: float, cumulants: dict[str, float]) -> MeanVariance:
    """The lines through the classes' means `m`, variances `v` and their errors `e`, all (n,)."""
    # On a large offset the classes' means differ by little: about it, the fit stays well posed.
    centre = m.mean()
    reach = max(float(np.abs(m - centre).max()), 1e-30)
    design = np.stack([(m - centre) / reach, np.ones_like(m)], 1) / e[:, None]
    covariance = np.linalg.pinv(design.T @ design)
    scaled, at_centre = covariance @ design.T @ (v / e)
    slope, intercept = scaled / reach, at_centre - scaled / reach * centre
    ratio = float(((m * v) / e**2).sum() / ((m / e) ** 2).sum())
    level = float((v / e**2).sum() / (1 / e**2).sum())
    chi2 = [float((((v - model) / e) ** 2).mean()) for model in (ratio * m, np.full_like(v, level))]
    return MeanVariance(
        slope=float(slope),
        slope_error=float(covariance[0, 0] ** 0.5 / reach),
        intercept=float(intercept),
        level=level,
        ratio=ratio,
        chi2_poisson=chi2[0],
        chi2_gaussian=chi2[1],
        mean=mean,
        **cumulants,
    )

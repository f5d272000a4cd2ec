"""The mean-variance relation of a frame (Janesick 2007, ch. 5): variance of differences of
neighbouring pixels against their mean, and the cumulants of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

_GROUPS = 24  # classes of equal mean for the mean-variance line
_SMOOTHING = 4.0  # px, of the rows that sort pixels into classes


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


def measure_mean_variance(frame: Frame, good: Mask | None = None) -> MeanVariance:
    """Fit the variance of neighbour differences against the local mean over classes of equal mean
    (docs/method.md, "Noise law", step 2).

    Even rows give mean and variance; odd rows (smoothed) sort their pixels into classes. If a
    pixel's own noise chose its class, high counts would meet high variance, and the slope would be
    too steep. A difference is used if all three of its pixels are `good`.
    """
    y = frame.astype(np.float64)
    odd = y[1::2]
    even = y[0::2][: len(odd)]
    kept = _kept(good, even.shape)
    # Second differences also cancel a linear slope of the signal: (1, -2, 1)/sqrt(6) has unit noise
    # gain.
    difference = ((even[:, :-2] - 2 * even[:, 1:-1] + even[:, 2:]) / 6**0.5)[kept].ravel()
    variance = difference**2
    # Cumulants of a difference are those of one pixel times the sum of the weights' powers: -6 /
    # 6^1.5, 1/2.
    independent = np.sqrt(len(difference) / 3)
    third, third_error = (
        -(6**0.5) * (difference**3).mean(),
        6**0.5 * (difference**3).std() / independent,
    )
    fourth = 2 * ((difference**4).mean() - 3 * variance.mean() ** 2)
    fourth_error = 2 * (difference**4 - 6 * variance.mean() * variance).std() / independent
    mean = even[:, 1:-1][kept].ravel()
    key = gaussian_filter(odd, (_SMOOTHING / 2, _SMOOTHING))[:, 1:-1][kept].ravel()
    group = np.searchsorted(np.quantile(key, np.arange(1, _GROUPS) / _GROUPS), key)
    size = np.bincount(group, minlength=_GROUPS)
    group, size = (
        (np.unique(group, return_inverse=True)[1], size[size > 0])
        if (size == 0).any()
        else (group, size)
    )
    m, v, square = (np.bincount(group, values) / size for values in (mean, variance, variance**2))
    # Neighbouring second differences share pixels: about a third of them are independent.
    e = np.sqrt(np.maximum(square - v**2, 0) / (size / 3))
    # A class without a count is not certain; of a few stray counts most classes have none.
    typical = np.median(e) or e.max()
    e = np.maximum(e, 0.3 * typical + 1e-12 * v.mean() + 1e-30)
    centre = (
        m.mean()
    )  # on a large offset the classes' means differ by little: about it, the fit stays well posed
    spread = max(float(np.abs(m - centre).max()), 1e-30)
    design = np.stack([(m - centre) / spread, np.ones_like(m)], 1) / e[:, None]
    covariance = np.linalg.pinv(design.T @ design)
    scaled, at_centre = covariance @ design.T @ (v / e)
    slope, intercept = scaled / spread, at_centre - scaled / spread * centre
    ratio = float(((m * v) / e**2).sum() / ((m / e) ** 2).sum())
    level = float((v / e**2).sum() / (1 / e**2).sum())
    chi2 = [float((((v - model) / e) ** 2).mean()) for model in (ratio * m, np.full_like(v, level))]
    return MeanVariance(
        slope=float(slope),
        slope_error=float(covariance[0, 0] ** 0.5 / spread),
        intercept=float(intercept),
        level=level,
        ratio=ratio,
        chi2_poisson=chi2[0],
        chi2_gaussian=chi2[1],
        mean=float(y.mean() if good is None else y[good].mean()),
        third=float(third),
        third_error=float(third_error),
        fourth=float(fourth),
        fourth_error=float(fourth_error),
    )


def _kept(good: Mask | None, shape: tuple[int, ...]) -> Mask | EllipsisType:
    """Which second differences along the even rows, of `shape`, use good pixels only."""
    if good is None:
        return ...
    even = good[0::2][: shape[0]]
    return np.asarray(even[:, :-2] & even[:, 1:-1] & even[:, 2:])

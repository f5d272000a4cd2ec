"""The noise of a frame: y = gain * Poisson(electrons) + N(offset, read_noise^2), given or
estimated.

The estimate uses the mean-variance relation (Janesick 2007, ch. 5): variance from differences of
neighbouring pixels (frames are finely sampled, so that the signal hardly differs between them),
mean from a smoothed frame. Nobody has to know the noise level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.errors import InputError
from gdn.likelihood import NoiseLaw

Frame = NDArray[np.float32]
Kind = Literal["poisson", "gaussian", "poisson-gaussian"]

_GROUPS = 24  # classes of equal mean for the mean-variance line
_SMOOTHING = 4.0  # px, of the rows that sort pixels into classes


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """`gain` in units per electron, `offset` in units, `read_noise` the standard deviation in
    units.

    For `gaussian` the gain is 1 and `read_noise` is the whole noise; `how` says where it comes
    from.
    """

    kind: Kind
    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0
    how: str = "given"

    @property
    def law(self) -> NoiseLaw:
        """Variance of a recorded pixel by its mean, in electrons."""
        return NoiseLaw(0.0 if self.kind == "gaussian" else 1.0, (self.read_noise / self.gain) ** 2)

    def electrons(self, frame: Frame) -> Frame:
        """`frame` in electrons per pixel."""
        return np.asarray((frame - self.offset) / self.gain, dtype=np.float32)

    def units(self, electrons: Frame) -> Frame:
        """Back to the frame's own units."""
        return np.asarray(electrons * self.gain + self.offset, dtype=np.float32)


def parse_noise(text: str) -> NoiseModel | None:
    """`auto` (None), `poisson`, `poisson-gaussian`, `gaussian` or `gaussian:S`. Raises InputError.

    A model without its numbers (read_noise NaN, or kind alone) is completed by `complete_noise`.
    """
    kind, _, value = text.partition(":")
    if text == "auto":
        return None
    if kind == "gaussian" and value:
        try:
            sigma = float(value)
        except ValueError:
            sigma = -1.0
        if not 0 < sigma < float("inf"):
            raise InputError(
                f"noise {text}: the standard deviation after the colon must be a positive number",
                "noise",
            )
        return NoiseModel(kind="gaussian", read_noise=sigma)
    if not value and kind in ("poisson", "gaussian", "poisson-gaussian"):
        return NoiseModel(kind=kind, gain=float("nan"))  # type: ignore[arg-type]
    raise InputError(
        f"noise {text}: one of auto, poisson, gaussian, gaussian:S, poisson-gaussian", "noise"
    )


def noise_of(frame: Frame, wanted: NoiseModel | None) -> NoiseModel:
    """The model to use for `frame`: `wanted` completed by estimates, or the simplest that fits.

    Raises InputError where the wanted model contradicts the data.
    """
    if wanted is not None and wanted.kind == "gaussian" and np.isfinite(wanted.gain):
        return wanted
    if wanted is not None and wanted.kind == "poisson" and frame.min() < 0:
        raise InputError(
            f"noise poisson, but the smallest pixel is {frame.min():g}: counts cannot be "
            "negative; use noise auto"
        )
    line = mean_variance(frame)
    if wanted is None:
        return _simplest(frame, line)
    if wanted.kind == "gaussian":
        return NoiseModel(
            kind="gaussian", read_noise=max(line.level, 1e-12) ** 0.5, how="neighbour differences"
        )
    if wanted.kind == "poisson":
        return NoiseModel(kind="poisson", gain=_gain(frame, line), how="variance over mean")
    return _affine(frame, line)


@dataclass(frozen=True, kw_only=True)
class MeanVariance:
    """Fits of the class variances: `slope`, `intercept` with their errors, `level` = mean variance,
    `ratio` = variance over mean, and the reduced chi-squared of variance = ratio * mean and =
    level; `mean` of the frame and `third`, `fourth`, the cumulants of its noise, with their
    errors."""

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


def mean_variance(frame: Frame) -> MeanVariance:
    """Fit the variance of neighbour differences against the local mean over classes of equal mean.

    Even rows give mean and variance, odd rows (smoothed) sort them into classes: were a pixel's own
    noise to choose its class, high counts would meet high variance and the slope come out too
    steep.
    """
    y = frame.astype(np.float64)
    odd = y[1::2]
    even = y[0::2][: len(odd)]
    # Second differences also cancel a linear slope of the signal: (1, -2, 1)/sqrt(6) has unit noise
    # gain.
    difference = ((even[:, :-2] - 2 * even[:, 1:-1] + even[:, 2:]) / 6**0.5).ravel()
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
    mean = even[:, 1:-1].ravel()
    key = gaussian_filter(odd, (_SMOOTHING / 2, _SMOOTHING))[:, 1:-1].ravel()
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
    e = np.maximum(
        e, 0.3 * np.median(e) + 1e-12 * v.mean() + 1e-30
    )  # a class without a count is not certain
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
        mean=float(y.mean()),
        third=float(third),
        third_error=float(third_error),
        fourth=float(fourth),
        fourth_error=float(fourth_error),
    )


def _quantum(frame: Frame) -> float | None:
    """Spacing of a frame whose values are all whole multiples of one number, if it is one."""
    sample = np.unique(frame)
    if not 2 <= len(sample) <= 4096 or sample[0] < 0:
        return None
    step = float(np.diff(sample).min())
    multiples = sample / step
    off = np.abs(multiples - np.round(multiples)).max()
    return step if step > 0 and off < 0.02 + 1e-5 * multiples[-1] else None


def _gain(frame: Frame, line: MeanVariance) -> float:
    """Units per electron: the frame's quantum where it agrees with variance over mean, else that
    ratio."""
    quantum = _quantum(frame)
    if quantum is not None and 0.93 < line.ratio / quantum < 1.07:
        return quantum
    return max(line.ratio, 1e-12)


def _affine(frame: Frame, line: MeanVariance) -> NoiseModel:
    """Gain from the slope and the cumulants; offset and read noise, which the line's intercept
    mixes, by the third cumulant.

    The intercept is read_noise^2 - gain * offset; the cumulant gain^2 * (mean - offset) is
    Poisson's alone. Where it is not significant, a negative intercept is an offset, a positive one
    read noise.
    """
    smallest = 1e-6 * max(line.level, 1e-30) / max(float(np.abs(frame).mean()), 1e-30)
    if line.third < 5 * line.third_error:
        gain = max(line.slope, smallest)
        how = "mean-variance line"
        return NoiseModel(
            kind="poisson-gaussian",
            gain=gain,
            offset=max(0.0, -line.intercept / gain),
            read_noise=max(line.intercept, 0.0) ** 0.5,
            how=how,
        )
    gain = max(_gain_of_both(line), smallest)
    # Neither the electrons nor the read noise can be negative.
    signal = min(line.third / gain**2, line.level / gain)
    read = max(line.level - gain * signal, 0.0) ** 0.5
    return NoiseModel(
        kind="poisson-gaussian",
        gain=gain,
        offset=line.mean - signal,
        read_noise=read,
        how="mean-variance line and cumulants",
    )


def _gain_of_both(line: MeanVariance) -> float:
    """Weighted mean of two estimates of the gain: the line's slope, and fourth over third cumulant.

    Gaussian noise has neither cumulant. The second is the better at a few electrons a pixel and
    less; at many, a frame whose variance is not everywhere the same has a fourth cumulant of its
    own.
    """
    ratio = line.fourth / line.third
    electrons = line.level / max(ratio, 1e-30) ** 2  # at most: the read noise counts in
    share = np.hypot(line.fourth_error / max(line.fourth, 1e-30), line.third_error / line.third)
    error = ratio * float(np.hypot(share, 0.03 * electrons)) if line.fourth > 0 else np.inf
    weights = np.array([line.slope_error**-2, error**-2])
    return float((weights * [line.slope, ratio]).sum() / weights.sum())


def _simplest(frame: Frame, line: MeanVariance) -> NoiseModel:
    """Poisson if variance is proportional to the mean, Gaussian if it is constant, else both."""
    quantum = _quantum(frame)
    if quantum is not None and 0.93 < line.ratio / quantum < 1.07:
        return NoiseModel(
            kind="poisson",
            gain=quantum,
            how="values are multiples of one number, and so is variance over mean",
        )
    proportional = frame.min() >= 0 and line.ratio > 0
    # A frame on an offset is nearly flat: any line fits it. Its skewness is not that of so many
    # electrons.
    skewness_fits = abs(line.third - line.ratio**2 * line.mean) < 5 * line.third_error
    if proportional and skewness_fits and line.chi2_poisson < min(3.0, line.chi2_gaussian):
        return NoiseModel(
            kind="poisson", gain=line.ratio, how="variance is proportional to the mean"
        )
    symmetric = abs(line.third) < 5 * line.third_error
    if symmetric and (
        abs(line.slope) < 4 * line.slope_error or line.slope <= 0 or line.chi2_gaussian < 3.0
    ):
        return NoiseModel(
            kind="gaussian",
            read_noise=max(line.level, 1e-12) ** 0.5,
            how="variance does not depend on the mean",
        )
    return _affine(frame, line)

"""The noise of a frame: y = gain * Poisson(electrons) + N(offset, read_noise^2), given or estimated
(docs/method.md, "Noise law").

The estimate uses the mean-variance relation (Janesick 2007, ch. 5). The variance comes from
differences of neighbouring pixels, because in finely sampled frames the signal hardly differs
between them. The mean comes from a smoothed frame. The user need not know the noise level.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdn.errors import InputError
from gdn.frames.bad_pixels import CEILINGS
from gdn.frames.free_level import free_level, signal_variance, zero_is_possible
from gdn.frames.mean_variance import Mask, MeanVariance, SpreadNoise, measure_mean_variance
from gdn.frames.noise_model import Frame, Kind, NoiseModel, parse_noise

__all__ = ["Frame", "NoiseModel", "noise_of", "parse_noise"]

# What may stand for no electrons in a frame of inverted contrast: minus the counts, one minus them,
# the ceiling of a converter, and (tried last) the frame's own maximum.
TOPS = (0.0, 1.0, *CEILINGS)
MOST_ALIKE = 0.02  # of the pixels, that have the highest value unless values are clipped there
SURE = 10  # errors of a slope, and times the intercept that the noise is, of a line through zero
COUNTED = "values are multiples of one number, and so is variance over mean"


def noise_of(
    frame: Frame,
    wanted: NoiseModel | None,
    good: Mask | None = None,
    spread: SpreadNoise | None = None,
) -> NoiseModel:
    """The noise model for `frame`: `wanted`, with missing numbers estimated, or the simplest that
    fits. Only `good` pixels are used (None: all). Of noise that is `spread` the model is that of
    coarse detail.

    A negative gain means counts stored with inverted contrast, y = top - counts. Raises InputError
    where the wanted model contradicts the data.
    """
    values = frame if good is None else frame[good]
    scale = _binary_scale(values)
    if scale != 1:  # pA or millions of gray levels: the estimates have floors in the frame's units
        known = wanted and replace(wanted, read_noise=wanted.read_noise / scale)
        if spread is not None:
            spread = replace(spread, variance=spread.variance / scale**2)
        return noise_of(frame / np.float32(scale), known, good, spread).times(scale)
    if wanted is not None and wanted.kind == "gaussian" and np.isfinite(wanted.gain):
        return _on_free_level(wanted, frame, good, values, spread)
    line = measure_mean_variance(frame, good, spread)
    kind = None if wanted is None else wanted.kind
    if kind != "gaussian":
        inverted = _inverted(frame, good, values, line, spread)
        if inverted is not None:
            return inverted
    if kind == "poisson" and values.min() < 0:
        raise InputError(
            f"noise poisson, but the smallest pixel is {values.min():g}: counts cannot be "
            "negative; use noise auto"
        )
    if kind == "poisson":
        return NoiseModel(kind="poisson", gain=_gain(values, line), how="variance over mean")
    model = _of_kind(kind, values, line)
    if model.kind == "gaussian":
        return _on_free_level(model, frame, good, values, spread)
    if not model.read_noise or model.offset:
        return model
    signal = signal_variance(frame, line.level, good, values.size, spread)
    if zero_is_possible(line.mean, *signal):
        return model
    # No detector's zero lies there: all of the noise is the counts', whose zero is elsewhere.
    offset = -line.intercept / model.gain
    return replace(model, offset=offset, read_noise=0.0, how="mean-variance line alone")


def _of_kind(kind: Kind | None, values: Frame, line: MeanVariance) -> NoiseModel:
    """A model of a wanted kind, not of counts alone; or the simplest."""
    if kind is None:
        return _simplest(values, line)
    if kind == "gaussian":
        return _constant(line, "neighbour differences")
    return _affine(values, line)


def _binary_scale(values: Frame) -> float:
    """1 for values of usual size, else the power of two that brings them to usual size; dividing by
    it is exact."""
    deviation = float(values.std(dtype=np.float64))
    if 1e-4 < deviation < 1e7 or not deviation > 0:
        return 1.0
    return float(2.0 ** np.round(np.log2(deviation)))


def _constant(line: MeanVariance, how: str) -> NoiseModel:
    """A model of Gaussian noise, the same everywhere."""
    return NoiseModel(kind="gaussian", read_noise=max(line.level, 1e-12) ** 0.5, how=how)


def _on_free_level(
    model: NoiseModel, frame: Frame, good: Mask | None, values: Frame, spread: SpreadNoise | None
) -> NoiseModel:
    """A Gaussian model. Gaussian noise is the same on every level, so where the file's zero cannot
    be the zero of intensity, offset and gain are those of `free_level`."""
    level = free_level(frame, model.read_noise**2, good, values, spread)
    if level is None:
        return model
    return replace(model, offset=level[0], gain=level[1])


def _quantum(frame: Frame) -> float | None:
    """The number of which all values of a frame are whole multiples, if there is one."""
    sample = np.unique(frame)
    if not 2 <= len(sample) <= 4096 or sample[0] < 0:
        return None
    step = float(np.diff(sample).min())
    multiples = sample / step
    off = np.abs(multiples - np.round(multiples)).max()
    return step if step > 0 and off < 0.02 + 1e-5 * multiples[-1] else None


def _gain(frame: Frame, line: MeanVariance) -> float:
    """Units per electron: the frame's quantum if it agrees with variance over mean, else that
    ratio."""
    quantum = _quantum(frame)
    if quantum is not None and _is_ratio(quantum, frame, line):
        return quantum
    return max(line.ratio, 1e-12)


def _is_ratio(quantum: float, frame: Frame, line: MeanVariance) -> bool:
    """Whether variance over mean agrees with the quantum, within 7 % or within the error of so few
    counts."""
    counts = max(line.mean / quantum * frame.size, 1.0)
    tolerance = max(0.07, min(0.6, 2 / counts**0.5))
    return bool(abs(line.ratio / quantum - 1) < tolerance)


def _affine(frame: Frame, line: MeanVariance) -> NoiseModel:
    """Gain from the slope and the cumulants; offset and read noise, which the line's intercept
    mixes, from the third cumulant (docs/method.md, "Noise law", steps 3 and 4).

    The intercept is read_noise^2 - gain * offset. The third cumulant, gain^2 * (mean - offset), has
    no part from Gaussian noise. If it is not significant, a negative intercept is taken as an
    offset, a positive one as read noise.
    """
    smallest = 1e-6 * max(line.level, 1e-30) / max(float(np.abs(frame).mean()), 1e-30)
    if (line.slope if line.third < 5 * line.third_error else _gain_of_both(line)) <= smallest:
        # A variance that does not grow with the mean is no counts'.
        return _constant(line, "variance does not grow with the mean")
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
    # Neither the electrons nor the read noise can be negative. `level` is of the classes with the
    # least noise; in a dark field most of the noise is in a few bright ones.
    variance = max(line.slope * line.mean + line.intercept, 0.0)
    signal = min(line.third / gain**2, variance / gain)
    read = max(variance - gain * signal, 0.0) ** 0.5
    return NoiseModel(
        kind="poisson-gaussian",
        gain=gain,
        offset=line.mean - signal,
        read_noise=read,
        how="mean-variance line and cumulants",
    )


def _gain_of_both(line: MeanVariance) -> float:
    """Weighted mean of two estimates of the gain: the line's slope, and the fourth cumulant divided
    by the third. Gaussian noise has neither cumulant. The second estimate is better at a few
    electrons per pixel or less. At many electrons, if the frame's variance differs between places,
    that alone makes a fourth cumulant."""
    ratio = line.fourth / line.third
    # At most: the read noise counts in.
    electrons = (line.slope * line.mean + line.intercept) / max(ratio, 1e-30) ** 2
    share = np.hypot(line.fourth_error / max(line.fourth, 1e-30), line.third_error / line.third)
    error = ratio * float(np.hypot(share, 0.03 * electrons)) if line.fourth > 0 else np.inf
    weights = np.array([line.slope_error**-2, error**-2])
    return float((weights * [line.slope, ratio]).sum() / weights.sum())


def _simplest(frame: Frame, line: MeanVariance) -> NoiseModel:
    """Poisson if variance is proportional to the mean, Gaussian if it is constant, else both."""
    counts = _poisson(frame, line)
    if counts is not None:
        return counts
    symmetric = abs(line.third) < 5 * line.third_error
    if symmetric and (
        abs(line.slope) < 4 * line.slope_error or line.slope <= 0 or line.chi2_gaussian < 3.0
    ):
        return _constant(line, "variance does not depend on the mean")
    return _affine(frame, line)


def _poisson(frame: Frame, line: MeanVariance) -> NoiseModel | None:
    """A model of counts if variance and skewness agree with counts, else None."""
    quantum = _quantum(frame)
    if quantum is not None and _is_ratio(quantum, frame, line):
        return NoiseModel(
            kind="poisson",
            gain=quantum,
            how=COUNTED,
        )
    proportional = frame.min() >= 0 and line.ratio > 0
    # A frame on an offset is nearly flat: any line fits it. Its skewness is not that of so many
    # electrons.
    skewness_fits = abs(line.third - line.ratio**2 * line.mean) < 5 * line.third_error
    # A steep line through zero needs no skewness, which strong contrast falsifies.
    through_zero = line.slope > SURE * line.slope_error and abs(line.intercept) < line.level / SURE
    fits = skewness_fits or through_zero
    if proportional and fits and line.chi2_poisson < min(3.0, line.chi2_gaussian):
        return NoiseModel(
            kind="poisson", gain=line.ratio, how="variance is proportional to the mean"
        )
    return None


def _inverted(
    frame: Frame,
    good: Mask | None,
    values: Frame,
    line: MeanVariance,
    spread: SpreadNoise | None,
) -> NoiseModel | None:
    """The model of counts stored with inverted contrast, top - counts (film, WhiteIsZero). Their
    variance falls with the mean, or they are skewed to the dark. None if that is not so, or not
    clear."""
    falls = line.slope < -4 * line.slope_error and line.third < 2 * line.third_error
    skewed = line.third < -5 * line.third_error and line.slope < 2 * line.slope_error
    if not (falls or skewed) or (values.min() >= 0 and _poisson(values, line) is not None):
        return None
    mirrored = measure_mean_variance(-frame, good, spread)
    negative = _affine(-values, mirrored)
    if negative.kind == "gaussian":
        return None
    if negative.read_noise and not negative.offset:  # zero is no top more than another value
        offset = -mirrored.intercept / negative.gain
        negative = replace(negative, offset=offset, read_noise=0.0)
    estimated = -negative.offset  # the value that stands for no electrons
    if estimated + 6 * line.level**0.5 < np.quantile(values, 0.999):
        return None  # many pixels would hold fewer electrons than none
    distance = abs(estimated - line.mean) + 1e-6 * abs(estimated)
    highest = float(values.max())
    # Values that pile up are clipped there: no electrons cannot be yet another value above.
    clipped = float((values == highest).mean()) > MOST_ALIKE
    for top in (highest,) if clipped else (*TOPS, highest):
        if top >= highest and abs(top - estimated) < distance:
            upright = np.asarray(np.float32(top) - frame)
            upright_values = upright if good is None else upright[good]
            counts = _poisson(upright_values, measure_mean_variance(upright, good, spread))
            # Of few pixels the estimate is rough, and whole counts know their top better.
            near = abs(top - estimated) < 0.3 * distance
            if counts is not None and (near or counts.how == COUNTED):
                return replace(counts, gain=-counts.gain, offset=top, how=f"inverted: {counts.how}")
    if clipped and estimated > highest + negative.gain:
        return None
    return replace(negative, gain=-negative.gain, offset=estimated, how=f"inverted: {negative.how}")

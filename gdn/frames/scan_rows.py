"""What a scan does to its rows: they are displaced along themselves, and differ in brightness.

A scanning microscope records one row after the other. Stray fields and vibrations displace the
probe, and the current of the source fluctuates, so that columns of atoms get ragged edges (Jones &
Nellist 2013). Neighbouring rows show almost the same specimen, so each row is compared with what
the others predict. What they miss of it is a displacement if it goes with the slope of the
prediction, in the same measure many pixels further along the row, and brightness if it hardly
changes along the row (docs/method.md, "Rows of a scan").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.ndimage import correlate1d, gaussian_filter1d

from gdn.frames.coarse_noise import MEDIAN, MEDIAN_ERROR

Frame = NDArray[np.float32]
Values = NDArray[np.float64]

WIDTHS = (1.0, 1.5, 2.2, 3.2, 4.5)  # rows, of predictions among which the frame chooses
MODES = 8  # cosines along a row, which are its brightness
LAGS = (4, 5, 6, 7, 8)  # smoothings along a row: noise is alike over less, a displacement over more
BLOCK = 8  # rows, whose errors may have something in common
# Widths finer than the best, by which what a prediction misses of a specimen becomes small, and the
# standard errors from which a displacement is sure.
SURE = ((2, 6.0), (0, 10.0))
ASYMMETRY = 2.0  # times as sure as for the other axis
PRIOR = 4.0  # times the variance that is seen: predictions follow displacements
LEAST = 0.2  # px rms: less is left alone
LEAST_BRIGHTNESS = 1.8  # times the noise of a row, and so for the other axis,
BRIGHTNESS_SURE = 6.0  # and standard errors
CLIPPED = 6.0  # deviations of a residual: a bad pixel is no displacement
LOOKED_AT = 1024  # px along either axis, by which it is decided
FEWEST = 200  # px along either axis: in fewer nothing is sure


@dataclass(frozen=True, kw_only=True)
class Sway:
    """How the rows of a frame are distorted, by the frame itself.

    - `variance`: of displacements along the rows, px^2.
    - `sure`: the same, in standard errors.
    - `brightness`: variance of the rows' offsets over what noise alone makes of it.
    """

    variance: float
    sure: float
    brightness: float


@dataclass(frozen=True)
class ScanSeen:
    """Distorted rows: the `variance` of their displacements along themselves, px^2, 0 if only their
    brightness differs; and whether they are the columns of the frame (`turned`)."""

    variance: float
    turned: bool


def find_scan(frame: Frame, noise: float) -> ScanSeen | None:
    """Whether the rows or columns of a `frame`, whose pixels have the variance `noise`, were
    distorted by a scan; None if not, or if that is not sure. The other axis is the control."""
    if min(frame.shape) < FEWEST:
        return None
    first = [(n - min(n, LOOKED_AT)) // 2 for n in frame.shape]
    seen = frame[first[0] : first[0] + LOOKED_AT, first[1] : first[1] + LOOKED_AT]
    part = np.asarray(seen, np.float64)
    frames = (part, part.T)
    best = [best_width(rows) for rows in frames]
    for finer, sure in SURE:
        sways = [
            measure_sway(rows, noise, WIDTHS[max(0, WIDTHS.index(width) - finer)])
            for rows, width in zip(frames, best, strict=True)
        ]
        for turned, (own, other) in enumerate((sways, sways[::-1])):
            asymmetric = own.sure > max(sure, ASYMMETRY * other.sure)
            if asymmetric and own.variance > LEAST**2:
                return ScanSeen(PRIOR * own.variance, bool(turned))
    # Of the last widths: noise counts less there.
    for turned, (own, other) in enumerate((sways, sways[::-1])):
        error = MEDIAN_ERROR / (len(frames[turned]) / 2) ** 0.5
        least = max(LEAST_BRIGHTNESS, 1 + BRIGHTNESS_SURE * error)
        if own.brightness > least * max(other.brightness, 1.0):
            return ScanSeen(0.0, bool(turned))
    return None


def measure_sway(frame: Values, noise: float, width: float) -> Sway:
    """Distortions of the rows of a `frame` (rows, columns) with pixels of the variance `noise`, by
    a prediction of this `width`."""
    prediction = Prediction(width)
    predicted = prediction(frame)
    residual = frame - predicted
    offsets = residual @ modes(frame.shape[1])[0]
    # Offsets are white from row to row; planes along the rows are few frequencies, edges low ones.
    spectrum = dct(offsets, norm="ortho")[len(offsets) // 2 :]
    slow = float(np.median(spectrum**2)) / MEDIAN
    lags = [int(np.ceil(n * prediction.smoothing)) for n in LAGS]
    variance, sure = _common(slopes_of(predicted), without_brightness(clipped(residual)), lags)
    return Sway(variance=max(variance, 0.0), sure=sure, brightness=slow / noise)


class Prediction:
    """Predicts each row of a frame from the others. It is exact where what is shown is a cubic
    polynomial across the rows. `smoothing`, px, is along the rows."""

    def __init__(self, width: float) -> None:
        half = int(np.ceil(6 * width)) + 1
        rows = np.arange(-half, half + 1)
        narrow, wide = (np.exp(-(rows**2) / (2 * (s * width) ** 2)) * (rows != 0) for s in (1, 1.8))
        narrow, wide = narrow / narrow.sum(), wide / wide.sum()
        a, b = ((weights * rows**2).sum() for weights in (narrow, wide))
        self._weights = (b * narrow - a * wide) / (b - a)
        self.smoothing = max(1.0, width / 2)

    def __call__(self, frame: Values) -> Values:
        """Each row of a `frame` (rows, columns), as the others show it."""
        smooth = gaussian_filter1d(frame, self.smoothing, axis=1)
        return np.asarray(correlate1d(smooth, self._weights, axis=0, mode="reflect"))


def best_width(frame: Values) -> float:
    """The width of the prediction that is nearest to what the rows show. It weighs noise against
    what is missed of the specimen."""
    errors = [np.square(clipped(frame - Prediction(width)(frame))).mean() for width in WIDTHS]
    return WIDTHS[int(np.argmin(errors))]


def clipped(residual: Values) -> Values:
    """Without outliers."""
    limit = CLIPPED * float(residual.std())
    return np.clip(residual, -limit, limit)


def modes(columns: int) -> Values:
    """(MODES, columns): the slowest cosines along a row, orthonormal."""
    places = (np.arange(columns) + 0.5) * np.pi / columns
    cosines = np.cos(np.arange(MODES)[:, None] * places) * (2 / columns) ** 0.5
    cosines[0] /= 2**0.5
    return np.asarray(cosines)


def without_brightness(rows: Values) -> Values:
    """Rows (n, columns) without their slowest cosines."""
    slowest = modes(rows.shape[1])
    return np.asarray(rows - (rows @ slowest.T) @ slowest)


def slopes_of(image: Values) -> Values:
    """Slopes (rows, columns) of an image along its rows, without its brightness."""
    return np.asarray(np.gradient(without_brightness(image), axis=1))


def _common(slope: Values, residual: Values, lags: list[int]) -> tuple[float, float]:
    """Covariance, px^2, of displacements of one row `lags` apart, and how sure it is, in standard
    errors."""
    moved, weight = slope * residual, slope**2
    own = sum(_products(moved, moved, lag) for lag in lags)
    # What the prediction misses of the specimen is nearly the same in the next row.
    following = np.roll(moved, 1, axis=0)
    others = sum(
        _products(moved, following, lag) + _products(following, moved, lag) for lag in lags
    )
    products = np.asarray(own - others / 2)
    total = float(np.sum(sum(_products(weight, weight, lag) for lag in lags)))
    blocks = products[: len(products) // BLOCK * BLOCK].reshape(-1, BLOCK).sum(1)
    spread = float(np.std(blocks))
    if total <= 0 or spread <= 0:
        return 0.0, 0.0
    return float(np.sum(products)) / total, float(np.mean(blocks)) / spread * len(blocks) ** 0.5


def _products(first: Values, second: Values, lag: int) -> Values:
    """Sums (rows,) of products of what lies `lag` apart in a row."""
    columns = first.shape[1]
    return np.asarray((first[:, : columns - lag] * second[:, lag:]).sum(1))

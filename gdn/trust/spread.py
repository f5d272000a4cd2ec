"""The calibrated spread of a result: how far each pixel probably is from the truth.

The inputs are what the estimate contains about its own error (the disagreement of restarts and
tiles, what the residual added, the noise) and how much structure the image has around a pixel. They
go through a small network that was fitted to simulated frames. Its output, times a conformal
factor, gives intervals that hold the truth as often as stated (conformalised quantile regression:
Romano et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array, strips
from gdn.search.estimate import Estimate
from gdn.trust.calibration import LEVELS, Calibration

Values = NDArray[np.float64]

NEAR, WIDE = 1.0, 6.0  # px, over which squares are averaged
SURROUNDINGS = (2.5, 6.0, 14.0)  # px
SMALLEST = 1e-4  # of the vacuum level
HALO = 57  # px: as far as the widest of them looks
STRIP_PIXELS = 2**19  # whose features are in memory at a time


def contrast_of(estimate: Estimate) -> float:
    """Standard deviation of the whole frame's image, in vacuum units."""
    return float((estimate.image.astype(np.float64) / estimate.dose).std())


def pixel_features(
    estimate: Estimate, first: int = 0, last: int | None = None, contrast: float | None = None
) -> Values:
    """Features (rows, columns, 13) from which each pixel's error is predicted. They are logarithms
    of amounts in vacuum units, except for the last two.

    Only of the rows `first` ... `last` - 1 (None: to the end). `contrast` is the frame's
    `contrast_of`, if known already. The features are: the spread of the restarts near the pixel and
    around it; the noise; what was added (also near and around); the image's standard deviation over
    three surroundings; its distance from its own blur and from the vacuum level; the whole frame's
    contrast; and how far the image lies above the vacuum level over two surroundings.
    """
    dose, total = estimate.dose, len(estimate.generated)
    last = total if last is None else last
    low, high = max(0, first - HALO), min(total, last + HALO)
    whole = estimate.image[low:high]
    image = whole.astype(np.float64) / dose
    left = np.float32(estimate.noise_left)
    noise = estimate.binned.law.deviation(whole) * left / dose
    apart = estimate.disagreement(slice(low, high))
    restarts, added = (
        np.asarray(part / dose, dtype=np.float64)
        for part in (apart, estimate.added[low:high] * left)
    )
    contrast = contrast_of(estimate) if contrast is None else contrast
    busy = [_deviation(image, s) for s in SURROUNDINGS]
    amounts = [
        _rms(restarts, NEAR),
        _rms(restarts, WIDE),
        noise,
        _rms(added, NEAR),
        _rms(added, WIDE),
        *busy,
        np.abs(image - gaussian_filter(image, SURROUNDINGS[0])),
        np.abs(image - 1),
        np.full(image.shape, contrast),
    ]
    above = [gaussian_filter(image, s) - 1 for s in SURROUNDINGS[1:]]
    found_here = np.concatenate(
        [np.log(np.maximum(np.stack(amounts, -1), SMALLEST)), np.stack(above, -1)], -1
    )
    return found_here[first - low : last - low]


def _rms(values: Values, width: float) -> Values:
    return np.asarray(np.sqrt(gaussian_filter(values**2, width)))


def _deviation(image: Values, width: float) -> Values:
    mean = gaussian_filter(image, width)
    return np.asarray(np.sqrt(np.maximum(gaussian_filter(image**2, width) - mean**2, 0)))


@dataclass(frozen=True)
class Spread:
    """Intervals around the result.

    - `half_widths` (levels, rows, columns): electrons per binned pixel, for LEVELS in per cent.
    - `calibrated`: if False, they are multiples of the raw standard deviation, as if errors were
      Gaussian.
    """

    half_widths: Array
    calibrated: bool

    @property
    def of_one_deviation(self) -> Array:
        """The spread: the half-width of the 68.27 % interval."""
        return self.level(ONE_DEVIATION)

    def level(self, per_cent: int) -> Array:
        """The half-width of one of LEVELS."""
        return np.asarray(self.half_widths[LEVELS.index(per_cent)], dtype=np.float32)


ONE_DEVIATION = LEVELS[1]
GAUSSIAN = (0.6745, 1.0, 1.6449, 2.5758)  # half-widths of LEVELS in standard deviations


def spread_of(estimate: Estimate, calibration: Calibration | None) -> Spread:
    """The intervals of every pixel of an estimate."""
    if calibration is None:
        return Spread(
            np.stack([np.float32(width) * estimate.raw_spread for width in GAUSSIAN]), False
        )
    rows, columns = estimate.generated.shape
    half_widths = np.empty((len(LEVELS), rows, columns), np.float32)
    contrast = contrast_of(estimate)
    for strip in strips((rows, columns), STRIP_PIXELS):
        features = pixel_features(estimate, strip.start, strip.stop, contrast)
        widths = (
            calibration.spread.half_widths(features.reshape(-1, features.shape[-1])) * estimate.dose
        )
        half_widths[:, strip] = widths.T.reshape(len(LEVELS), *features.shape[:2])
    return Spread(half_widths, True)


def doubt(estimate: Estimate) -> Array:
    """The uncertainty with which a column's amplitude is compared, vacuum units: the raw spread,
    and a tenth of a pixel's noise. So a column is not certain only because its restarts happen to
    agree."""
    noise = estimate.binned.law.variance(estimate.image)
    return np.asarray(
        np.sqrt(estimate.raw_spread**2 + 0.01 * noise) / estimate.dose, dtype=np.float32
    )


def nested(levels: dict[int, Array], deviation: Array) -> dict[int, Array]:
    """Half-widths of intervals of these levels, per cent, none narrower than one of less, beside
    that of one `deviation` (68 %). Interpolation to the frame's grid can swing one below another
    where both fall steeply."""
    widths, widest = {}, deviation
    for level in sorted(levels):
        if level > ONE_DEVIATION:
            widest = np.maximum(levels[level], widest)
            widths[level] = widest
        else:
            widths[level] = np.minimum(levels[level], deviation)
    return {level: widths[level] for level in levels}

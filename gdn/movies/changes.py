"""Find where and when the specimen changed within a block of frames that otherwise show one image
(docs/method.md, "Movies").

In a block aligned to one of its frames, every place of the size of a column has a series of counts
in time. A column that comes, goes or moves is a step in the series. gdn looks for the time at which
the means before and after differ most, in units of the standard deviation due to noise alone (the
likelihood-ratio test of one change point; Page 1955). A single frame has too few electrons for
this; the sums before and after have enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d

from gdn.likelihood import Array, NoiseLaw

COLUMN_ANGSTROM = 0.7  # deviation of the Gaussian within which counts are summed
SIGNIFICANT = 5.5  # deviations: of places and times there are some ten thousand in a block
REACH_ANGSTROM = 1.5  # that an image differs beyond where the step is significant
MOST_TIMES = 3  # in a block: of more changes it is no block
MOST_CHANGED = 0.2  # of the field, likewise
WHOLE = 0.999  # share of a place that a frame must have recorded
SAME_TIME = 1  # frames by which times of one change may be off


@dataclass(frozen=True)
class Changes:
    """The changes in `count` frames.

    - `times`: each the number of the first frame after a change, in order.
    - `place` (rows, columns): 1 where something changed, 0 elsewhere, and smooth.
    - `too_many`: True if the frames do not show one image.
    """

    count: int
    times: list[int]
    place: Array
    too_many: bool = False

    def segment(self, index: int) -> tuple[int, int]:
        """The frames around frame `index` without a change between them: the first of them, and the
        first frame after them."""
        before = [time for time in self.times if time <= index]
        after = [time for time in self.times if time > index]
        return before[-1] if before else 0, after[0] if after else self.count


def find_changes(frames: Array, seen: Array, law: NoiseLaw, pixel_angstrom: float) -> Changes:
    """Find the changes in aligned `frames` (n, rows, columns) in electrons, with pixels of
    `pixel_angstrom` and the noise `law`. `seen`, of the same shape, is the share of each pixel that
    a frame recorded."""
    width = COLUMN_ANGSTROM / pixel_angstrom
    # Near where a frame ends its smoothed counts are not whole.
    inside = np.stack([gaussian_filter(image.astype(np.float64), width) for image in seen])
    weight = (inside > WHOLE).astype(np.float64)
    levels = (frames * weight).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1)
    mean = (frames * weight).sum(0) / np.maximum(weight.sum(0), 1)
    expected = np.where(weight > 0, mean, 0).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1)
    even = expected / np.maximum(levels, 1e-30)
    smooth = np.stack(
        [gaussian_filter(frame * scale, width) for frame, scale in zip(frames, even, strict=True)]
    )
    step, when = _largest_step(smooth, weight)
    variance = law.variance(gaussian_filter(mean, width)) * _left_of_noise(mean.shape, width)
    deviations = step / np.sqrt(variance)
    return _grouped(deviations, when, len(frames), pixel_angstrom)


def _left_of_noise(shape: tuple[int, ...], width: float) -> NDArray[np.float64]:
    """Variance (rows, columns) of white noise of variance 1 after a Gaussian of `width` px. The
    filter mirrors at the edges, so there it is twice that in the middle, and in the corners four
    times."""
    rows, columns = (
        np.square(gaussian_filter1d(np.eye(length), width, axis=0)).sum(1) for length in shape
    )
    return np.outer(rows, columns)


def _largest_step(
    series: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For every place the step in time that is largest relative to its own error, in errors of one
    frame; and the first frame after it."""
    total, count = (series * weight).sum(0), weight.sum(0)
    so_far, number = np.zeros_like(total), np.zeros_like(count)
    best, when = np.zeros_like(total), np.zeros(total.shape, np.int64)
    for time in range(1, len(series)):
        so_far += series[time - 1] * weight[time - 1]
        number += weight[time - 1]
        rest = count - number
        known = (number > 0) & (rest > 0)
        before, after = so_far / np.maximum(number, 1), (total - so_far) / np.maximum(rest, 1)
        size = np.abs(after - before) * np.sqrt(number * rest / np.maximum(count, 1))
        better = known & (size > best)
        best[better], when[better] = size[better], time
    return best, when


def _grouped(
    deviations: NDArray[np.float64], when: NDArray[np.int64], count: int, pixel_angstrom: float
) -> Changes:
    """Significant steps. Steps at about the same time count as one change."""
    left = deviations > SIGNIFICANT
    place = _spread_out(left, pixel_angstrom)
    times: list[int] = []
    while left.any():
        y, x = np.unravel_index(int(np.where(left, deviations, 0).argmax()), left.shape)
        times.append(int(when[y, x]))
        left &= np.abs(when - times[-1]) > SAME_TIME
    too_many = len(times) > MOST_TIMES or float(place.mean()) > MOST_CHANGED
    return Changes(count, sorted(times), place, too_many)


def _spread_out(changed: NDArray[np.bool_], pixel_angstrom: float) -> Array:
    """1 where something changed and around it, fading to 0."""
    if not changed.any():
        return np.zeros(changed.shape, np.float32)
    away = distance_transform_edt(~changed) * pixel_angstrom / REACH_ANGSTROM
    return np.asarray(np.clip(2 - away, 0, 1), dtype=np.float32)

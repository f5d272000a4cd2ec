"""The last check of a result: it must be finite, and its mean must be that of the frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdn.errors import InputError
from gdn.likelihood import Array
from gdn.search.denoise_frame import FrameResult
from gdn.trust.judge import Trust

SIGMAS = 6.0  # standard errors of the frame's mean
SHARE = 0.03  # of the intensity: what a generator's prior may move the mean by


def check_result(frame: Array, result: FrameResult, trust: Trust) -> None:
    """Raises InputError for a result of a `frame` (rows, columns) that is not finite, or whose mean
    has moved by more than the noise of the frame's own mean explains: its scale is then wrong."""
    spread = trust.spread if result.estimate is not None else result.image
    if not (np.isfinite(result.image).all() and np.isfinite(spread).all()):
        raise InputError(
            f"the result is not finite: the noise model ({_words(result)}) does not fit; "
            "give another",
            "noise",
        )
    good = np.isfinite(frame)
    if result.bad is not None:
        good &= ~result.bad
    before, after = (float(image[good].mean(dtype=np.float64)) for image in (frame, result.image))
    noise = result.noise
    electrons = abs((before - noise.offset) / noise.gain)
    error = float(noise.law.deviation(electrons)) / float(good.sum()) ** 0.5
    allowed = (SIGMAS * error + SHARE * electrons) * abs(noise.gain)
    if abs(after - before) > allowed:
        raise InputError(
            f"the mean is {after:.5g} in the result, {before:.5g} in the frame: the noise model "
            f"({_words(result)}) does not fit; give another",
            "noise",
        )


def _words(result: FrameResult) -> str:
    noise = result.noise
    return f"{noise.kind}, gain {noise.gain:.3g}, offset {noise.offset:.3g}"


def left_empty(result: FrameResult, trust: Trust) -> tuple[FrameResult, Trust]:
    """The result with NaN in place of every pixel that was left out."""
    bad = result.bad
    if bad is None:
        return result, trust

    def emptied(image: Array) -> Array:
        return np.where(bad, np.float32(np.nan), image)

    said = [
        w.replace("left out and filled in", "left out, NaN in the result") for w in trust.warnings
    ]
    return (
        replace(result, image=emptied(result.image), raw_spread=emptied(result.raw_spread)),
        replace(
            trust,
            spread=emptied(trust.spread),
            intervals={level: emptied(width) for level, width in trust.intervals.items()},
            warnings=said,
        ),
    )

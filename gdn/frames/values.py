"""Values that are stored by another number type: value = offset + scale * stored.

An integer result carries its scale: ImageJ's style as ImageJ's own calibration of values, which
Fiji applies, every other style as a line of text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.source import FrameError, FrameFile, Scaled

STEPS_PER_SPREAD = 10.0  # the number type must tell apart a tenth of the spread
_LINE = re.compile(r"value = (?P<offset>\S+) \+ (?P<scale>[0-9.e+-]+) x stored")


@dataclass(frozen=True)
class Values:
    """value = `offset` + `scale` * stored."""

    scale: float = 1.0
    offset: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether what is stored is the value."""
        return self.scale == 1 and self.offset == 0

    @property
    def line(self) -> str:
        """The text that says so in an image's metadata."""
        return f"value = {self.offset!r} + {self.scale!r} x stored"

    def stored(self, frame: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """What stands for a `frame` of values in an array of `dtype`."""
        if self.plain and dtype.kind == "f":
            return frame.astype(dtype)
        steps = (np.asarray(frame, dtype=np.float64) - self.offset) / self.scale
        limits = np.iinfo(dtype)
        return np.clip(np.rint(steps), limits.min, limits.max).astype(dtype)


def values_in(text: str) -> Values:
    """The values of a file whose metadata hold the line of one of gdn's results; else plain."""
    found = _LINE.search(text)
    return Values(float(found["scale"]), float(found["offset"])) if found else Values()


def rescaled(frames: FrameFile, values: Values) -> FrameFile:
    """The file with its values instead of what is stored."""
    if values.plain:
        return frames
    pixels = Scaled(frames.pixels, values.scale, values.offset)
    return replace(frames, pixels=pixels, dtype=np.dtype(np.float32))


class Extent:
    """The range of the frames of a result and the smallest spread: what a number type must hold."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self.low, self.high, self.spread = np.inf, -np.inf, np.inf

    def add(self, frame: NDArray[Any]) -> None:
        """Count in a frame. Raises FrameError for pixels without a value, which integers lack."""
        if self.dtype == np.float32:
            return
        if self.dtype.kind == "u" and not np.isfinite(frame).all():
            raise FrameError(
                f"{self.path}: has pixels without a value (NaN), which {self.dtype} cannot "
                "hold; choose float32",
                "dtype",
            )
        finite = frame[np.isfinite(frame)]
        if finite.size:
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))

    def add_spread(self, spread: NDArray[Any]) -> None:
        """Count in the spread of a frame. Raises FrameError where the number type is too coarse for
        it: one step must be at most a tenth of the median spread."""
        if self.dtype == np.float32:
            return
        known = spread[np.isfinite(spread) & (spread > 0)]
        if known.size:
            self.spread = min(self.spread, float(np.median(known)))
        self.values()

    def values(self) -> Values:
        """The scale that holds the range. Raises FrameError where it cannot, or not finely
        enough."""
        if not self.low <= self.high or self.dtype == np.float32:
            return Values()
        limit = self.spread / STEPS_PER_SPREAD
        if self.dtype.kind == "f":
            self._check_half(limit)
            return Values()
        levels = int(np.iinfo(self.dtype).max)
        if self.low >= 0 and self.high <= levels and limit >= 1 and np.isfinite(limit):
            return Values()
        step = (self.high - self.low) / levels or 1.0
        if step > limit:
            self._too_coarse(step)
        return Values(step, self.low)

    def _check_half(self, limit: float) -> None:
        largest = max(abs(self.low), abs(self.high))
        if largest > float(np.finfo(self.dtype).max):
            raise FrameError(
                f"{self.path}: has values up to {largest:.4g}, but {self.dtype} ends at "
                f"{float(np.finfo(self.dtype).max):.0f}; choose float32, or uint16, which "
                "carries a scale",
                "dtype",
            )
        step = float(np.spacing(np.asarray(largest, self.dtype)))
        if step > limit:
            self._too_coarse(step)

    def _too_coarse(self, step: float) -> None:
        other = (
            "float32" if self.dtype == np.uint16 else "uint16, which carries a scale, or float32"
        )
        raise FrameError(
            f"{self.path}: one step of {self.dtype} would be {step:.3g}, more than a "
            f"tenth of the spread ({self.spread:.3g}); choose {other}",
            "dtype",
        )

"""Values that are stored by another number type: value = offset + scale * stored.

An integer result carries its scale: ImageJ's style as ImageJ's own calibration of values, which
Fiji applies, every other style as a line of text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.source import FrameFile, Scaled

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
    match = _LINE.search(text)
    return Values(float(match["scale"]), float(match["offset"])) if match else Values()


def rescaled(frames: FrameFile, values: Values) -> FrameFile:
    """The file with its values instead of what is stored."""
    if values.plain:
        return frames
    pixels = Scaled(frames.pixels, values.scale, values.offset)
    return replace(frames, pixels=pixels, dtype=np.dtype(np.float32))

"""Values that are stored in another number type: value = offset + scale * stored.

An integer result states its scale. In ImageJ's style it is ImageJ's own calibration of values,
which Fiji applies; in every other style it is a line of text.
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
        """Whether the stored numbers are the values."""
        return self.scale == 1 and self.offset == 0

    @property
    def line(self) -> str:
        """The line of an image's metadata that states the scale."""
        return f"value = {self.offset!r} + {self.scale!r} x stored"

    def stored(self, frame: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The stored numbers for a `frame` of values in an array of `dtype`."""
        if self.plain and dtype.kind == "f":
            return frame.astype(dtype)
        steps = (np.asarray(frame, dtype=np.float64) - self.offset) / self.scale
        limits = np.iinfo(dtype)
        return np.clip(np.rint(steps), limits.min, limits.max).astype(dtype)


def values_in(text: str) -> Values:
    """The scale of a file whose metadata contain the line of a result of gdn; else the plain
    one."""
    match = _LINE.search(text)
    return Values(float(match["scale"]), float(match["offset"])) if match else Values()


def rescale(frames: FrameFile, values: Values) -> FrameFile:
    """The file with its values instead of the stored numbers."""
    if values.plain:
        return frames
    pixels = Scaled(frames.pixels, values.scale, values.offset)
    return replace(frames, pixels=pixels, dtype=np.dtype(np.float32))

"""Where the frames of a result are put, one at a time, and the range that a number type must hold
for them."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.source import Frame, FrameError
from gdn.frames.values import Values

STEPS_PER_SPREAD = 10.0  # the number type must tell apart a tenth of the spread


class Sink:
    """Frames of a result, set by their number, in any order. Each leaves memory once it is set.
    Raises FrameError if the number type cannot hold a frame."""

    def __init__(self, array: Any, path: Path, dtype: np.dtype[Any]) -> None:
        self.array, self.extent = array, Extent(path, dtype)
        self.scaled = dtype.kind != "f"  # integers may be stored with a scale

    def __setitem__(self, index: int, frame: Frame) -> None:
        self.extent.add(frame)
        if self.array.dtype == np.float16:
            self.extent.values()  # what it cannot hold must not become infinite
        self.array[index] = frame.astype(self.array.dtype)
        if isinstance(self.array, np.ndarray):
            release(self.array)

    def resolve(self, spread: Frame) -> None:
        """Raise FrameError if one step of the number type is more than a tenth of the median of the
        `spread` of the frame that was set."""
        self.extent.add_spread(spread)

    @property
    def values(self) -> Values:
        """How the frames that were set so far are stored."""
        return self.extent.values()


class Extent:
    """The range of the frames of a result and the smallest spread. They decide which number type is
    good enough."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self.low, self.high, self.spread = np.inf, -np.inf, np.inf

    def add(self, frame: NDArray[Any]) -> None:
        """Include a frame. Raises FrameError for pixels without a value, which integers cannot
        represent."""
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
        """Include the spread of a frame. Raises FrameError if the number type is too coarse for it:
        one step must be at most a tenth of the median spread."""
        if self.dtype == np.float32:
            return
        known = spread[np.isfinite(spread) & (spread > 0)]
        if known.size:
            self.spread = min(self.spread, float(np.median(known)))
        self.values()

    def values(self) -> Values:
        """The scale that covers the range. Raises FrameError if there is none, or none fine
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


def release(array: NDArray[Any]) -> None:
    """Let the pages of an array that is mapped on a file leave memory. What was written to them is
    kept."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none; it trims by itself
        base.madvise(mmap.MADV_DONTNEED)

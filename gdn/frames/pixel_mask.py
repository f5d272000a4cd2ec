"""A mask that the user gives for every frame of a run: which pixels are no counts."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdn.errors import InputError
from gdn.frames.formats import read_frames
from gdn.frames.source import gray, one_line

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelMask:
    """Pixels of a frame of `shape` (rows, columns) that are no counts. They are packed, so that
    settings that contain them can be compared and sent to other machines. `name` is that of its
    file."""

    name: str
    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, name: str, masked: Mask) -> PixelMask:
        """From a mask that is True where a pixel is no count."""
        shape = (masked.shape[0], masked.shape[1])
        return cls(name, shape, zlib.compress(np.packbits(masked).tobytes()))

    @cached_property
    def masked(self) -> Mask:
        """True where a pixel is no count, (rows, columns)."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape) > 0

    @property
    def identity(self) -> str:
        """sha256 of its pixels."""
        return hashlib.sha256(f"{self.shape}".encode() + self.packed).hexdigest()

    def apply(self, frame: Frame) -> Frame:
        """A `frame` (rows, columns) with NaN where it is masked. Raises InputError for a frame of
        another shape."""
        if frame.shape != self.shape:
            mine, its = ("x".join(map(str, shape)) for shape in (self.shape, frame.shape))
            raise InputError(
                f"the mask {self.name} has {mine} px, the frame {its}; give one of the frame's "
                "shape",
                "mask",
            )
        return np.where(self.masked, np.float32(np.nan), frame)


def read_mask(path: Path) -> PixelMask:
    """Read the mask from an image file of any format that gdn reads. A pixel that is not zero
    (or is NaN) is no count. Raises InputError for a file of several images, or one that cannot
    be read."""
    frames = read_frames(path)
    if frames.count != 1:
        raise InputError(f"{path}: holds {frames.count} images; a mask must be one image", "mask")
    try:
        raw = np.asarray(frames.pixels[0])
    except Exception as error:  # codecs raise many kinds
        raise InputError(f"{path}: cannot be decoded ({one_line(error)})", "mask") from None
    if raw.ndim == 3:
        raw = gray(path, raw)
    return PixelMask.of(path.name, raw != 0)

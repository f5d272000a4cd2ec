"""An opened file of frames, whatever its format: shape, axes, calibration, and frames read one at a
time.

Axes are tifffile's letters; Y and X are the image, everything before them counts frames. Sampling
is in Å per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gdn.errors import EmptyFrame, InputError

Frame = NDArray[np.float32]  # (rows, columns)
Style = Literal["imagej", "ome", "plain"]

MINIMUM_SIDE = 16  # px; below this there is nothing to estimate noise from
MAXIMUM_PIXELS = (
    2**28
)  # of a frame, 16384 x 16384: what a damaged header declares must not be allocated
MOST_MISSING = 0.9  # of a frame's pixels
OBLONG = 1.01  # ratio of a pixel's sides from which on it is not square
_ANGSTROM_PER = {
    "\u00e5": 1.0,
    "\u212b": 1.0,
    "angstrom": 1.0,
    "angstroms": 1.0,
    "ang": 1.0,
    "a": 1.0,
    "\\u00c5".lower(): 1.0,
    "nm": 10.0,
    "n_m": 10.0,
    "nanometer": 10.0,
    "nanometre": 10.0,
    "nanometers": 10.0,
    "pm": 0.01,
    "picometer": 0.01,
    "um": 1e4,
    "\u00b5m": 1e4,
    "\u03bcm": 1e4,
    "micron": 1e4,
    "microns": 1e4,
    "\\u00b5m": 1e4,
    "micrometer": 1e4,
    "mm": 1e7,
    "millimeter": 1e7,
    "cm": 1e8,
    "m": 1e10,
    "meter": 1e10,
}


class FrameError(InputError):
    """A frame or file that cannot be used; the message is one line that names it and says what to
    do."""


@dataclass(frozen=True, kw_only=True)
class FrameCalibration:
    """What a file says of its pixels: `sampling_angstrom` (None: nothing that can be used, and
    `trouble` says why)."""

    sampling_angstrom: float | None = None
    style: Style = "plain"
    axes: str = "YX"
    shape: tuple[int, ...] = ()
    trouble: str = ""


def pixel_size(sizes: list[tuple[float, str]]) -> tuple[float | None, str]:
    """Å per pixel of (size, unit) along X and Y, or None and why not."""
    found = []
    for size, unit in sizes:
        scale = _ANGSTROM_PER.get(str(unit).strip().lower())
        if not np.isfinite(size) or size <= 0:
            continue
        if scale is None:
            return (
                None,
                f"carries a pixel size of {size:.4g} in {unit or 'no unit'}, which is no "
                "length that gdn knows",
            )
        found.append(float(size) * scale)
    if not found:
        return None, ""
    if max(found) > OBLONG * min(found):
        return None, f"has pixels that are not square ({found[0]:.4g} x {found[-1]:.4g} Å)"
    return float(np.mean(found)), ""


class Pixels(Protocol):
    """Frames by their number; each (rows, columns), any real type. Read when asked for."""

    def __getitem__(self, index: int, /) -> Any:
        """Frame `index`."""


@dataclass(frozen=True, kw_only=True)
class FrameFile:
    """An opened file: `count` frames of `frame_shape`, read by `read(i)`; `notes` are warnings
    about how it was opened."""

    path: Path
    calibration: FrameCalibration
    count: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixels: Pixels
    format: str = "tif"
    notes: list[str] = field(default_factory=list)

    def sampling(self, given: float | None) -> float:
        """Å per pixel: `given`, or what the file says. Raises FrameError where neither is there."""
        found = given or self.calibration.sampling_angstrom
        if found is None:
            why = self.calibration.trouble or "carries no pixel size"
            raise FrameError(
                f"{self.path}: {why}; give it in Å per pixel, for example 0.06", "sampling"
            )
        return found

    def read(self, index: int, whole: bool = False) -> Frame:
        """Frame `index`, float32; NaN where nothing was recorded (NaN or infinity in the file).
        Raises FrameError for any of those where the frame must be `whole`, and for data that ends
        early; EmptyFrame for a constant frame, and for one with more than MOST_MISSING of those."""
        try:
            raw = np.asarray(self.pixels[index])
        except FrameError:
            raise
        except Exception as error:  # codecs raise many kinds
            raise FrameError(
                f"{self.path}: frame {index} cannot be decoded ({one_line(error)}); is the "
                "file complete?"
            ) from None
        if raw.ndim == 3:
            raw = gray(self.path, raw)
        if raw.shape != self.frame_shape:
            raise FrameError(
                f"{self.path}: frame {index} is {'x'.join(map(str, raw.shape))} px, not "
                f"{self.frame_shape}"
            )
        frame = raw.astype(np.float32)
        missing = ~np.isfinite(frame)
        bad = int(missing.sum())
        if bad > (0 if whole else MOST_MISSING * frame.size):
            most = "none" if whole else f"at most {MOST_MISSING:.0%} of them"
            kind = FrameError if whole else EmptyFrame
            raise kind(
                f"{self.path}: frame {index} has {bad} NaN or infinite pixels; {most} can be "
                "left out"
            )
        if bad:
            frame[missing] = np.nan
        if np.nanmin(frame) == np.nanmax(frame):
            raise EmptyFrame(
                f"{self.path}: frame {index} is constant (every pixel is "
                f"{np.nanmin(frame):g}); nothing to denoise"
            )
        return frame

    def summed(self) -> FrameFile:
        """One frame, the sum of all: a movie of dose fractions."""
        calibration = replace(self.calibration, axes="YX", shape=self.frame_shape)
        return replace(
            self, calibration=calibration, count=1, dtype=np.dtype(np.float32), pixels=_Sum(self)
        )


class _Sum:
    """The sum of a file's frames, one of them in memory at a time."""

    def __init__(self, source: FrameFile) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Frame:
        total = np.zeros(self.source.frame_shape)
        for number in range(self.source.count):
            total += np.asarray(self.source.pixels[number])
        return total.astype(np.float32)


def one_line(error: BaseException) -> str:
    """What went wrong, on one line of at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:160]


def gray(path: Path, raw: NDArray[Any]) -> NDArray[Any]:
    """One channel of a picture whose channels are equal; a real colour picture is refused."""
    colour = raw[..., :3]
    if colour.shape[-1] == 3 and (colour == colour[..., :1]).all():
        return colour[..., 0]
    raise FrameError(
        f"{path}: a colour picture ({raw.shape[-1]} samples per pixel); save it as one gray channel"
    )


class _Stack:
    """Frames of an array whose leading axes count them; read when asked for."""

    def __init__(self, data: Any, leading: tuple[int, ...]) -> None:
        self.data, self.leading = data, leading

    def __getitem__(self, index: int) -> Any:
        at = np.unravel_index(index, self.leading) if self.leading else ()
        return self.data[tuple(int(i) for i in at)] if at else self.data[...]


def of_array(
    path: Path,
    data: Any,
    axes: str,
    sizes: list[tuple[float, str]],
    name: str,
    notes: list[str] | None = None,
) -> FrameFile:
    """A file whose frames are the last two axes of `data` (anything with shape, dtype and
    indexing). Raises FrameError where that is no image."""
    shape = tuple(int(n) for n in data.shape)
    check_layout(path, shape, axes, data.dtype)
    sampling, trouble = pixel_size(sizes)
    leading = shape[:-2]
    calibration = FrameCalibration(
        sampling_angstrom=sampling, style="plain", axes=axes, shape=shape, trouble=trouble
    )
    count = int(np.prod(leading, dtype=int))
    return FrameFile(
        path=path,
        calibration=calibration,
        count=count,
        frame_shape=(shape[-2], shape[-1]),
        dtype=np.dtype(data.dtype),
        pixels=_Stack(data, leading),
        format=name,
        notes=notes or [],
    )


def check_layout(path: Path, shape: tuple[int, ...], axes: str, dtype: Any) -> None:
    """Raises FrameError unless an array is a stack of gray frames of at least MINIMUM_SIDE px."""
    said = "x".join(map(str, shape))
    if dtype is None or np.dtype(dtype).kind not in "uif":
        raise FrameError(f"{path}: pixels of type {dtype}; integers or real numbers are needed")
    if 0 in shape or len(shape) < 2:
        raise FrameError(f"{path}: an empty image of shape {said}")
    plain = axes.removesuffix("S")
    if not plain.endswith("YX") or ("C" in plain and shape[plain.index("C")] > 1):
        raise FrameError(f"{path}: axes {axes} of shape {said}; frames must be gray, (..., Y, X)")
    frame = shape[len(plain) - 2 : len(plain)]
    if min(frame) < MINIMUM_SIDE:
        raise FrameError(
            f"{path}: {frame[0]}x{frame[1]} px; at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px "
            "are needed"
        )
    if frame[0] * frame[1] > MAXIMUM_PIXELS:
        raise FrameError(
            f"{path}: frames of {frame[0]}x{frame[1]} px; at most {MAXIMUM_PIXELS >> 20} "
            "million pixels are taken"
        )

"""An opened file of frames of any format: shape, axes, calibration, and frames read one at a time.

Axes are tifffile's letters: Y and X are the image, all axes before them count frames. Sampling is
in Å per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gdn.errors import EmptyFrame, InputError
from gdn.frames.mapped import Stored
from gdn.frames.scan import Scan
from gdn.frames.units import pixel_size

Frame = NDArray[np.float32]  # (rows, columns)
Style = Literal["imagej", "ome", "plain"]

MINIMUM_SIDE = 16  # px; below this there is nothing to estimate noise from
MAXIMUM_PIXELS = (
    2**28
)  # of a frame, 16384 x 16384: what a damaged header declares must not be allocated
MOST_MISSING = 0.9  # of a frame's pixels


class FrameError(InputError):
    """A frame or file that cannot be used. The message is one line that names it and says what to
    do."""


class EmptyFrameOfFile(FrameError, EmptyFrame):
    """A frame of a file in which there is nothing to denoise. The message names it."""


@dataclass(frozen=True, kw_only=True)
class FrameCalibration:
    """What a file states about its pixels.

    - `sampling_angstrom`: Å per pixel; None if the file states nothing usable.
    - `style`: in which the file is written, and results of it too.
    - `axes`: a letter for each axis, as in TIFF: T, Z, Y, X and so on.
    - `shape`: the length of each axis.
    - `trouble`: why there is no pixel size.
    - `unit`: of the sampling in the file.
    - `steps`: by an axis's letter, the step from one frame to the next, with its unit.
    - `mrc`: of an MRC file its space group, mz, and Å per voxel along z.
    """

    sampling_angstrom: float | None = None
    style: Style = "plain"
    axes: str = "YX"
    shape: tuple[int, ...] = ()
    trouble: str = ""
    unit: str = ""
    steps: dict[str, tuple[float, str]] = field(default_factory=dict)
    mrc: tuple[int, int, float] | None = None


class Pixels(Protocol):
    """Frames by their number, each (rows, columns), of any real type. They are read when asked
    for."""

    def __getitem__(self, index: int, /) -> Any:
        """Frame `index`."""


def no_scan(index: int) -> Scan | None:
    """Of frames that are as they were recorded."""
    del index
    return None


@dataclass(frozen=True, kw_only=True)
class FrameFile:
    """An opened file of frames, which `read` reads one by one.

    - `path`: of the file.
    - `calibration`: what it states about its pixels.
    - `count`: number of frames.
    - `frame_shape`: rows and columns of each.
    - `dtype`: number type in the file.
    - `pixels`: the frames as they are in the file.
    - `format`: its name, such as tif.
    - `notes`: warnings about how it was opened.
    - `cut_off`: what is there of how much, where the file says that it had more frames.
    - `scan_of`: what was taken off the rows of a frame.
    """

    path: Path
    calibration: FrameCalibration
    count: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixels: Pixels
    format: str = "tif"
    notes: list[str] = field(default_factory=list)
    cut_off: str = ""
    scan_of: Callable[[int], Scan | None] = no_scan

    def sampling(self, given: float | None) -> float:
        """Å per pixel: `given`, or what the file states. Raises FrameError if there is neither."""
        sampling = given or self.calibration.sampling_angstrom
        if sampling is None:
            why = self.calibration.trouble or "carries no pixel size"
            raise FrameError(
                f"{self.path}: {why}; give it in Å per pixel, for example 0.06", "sampling"
            )
        return sampling

    def read(self, index: int, whole: bool = False) -> Frame:
        """Frame `index`, float32, with NaN where nothing was recorded (NaN or infinity in the
        file). Raises FrameError for such pixels if the frame must be `whole`, and for data that
        ends early. Raises EmptyFrame for a constant frame, and for one with more than MOST_MISSING
        of such pixels."""
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
        check_precision(self.path, index, raw, frame)
        missing = ~np.isfinite(frame)
        bad = int(missing.sum())
        if bad > (0 if whole else MOST_MISSING * frame.size):
            most = "none" if whole else f"at most {MOST_MISSING:.0%} of them"
            kind = FrameError if whole else EmptyFrameOfFile
            raise kind(
                f"{self.path}: frame {index} has {bad} NaN or infinite pixels; {most} can be "
                "left out"
            )
        if bad:
            frame[missing] = np.nan
        if np.nanmin(frame) == np.nanmax(frame):
            raise EmptyFrameOfFile(
                f"{self.path}: frame {index} is constant (every pixel is "
                f"{np.nanmin(frame):g}); nothing to denoise"
            )
        return frame

    def mean(self, index: int) -> float:
        """Mean of the recorded pixels of frame `index`; NaN if it cannot be decoded or has none."""
        try:
            raw = np.asarray(self.pixels[index], dtype=np.float64)
        except Exception:  # codecs raise many kinds
            return float("nan")
        recorded = raw[np.isfinite(raw)]
        return float(recorded.mean()) if recorded.size else float("nan")

    def summed(self) -> FrameFile:
        """One frame, the sum of all frames: for a movie of dose fractions."""
        calibration = replace(
            self.calibration, axes="YX", shape=self.frame_shape, steps={}, mrc=None
        )
        return replace(
            self,
            calibration=calibration,
            count=1,
            dtype=np.dtype(np.float32),
            pixels=_Sum(self),
            scan_of=lambda _: self.scan_of(0),
        )


class _Sum:
    """The sum of a file's frames. One of them is in memory at a time."""

    def __init__(self, source: FrameFile) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Frame:
        total = np.zeros(self.source.frame_shape)
        for number in range(self.source.count):
            total += np.asarray(self.source.pixels[number])
        return total.astype(np.float32)


def one_line(error: BaseException) -> str:
    """The error on one line of at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:160]


def gray(path: Path, raw: NDArray[Any]) -> NDArray[Any]:
    """One channel of a picture whose channels are equal. A true colour picture is refused."""
    colour = raw[..., :3]
    if colour.shape[-1] == 3 and (colour == colour[..., :1]).all():
        return colour[..., 0]
    tiff = path.suffix.lower() in (".tif", ".tiff")
    movie = ", or a movie of so many frames with photometric 'minisblack'" if tiff else ""
    raise FrameError(
        f"{path}: a colour picture ({raw.shape[-1]} samples per pixel); save it as one gray "
        f"channel{movie}"
    )


class _Planes:
    """Images of an array, by their number along its other axes. They are read when asked for."""

    def __init__(self, data: Any, image: tuple[int, int]) -> None:
        self.data = Stored(data) if isinstance(data, np.ndarray) else data
        self.image = image
        self.leading = [axis for axis in range(len(data.shape)) if axis not in image]

    def __getitem__(self, index: int) -> Any:
        at: list[Any] = [slice(None)] * len(self.data.shape)
        lengths = tuple(int(self.data.shape[axis]) for axis in self.leading)
        numbers = np.unravel_index(index, lengths) if lengths else ()
        for axis, number in zip(self.leading, numbers, strict=True):
            at[axis] = int(number)
        plane = np.asarray(self.data[tuple(at)])
        return plane if self.image[0] < self.image[1] else plane.T


class Scaled:
    """Pixels whose values are `offset` + `scale` times the stored ones, float32."""

    def __init__(self, pixels: Pixels, scale: float, offset: float) -> None:
        self.pixels, self.scale, self.offset = pixels, scale, offset

    def __getitem__(self, index: int) -> Frame:
        stored = np.asarray(self.pixels[index], dtype=np.float64)
        return np.asarray(self.offset + self.scale * stored, dtype=np.float32)


def of_array(
    path: Path,
    data: Any,
    axes: str,
    sizes: list[tuple[float, str]],
    name: str,
    notes: list[str] | None = None,
) -> FrameFile:
    """A file whose frames are the last two axes of `data` (anything with shape, dtype and
    indexing). `axes` has a letter for each axis; `sizes` are pixel sizes with their unit. Raises
    FrameError if that is no image."""
    shape = tuple(int(n) for n in data.shape)
    sampling, trouble = pixel_size(sizes)
    calibration = FrameCalibration(
        sampling_angstrom=sampling,
        axes=axes,
        shape=shape,
        trouble=trouble,
        unit=sizes[-1][1] if sizes and sampling else "",
    )
    return of_planes(path, data, (len(shape) - 2, len(shape) - 1), calibration, name, notes)


def of_planes(
    path: Path,
    data: Any,
    image: tuple[int, int],
    calibration: FrameCalibration,
    name: str,
    notes: list[str] | None = None,
) -> FrameFile:
    """A file whose frames are the axes `image` of `data`. The `calibration` lists the other axes
    before them. Raises FrameError if that is no image."""
    shape = calibration.shape
    check_layout(path, shape, calibration.axes, data.dtype)
    return FrameFile(
        path=path,
        calibration=calibration,
        count=int(np.prod(shape[:-2], dtype=int)),
        frame_shape=(shape[-2], shape[-1]),
        dtype=np.dtype(data.dtype),
        pixels=_Planes(data, image),
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
    if not plain.endswith("YX"):
        raise FrameError(f"{path}: axes {axes} of shape {said}; frames must be gray, (..., Y, X)")
    frame = shape[len(plain) - 2 : len(plain)]
    small = too_small((frame[0], frame[1]))
    if small:
        raise FrameError(f"{path}: {frame[0]}x{frame[1]} px; {small}")
    if frame[0] * frame[1] > MAXIMUM_PIXELS:
        raise FrameError(
            f"{path}: frames of {frame[0]}x{frame[1]} px; at most {MAXIMUM_PIXELS >> 20} "
            "million pixels are taken"
        )


def check_precision(path: Path, index: int, raw: NDArray[Any], frame: Frame) -> None:
    """Raises FrameError if a frame's values, of any type, differ by too little for the 24 bits of
    float32: they have a large offset, as a clock or an address has."""
    if raw.dtype.itemsize <= 2 or raw.dtype == np.float32 or np.isfinite(raw).sum() == 0:
        return
    values = raw[np.isfinite(raw)].astype(np.float64)
    if np.spacing(np.float32(np.abs(values).max())) > 0.1 * values.std() > 0:
        raise FrameError(
            f"{path}: frame {index}: values near {values.mean():.6g} differ by only "
            f"{values.std():.3g}, which 32-bit numbers lose; subtract the offset"
        )


def too_small(frame: tuple[int, int]) -> str:
    """What is wrong with the size of frames (rows, columns) px; '' if nothing is."""
    if min(frame) >= MINIMUM_SIDE:
        return ""
    colour = "; a colour picture? save it as one gray channel" if frame[1] in (3, 4) else ""
    return f"at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px are needed{colour}"

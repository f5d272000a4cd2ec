"""TIFF frames in and out: single frames and stacks, ImageJ, OME and plain, with their calibration.

Axes are tifffile's letters; Y and X are the image, everything before them counts frames. Sampling is
in Å per pixel. Frames are read one at a time, and results are written one at a time.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

Frame = NDArray[np.float32]  # (rows, columns)

MINIMUM_SIDE = 16  # px; below this there is nothing to estimate noise from
_ANGSTROM_PER = {
    "\u00e5": 1.0, "\u212b": 1.0, "angstrom": 1.0, "angstroms": 1.0, "a": 1.0, "\\u00c5".lower(): 1.0,
    "nm": 10.0, "nanometer": 10.0, "nanometre": 10.0, "pm": 0.01, "picometer": 0.01,
    "um": 1e4, "\u00b5m": 1e4, "\u03bcm": 1e4, "micron": 1e4, "microns": 1e4, "\\u00b5m": 1e4,
    "mm": 1e7, "cm": 1e8, "m": 1e10,
}  # fmt: skip


class FrameError(ValueError):
    """A frame or file that cannot be used; the message is one line that names it and says what to do."""


@dataclass(frozen=True)
class Calibration:
    """What a file says of its pixels: `sampling_angstrom` (None: nothing), and how it said it."""

    sampling_angstrom: float | None = None
    style: Literal["imagej", "ome", "plain"] = "plain"
    axes: str = "YX"
    shape: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameFile:
    """An opened file: `count` frames of `frame_shape`, read by `read(i)`."""

    path: Path
    calibration: Calibration
    count: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    _data: Any

    def sampling(self, given: float | None) -> float:
        """Å per pixel: `given`, or what the file says. Raises FrameError where neither is there."""
        found = given or self.calibration.sampling_angstrom
        if found is None:
            raise FrameError(f"{self.path}: carries no pixel size; give it in Å per pixel, for example --sampling 0.06")
        return found

    def read(self, index: int) -> Frame:
        """Frame `index`, float32. Raises FrameError for NaN, infinity, or data that ends early."""
        try:
            raw = np.asarray(self._data[index])
        except Exception as error:  # codecs raise many kinds
            raise FrameError(
                f"{self.path}: frame {index} cannot be decoded ({_one_line(error)}); is the file complete?"
            ) from None
        if raw.ndim == 3:
            raw = _gray(self.path, raw)
        frame = raw.astype(np.float32)
        bad = int(frame.size - np.isfinite(frame).sum())
        if bad:
            raise FrameError(f"{self.path}: frame {index} has {bad} NaN or infinite pixels; repair or mask them first")
        if frame.min() == frame.max():
            raise FrameError(f"{self.path}: frame {index} is constant (every pixel is {frame.flat[0]:g}); nothing to denoise")
        return frame


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:160]


def _gray(path: Path, raw: NDArray[Any]) -> NDArray[Any]:
    """One channel of a picture whose channels are equal; a real colour picture is refused."""
    colour = raw[..., :3]
    if colour.shape[-1] == 3 and (colour == colour[..., :1]).all():
        return colour[..., 0]
    raise FrameError(f"{path}: a colour picture ({raw.shape[-1]} samples per pixel); save it as one gray channel")


def read_frames(path: Path) -> FrameFile:
    """Open a TIFF. Raises FrameError if it is missing, not a TIFF, truncated, or has no usable frame."""
    if not path.exists():
        raise FrameError(f"{path}: no such file")
    if path.is_dir():
        raise FrameError(f"{path}: a folder, not a file; give its files, for example '{path}/*.tif'")
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0] if tif.series else None
            if series is None:
                raise FrameError(f"{path}: a TIFF without an image")
            shape, axes, dtype = tuple(series.shape), series.axes, series.dtype
            sampling, style = _sampling(tif, path)
            _check_layout(path, shape, axes, dtype)
            colour = axes.endswith("S")
            whole = (len(series.pages) == 1 and (len(shape) == 2 or colour)) or colour
            data: Any = series.asarray() if whole else _Pages(path, shape, len(shape) - 2)
    except FrameError:
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds on broken files
        raise FrameError(f"{path}: not a readable TIFF ({_one_line(error)})") from None
    frame_axes = 3 if colour else 2
    rows, columns = shape[len(shape) - frame_axes], shape[len(shape) - frame_axes + 1]
    count = int(np.prod(shape[: len(shape) - frame_axes], dtype=int))
    if isinstance(data, np.ndarray):
        data = data.reshape((count, *shape[len(shape) - frame_axes :]))
    if min(rows, columns) < MINIMUM_SIDE or count == 0:
        raise FrameError(f"{path}: {rows}x{columns} px, {count} frame(s); at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px are needed")
    axes = axes.removesuffix("S")
    calibration = Calibration(sampling, style, axes, shape[: len(axes)])
    return FrameFile(path, calibration, count, (rows, columns), np.dtype(dtype), data)


class _Pages:
    """Frames of a stack read page by page, so that memory does not grow with the stack."""

    def __init__(self, path: Path, shape: tuple[int, ...], leading: int) -> None:
        self.path, self.shape, self.count = path, shape[leading:], int(np.prod(shape[:leading], dtype=int))

    def __getitem__(self, index: int) -> NDArray[Any]:
        with tifffile.TiffFile(self.path) as tif:
            series = tif.series[0]
            if len(series.pages) == self.count:
                page = series.pages[index]
                if page is None:
                    return np.zeros(self.shape, series.dtype)
                return np.asarray(page.asarray()).reshape(self.shape)
            # ImageJ keeps big stacks behind one page: map them instead.
            mapped = tifffile.memmap(self.path, mode="r", series=0)
            return np.array(mapped.reshape((self.count, *self.shape))[index])


def _check_layout(path: Path, shape: tuple[int, ...], axes: str, dtype: Any) -> None:
    if dtype is None or np.dtype(dtype).kind not in "uif":
        raise FrameError(f"{path}: pixels of type {dtype}; integers or real numbers are needed")
    if 0 in shape or len(shape) < 2:
        raise FrameError(f"{path}: an empty image of shape {'x'.join(map(str, shape))}")
    plain = axes.removesuffix("S")
    if not plain.endswith("YX") or ("C" in plain and shape[plain.index("C")] > 1):
        raise FrameError(f"{path}: axes {axes} of shape {'x'.join(map(str, shape))}; frames must be gray, (..., Y, X)")


def _sampling(tif: tifffile.TiffFile, path: Path) -> tuple[float | None, Literal["imagej", "ome", "plain"]]:
    """Å per pixel from ImageJ's, OME's or gdn's own metadata. Plain resolution tags mean print size."""
    if tif.is_ome and tif.ome_metadata:
        return _ome_sampling(tif.ome_metadata, path), "ome"
    tags: Any = tif.pages.first.tags if len(tif.pages) else {}
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", "")).strip().lower()
        scale = _ANGSTROM_PER.get(unit)
        if scale is None or "XResolution" not in tags:
            return None, "imagej"
        per_unit = [_ratio(tags[name].value) for name in ("XResolution", "YResolution") if name in tags]
        return _isotropic([scale / r for r in per_unit if r > 0], path), "imagej"
    for description in tif.shaped_metadata or ():
        value = description.get("sampling_angstrom")
        if isinstance(value, int | float) and value > 0:
            return float(value), "plain"
    return None, "plain"


def _ratio(value: Any) -> float:
    return float(value[0]) / float(value[1]) if value[1] else 0.0


def _isotropic(values: list[float], path: Path) -> float | None:
    if not values or not all(np.isfinite(values)):
        return None
    if max(values) > 1.01 * min(values):
        raise FrameError(
            f"{path}: pixels are not square ({values[0]:.4g} x {values[1]:.4g} Å); resample first, or say --sampling"
        )
    return values[0]


def _ome_sampling(xml: str, path: Path) -> float | None:
    """PhysicalSizeX and PhysicalSizeY of the first image; their default unit is µm."""
    pixels = (tifffile.xml2dict(xml).get("OME", {}) or {}).get("Image", {})
    pixels = (pixels[0] if isinstance(pixels, list) else pixels).get("Pixels", {})
    found = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        scale = _ANGSTROM_PER.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if isinstance(size, int | float) and size > 0 and scale:
            found.append(size * scale)
    return _isotropic(found, path)


def _write_options(calibration: Calibration, description: dict[str, Any]) -> dict[str, Any]:
    """tifffile's arguments that give an output the axes, calibration and style of its input."""
    s = calibration.sampling_angstrom
    metadata: dict[str, Any] = {"axes": calibration.axes}
    if calibration.style == "ome":
        if s:
            metadata |= {"PhysicalSizeX": s, "PhysicalSizeXUnit": "Å", "PhysicalSizeY": s, "PhysicalSizeYUnit": "Å"}
        return {"ome": True, "photometric": "minisblack", "metadata": metadata}
    if calibration.style == "imagej":
        if not s:
            return {"imagej": True, "metadata": metadata}
        return {"imagej": True, "resolution": (10 / s, 10 / s), "metadata": metadata | {"unit": "nm"}}
    # Said outright, or three frames would be taken for red, green and blue.
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": metadata | description}
    if s:
        options["metadata"]["sampling_angstrom"] = s
        if s > 0.03:  # the tag holds at most 2^32 pixels per centimetre
            options |= {"resolution": (1e8 / s, 1e8 / s), "resolutionunit": "CENTIMETER"}
    return options


def write_tiff(path: Path, image: Frame, calibration: Calibration, description: dict[str, Any] | None = None) -> None:
    """Write one float32 image; its name appears only when it is complete."""
    with writing(path) as temporary:
        tifffile.imwrite(temporary, image.astype(np.float32), **_write_options(calibration, description or {}))


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` if the block succeeds and vanishes if not."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def result_writer(path: Path, source: FrameFile, sampling_angstrom: float) -> Iterator[Any]:
    """A float32 array (count, rows, columns) mapped on a new file with the axes and style of `source`.

    Fill it frame by frame; the file takes its name when the block ends well.
    """
    given = source.calibration
    calibration = Calibration(sampling_angstrom, given.style, given.axes, given.shape)
    with writing(path) as temporary:
        mapped = tifffile.memmap(
            temporary, shape=given.shape, dtype=np.float32, **_write_options(calibration, {"program": "gdn"})
        )
        yield mapped.reshape((source.count, *source.frame_shape))
        mapped.flush()
        del mapped


def release(array: NDArray[Any]) -> None:
    """Let the pages of an array that is mapped on a file leave memory; what was written to them is kept."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none; it trims by itself
        base.madvise(mmap.MADV_DONTNEED)

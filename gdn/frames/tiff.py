"""TIFF in: single frames and stacks, ImageJ, OME and plain, tiled, compressed, BigTIFF, with their
calibration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gdn.frames.source import (
    FrameCalibration,
    FrameError,
    FrameFile,
    Style,
    check_layout,
    one_line,
    pixel_size,
)
from gdn.frames.tiff_pages import ContiguousFrames, FramesThere, check_pages, frames_there


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """What is wrong with a file is said once, by FrameError: tifffile's own remarks are dropped,
    those made in this thread while the block runs."""
    here, logger = threading.get_ident(), logging.getLogger("tifffile")

    def others(record: logging.LogRecord) -> bool:
        return record.thread != here

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def read_tiff(path: Path, dataset: str | None = None) -> FrameFile:
    """Open a TIFF; `dataset`: number of the series. Raises FrameError if it is not a TIFF,
    truncated, or has no usable frame."""
    chain_cut = check_pages(path)
    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            series, number = _series(tif, path, dataset)
            shape, axes, dtype = tuple(series.shape), series.axes, series.dtype
            sampling, style, trouble = _sampling(tif, number)
            check_layout(path, shape, axes, dtype)
            found = frames_there(tif, series, path.stat().st_size, chain_cut)
            if found.words and found.there:
                return _cut_off(path, series, found, number, (sampling, style, trouble))
            colour = axes.endswith("S")
            whole = (len(series.pages) == 1 and (len(shape) == 2 or colour)) or colour
            data: Any = series.asarray() if whole else _Pages(path, number, shape, len(shape) - 2)
            others = len(tif.series) - 1
    except FrameError:
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds on broken files
        raise FrameError(f"{path}: not a readable TIFF ({one_line(error)})") from None
    frame_axes = 3 if colour else 2
    rows, columns = shape[len(shape) - frame_axes], shape[len(shape) - frame_axes + 1]
    count = int(np.prod(shape[: len(shape) - frame_axes], dtype=int))
    if isinstance(data, np.ndarray):
        data = data.reshape((count, *shape[len(shape) - frame_axes :]))
    axes = axes.removesuffix("S")
    notes = (
        [f"{others + 1} series in the file; series {number} is read, unless a dataset is named"]
        if others and dataset is None
        else []
    )
    calibration = FrameCalibration(
        sampling_angstrom=sampling,
        style=style,
        axes=axes,
        shape=shape[: len(axes)],
        trouble=trouble,
    )
    return FrameFile(
        path=path,
        calibration=calibration,
        count=count,
        frame_shape=(rows, columns),
        dtype=np.dtype(dtype),
        pixels=data,
        format="tif",
        notes=notes,
    )


def _cut_off(
    path: Path,
    series: Any,
    found: FramesThere,
    number: int,
    calibration: tuple[float | None, Style, str],
) -> FrameFile:
    """The frames that are there of a file that is cut off."""
    colour = series.axes.endswith("S")
    shape = tuple(series.shape[-3 if colour else -2 :])
    sampling, style, trouble = calibration
    frames: Any
    if found.offset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(series.parent.byteorder)
        frames = ContiguousFrames(path, found.offset, dtype, shape, found.there)
    else:
        frames = _Pages(path, number, tuple(series.shape), len(series.shape) - len(shape))
    return FrameFile(
        path=path,
        calibration=FrameCalibration(
            sampling_angstrom=sampling,
            style=style,
            axes="TYX" if found.there > 1 else "YX",
            shape=(found.there, *shape[:2]) if found.there > 1 else shape[:2],
            trouble=trouble,
        ),
        count=found.there,
        frame_shape=(shape[0], shape[1]),
        dtype=np.dtype(series.dtype),
        pixels=frames,
        cut_off=found.words,
    )


def _series(tif: tifffile.TiffFile, path: Path, dataset: str | None) -> tuple[Any, int]:
    if not tif.series:
        raise FrameError(f"{path}: a TIFF without an image")
    if dataset is None:
        return tif.series[0], 0
    number = int(dataset) if dataset.isdecimal() else -1
    if not 0 <= number < len(tif.series):
        raise FrameError(
            f"{path}: no series {dataset}; of a TIFF, a series from 0 to {len(tif.series) - 1}",
            "dataset",
        )
    return tif.series[number], number


class _Pages:
    """Frames of a stack read page by page, so that memory does not grow with the stack."""

    def __init__(self, path: Path, series: int, shape: tuple[int, ...], leading: int) -> None:
        self.path, self.series = path, series
        self.shape, self.count = shape[leading:], int(np.prod(shape[:leading], dtype=int))

    def __getitem__(self, index: int) -> NDArray[Any]:
        with quiet_tifffile(), tifffile.TiffFile(self.path) as tif:
            series = tif.series[self.series]
            if len(series.pages) == self.count:
                page = series.pages[index]
                if page is None:
                    return np.zeros(self.shape, series.dtype)
                return np.asarray(page.asarray()).reshape(self.shape)
            # ImageJ keeps big stacks behind one page: map them instead.
            mapped = tifffile.memmap(self.path, mode="r", series=self.series)
            return np.array(mapped.reshape((self.count, *self.shape))[index])


def _sampling(tif: tifffile.TiffFile, series: int) -> tuple[float | None, Style, str]:
    """Å per pixel from ImageJ's, OME's or gdn's own metadata. Plain resolution tags mean print
    size."""
    if tif.is_ome and tif.ome_metadata:
        sampling, trouble = _ome_sampling(tif.ome_metadata, series)
        return sampling, "ome", trouble
    tags: Any = tif.pages.first.tags if len(tif.pages) else {}
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", ""))
        ratios = [
            _ratio(tags[name].value) for name in ("XResolution", "YResolution") if name in tags
        ]
        if not unit.strip() or unit.strip().lower() in ("pixel", "pixels", "inch", "null"):
            return None, "imagej", ""
        sampling, trouble = pixel_size([(1 / r, unit) for r in ratios if r > 0])
        return sampling, "imagej", trouble
    for description in tif.shaped_metadata or ():
        value = description.get("sampling_angstrom")
        if isinstance(value, int | float) and value > 0:
            return float(value), "plain", ""
    return None, "plain", ""


def _ratio(value: Any) -> float:
    return float(value[0]) / float(value[1]) if value[1] else 0.0


def _ome_sampling(xml: str, series: int) -> tuple[float | None, str]:
    """PhysicalSizeX and PhysicalSizeY of the image; their default unit is µm."""
    images = (tifffile.xml2dict(xml).get("OME", {}) or {}).get("Image", {})
    images = images if isinstance(images, list) else [images]
    pixels = images[min(series, len(images) - 1)].get("Pixels", {})
    found = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        if isinstance(size, int | float) and size > 0:
            found.append((float(size), str(pixels.get(f"PhysicalSize{axis}Unit", "µm"))))
    return pixel_size(found)

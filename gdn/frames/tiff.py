"""Read TIFF: single frames and stacks, ImageJ, OME and plain, tiled, compressed, BigTIFF, with
their calibration."""

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

from gdn.frames.bounds import check_named_files, check_opened_files
from gdn.frames.choosing import Arrays
from gdn.frames.mapped import Stored
from gdn.frames.source import FrameError, FrameFile, check_layout, one_line
from gdn.frames.tiff_calibration import stated
from gdn.frames.tiff_pages import check_compression, check_pages, frames_there
from gdn.frames.unread import check_read
from gdn.frames.values import rescale

PALETTE = "a picture in colours of a palette; save it as one gray channel"


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Drop tifffile's own log messages from this thread while the block runs. FrameError reports
    each fault once."""
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
            if tif.is_eer:
                check_read(path, ".eer")
            others = check_named_files(path, tif.ome_metadata if tif.is_ome else None)
            number, notes = _series(tif, path, dataset)
            series = tif.series[number]
            check_opened_files(path, series.pages)
            if others:
                notes = [*notes, f"planes of {', '.join(others)} in its folder belong to it"]
            shape, axes, dtype = tuple(series.shape), series.axes, series.dtype
            metadata = stated(tif, number, path)
            colour = axes.find("S")
            if colour >= 0:
                axes = axes.replace("S", "") + "S"
                shape = (*shape[:colour], *shape[colour + 1 :], shape[colour])
            check_layout(path, shape, axes, dtype)
            check_compression(path, series)
            there = frames_there(path, tif, series, chain_cut)
            cut_off = bool(there.words and there.there) and colour < 0
            whole = (len(series.pages) == 1 and len(shape) == 2 and not cut_off) or colour >= 0
            data: Any = series.asarray() if whole else _Pages(path, number, shape, len(shape) - 2)
            if colour >= 0:
                data = np.moveaxis(data, colour, -1)
            if cut_off:
                data = data if there.mapped is None else Stored(there.mapped)
                axes, shape = "TYX", (there.there, *shape[-2:])
    except FrameError:
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds on broken files
        raise FrameError(f"{path}: not a readable TIFF ({one_line(error)})") from None
    axes = axes.removesuffix("S")
    calibration = metadata.calibration(path, axes, shape[: len(axes)])
    leading = calibration.shape[:-2]
    count = int(np.prod(leading, dtype=int))
    if isinstance(data, np.ndarray):
        data = data.reshape((count, *shape[len(leading) :]))
    frames = FrameFile(
        path=path,
        calibration=calibration,
        count=count,
        frame_shape=(calibration.shape[-2], calibration.shape[-1]),
        dtype=np.dtype(dtype),
        pixels=data,
        format="tif",
        notes=[*notes, *metadata.notes],
        cut_off=there.words if cut_off else "",
    )
    return rescale(frames, metadata.values)


def _series(tif: tifffile.TiffFile, path: Path, dataset: str | None) -> tuple[int, list[str]]:
    """Number of the series that is meant, and a note if others are left out. Of several series it
    is the one that is gray and neither a thumbnail nor a mask."""
    if not tif.series:
        raise FrameError(f"{path}: a TIFF without an image")
    arrays = Arrays(path=path)
    for number, series in enumerate(tif.series):
        wrong = _unlike_frames(series, tif.is_imagej)
        arrays.add(str(number), _Numbered(number, series), wrong=wrong)
    if dataset is not None:
        if not dataset.isdecimal() or int(dataset) >= len(tif.series):
            raise FrameError(
                f"{path}: no series {dataset}; of a TIFF, a series from 0 to {len(tif.series) - 1}",
                "dataset",
            )
        return int(dataset), []
    if len(tif.series) == 1:
        if arrays.refused.get("0") == PALETTE:
            raise FrameError(f"{path}: {PALETTE}")
        return 0, []
    number = arrays.chosen(None).number
    return number, [f"{len(tif.series)} series in the file; series {number} is the one gray image"]


class _Numbered:
    """A series with its number and the shape of its frames."""

    def __init__(self, number: int, series: Any) -> None:
        self.number, self.dtype = number, series.dtype
        self.shape = tuple(
            n for n, axis in zip(series.shape, series.axes, strict=True) if axis != "S"
        )


def _unlike_frames(series: Any, imagej: bool) -> str:
    """Why a series is not the one that is meant, apart from its shape."""
    page = series.keyframe
    if page.is_reduced or page.is_mask:
        return "a thumbnail or a mask"
    if "S" in series.axes:
        return "a colour picture"
    colours = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None
    if colours is not None and not imagej:  # ImageJ keeps gray values below its colours
        rises = bool((np.diff(np.asarray(colours[0], dtype=np.int64)) >= 0).all())
        if not (rises and (colours == colours[:1]).all()):
            return PALETTE
    return ""


@contextmanager
def _opened(page: Any) -> Iterator[None]:
    """Keep a page's file open. tifffile closes the other files of an OME series, and warns on the
    terminal when it opens them again by itself."""
    handle = page.parent.filehandle
    closed = handle.closed
    if closed:
        handle.open()
    try:
        yield
    finally:
        if closed:
            handle.close()


class _Pages:
    """Frames of a stack, read page by page, so that memory does not grow with the stack."""

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
                with _opened(page):
                    return np.asarray(page.asarray()).reshape(self.shape)
            # ImageJ keeps big stacks behind one page: map them instead.
            mapped = tifffile.memmap(self.path, mode="r", series=self.series)
            return Stored(mapped.reshape((self.count, *self.shape)))[index]

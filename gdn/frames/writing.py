"""Write frames one at a time, with the axes and calibration of their input."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gdn.frames.sink import Sink, release
from gdn.frames.source import Frame, FrameCalibration, FrameFile
from gdn.frames.tiff import quiet_tifffile
from gdn.frames.tiff_options import length_of, write_options
from gdn.frames.values import Values
from gdn.storage import writing

DTYPES = ("float32", "float16", "uint16", "uint8")
SUFFIX = {"tif": ".tif", "mrc": ".mrc", "zarr": ".zarr"}


def write_tiff(
    path: Path,
    image: Frame,
    calibration: FrameCalibration,
    description: dict[str, Any] | None = None,
) -> None:
    """Write one float32 image. Its name appears only when it is complete."""
    with writing(path) as temporary, quiet_tifffile():
        tifffile.imwrite(
            temporary, image.astype(np.float32), **write_options(calibration, description or {})
        )


def write_stack(
    path: Path,
    stack: NDArray[Any],
    calibration: FrameCalibration,
    description: dict[str, Any] | None = None,
) -> None:
    """Write frames of any number type (axes of `calibration`), each compressed without loss. The
    name appears only when the file is complete."""
    options = write_options(calibration, description or {})
    with writing(path) as temporary, quiet_tifffile():
        tifffile.imwrite(temporary, stack, compression="zlib", **options)


def _allocate(path: Path) -> None:
    """Reserve a file's space on the disk now. If a full disk were noticed only while writing
    through a map, it would end the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(path.stat().st_size, 1))


@contextmanager
def result_writer(
    path: Path,
    source: FrameFile,
    sampling_angstrom: float,
    dtype: str = "float32",
    kind: str = "tif",
    provenance: str = "",
) -> Iterator[Sink]:
    """A new file of `kind` (tif, mrc, zarr) with the axes, style and number of frames of `source`.
    Fill it frame by frame; the file gets its name when the block ends without an error. Integers
    are stored with the scale that covers all frames. It is known only at the end, so until then
    frames are kept in a file without a name. Raises FrameError if the number type cannot hold the
    frames."""
    given = source.calibration
    plain = dtype == "float16" and given.style in ("imagej", "ome")  # they have no half precision
    calibration = replace(
        given, sampling_angstrom=sampling_angstrom, style="plain" if plain else given.style
    )
    numbers = np.dtype(dtype)
    make = partial(_MAKERS[kind], calibration=calibration, dtype=dtype)
    with writing(path) as temporary:
        if numbers.kind == "f":
            with make(temporary, provenance=provenance, values=Values()) as array:
                sink = Sink(array, path, numbers)
                del array
                try:
                    yield sink
                finally:
                    sink.array = None  # Windows renames no file that is still mapped
            return
        with _scratch(path.parent, calibration.shape) as frames:
            sink = Sink(frames, path, numbers)
            yield sink
            values = sink.values
            with make(temporary, provenance=provenance, values=values) as array:
                for index, frame in enumerate(frames):
                    array[index] = values.stored(frame, numbers)
                    release(frames)
            sink.array = None


@contextmanager
def _scratch(folder: Path, shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Space for frames of `shape` on the disk of `folder`, in a file without a name."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        mapped = np.memmap(stream, np.float32, "w+", shape=shape)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, mapped.nbytes)
        yield mapped.reshape((-1, *shape[-2:]))
        del mapped


@contextmanager
def _tiff(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str, values: Values
) -> Iterator[NDArray[Any]]:
    options = write_options(calibration, {"program": "gdn"}, provenance, values)
    with quiet_tifffile():
        mapped = tifffile.memmap(path, shape=calibration.shape, dtype=np.dtype(dtype), **options)
    _allocate(path)
    yield mapped.reshape((-1, *calibration.shape[-2:]))
    mapped.flush()
    del mapped


@contextmanager
def _mrc(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str, values: Values
) -> Iterator[NDArray[Any]]:
    import mrcfile
    from mrcfile.utils import mode_from_dtype

    given = calibration.shape
    shape = given if len(given) <= 3 else (int(np.prod(given[:-2])), *given[-2:])
    # MRC has no 8-bit unsigned mode: 16 bits hold it.
    stored = np.dtype("uint16" if dtype == "uint8" else dtype)
    with mrcfile.new_mmap(path, shape, mrc_mode=mode_from_dtype(stored), overwrite=True) as file:
        _allocate(path)
        _mrc_header(file, calibration)
        for label in (provenance, "" if values.plain else values.line):
            if label:
                file.add_label(label[:80])
        yield file.data.reshape((-1, *shape[-2:]))
        _mrc_statistics(file)


def _mrc_header(file: Any, calibration: FrameCalibration) -> None:
    """Voxel size and kind of an MRC file: a volume stays a volume, a stack a stack."""
    sampling = calibration.sampling_angstrom or 0.0
    depth = length_of(calibration, "Z")
    stack = file.data.ndim == 3
    given = calibration.mrc if len(calibration.shape) == 3 else None
    space_group, sections, along_z = given or (0, 1, depth or sampling)
    if stack and given is None and calibration.axes == "ZYX" and depth:
        space_group, sections = 1, len(file.data)
    if stack:
        file.set_image_stack()
        file.header.ispg, file.header.mz = space_group, sections
    file.voxel_size = (sampling, sampling, along_z if stack else sampling)


def _mrc_statistics(file: Any) -> None:
    """Compute the header's statistics frame by frame. mrcfile's own code would load the whole
    stack."""
    frames = file.data.reshape((-1, *file.data.shape[-2:]))
    low, high, total, square = np.inf, -np.inf, 0.0, 0.0
    for frame in frames:
        values = frame.astype(np.float64)
        low, high = min(low, values.min()), max(high, values.max())
        total, square = total + values.sum(), square + (values**2).sum()
        release(frames)
    mean = total / frames.size
    file.header.dmin, file.header.dmax, file.header.dmean = low, high, mean
    file.header.rms = max(square / frames.size - mean**2, 0) ** 0.5


@contextmanager
def _zarr(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str, values: Values
) -> Iterator[Any]:
    from gdn.frames.zarr_results import zarr_result

    with zarr_result(path, calibration, dtype, provenance, values) as array:
        yield array


_MAKERS = {"tif": _tiff, "mrc": _mrc, "zarr": _zarr}

"""Frames out: one at a time, with the axes and calibration of their input."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gdn.frames.source import Frame, FrameCalibration, FrameFile
from gdn.frames.tiff import quiet_tifffile
from gdn.storage import writing

DTYPES = ("float32", "float16", "uint16", "uint8")
SUFFIX = {"tif": ".tif", "mrc": ".mrc", "zarr": ".zarr"}


def _write_options(
    calibration: FrameCalibration, description: dict[str, Any], provenance: str = ""
) -> dict[str, Any]:
    """tifffile's arguments that give an output the axes, calibration and style of its input, and
    say where it came from."""
    s = calibration.sampling_angstrom
    metadata: dict[str, Any] = {"axes": calibration.axes}
    if calibration.style == "ome":
        metadata |= {"Description": provenance} if provenance else {}
        if s:
            metadata |= {
                "PhysicalSizeX": s,
                "PhysicalSizeXUnit": "Å",
                "PhysicalSizeY": s,
                "PhysicalSizeYUnit": "Å",
            }
        return {"ome": True, "photometric": "minisblack", "metadata": metadata}
    if calibration.style == "imagej":
        metadata |= {"Info": provenance} if provenance else {}
        if not s:
            return {"imagej": True, "metadata": metadata}
        return {
            "imagej": True,
            "resolution": (10 / s, 10 / s),
            "metadata": metadata | {"unit": "nm"},
        }
    # Said outright, or three frames would be taken for red, green and blue.
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": metadata | description}
    options["metadata"] |= {"provenance": provenance} if provenance else {}
    if s:
        options["metadata"]["sampling_angstrom"] = s
        if s > 0.03:  # the tag holds at most 2^32 pixels per centimetre
            options |= {"resolution": (1e8 / s, 1e8 / s), "resolutionunit": "CENTIMETER"}
    return options


def write_tiff(
    path: Path,
    image: Frame,
    calibration: FrameCalibration,
    description: dict[str, Any] | None = None,
) -> None:
    """Write one float32 image; its name appears only when it is complete."""
    with writing(path) as temporary, quiet_tifffile():
        tifffile.imwrite(
            temporary, image.astype(np.float32), **_write_options(calibration, description or {})
        )


def _allocate(path: Path) -> None:
    """Take a file's space on the disk now: where it is written through a map, a full disk would end
    the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(path.stat().st_size, 1))


class Sink:
    """Frames of a result, set by their number, in any order; each leaves memory once it is set."""

    def __init__(self, array: Any, dtype: str) -> None:
        self.array, self.dtype = array, np.dtype(dtype)

    def __setitem__(self, index: int, frame: Frame) -> None:
        if self.dtype.kind == "u":
            limits = np.iinfo(self.dtype)
            frame = np.clip(np.rint(np.nan_to_num(frame)), limits.min, limits.max)
        self.array[index] = frame.astype(self.dtype)
        if isinstance(self.array, np.ndarray):
            release(self.array)


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

    Fill it frame by frame; the file takes its name when the block ends well. Integers are rounded
    and clipped.
    """
    given = source.calibration
    style = (
        given.style if dtype != "float16" or given.style != "imagej" else "plain"
    )  # ImageJ has no half precision
    calibration = FrameCalibration(
        sampling_angstrom=sampling_angstrom, style=style, axes=given.axes, shape=given.shape
    )
    with (
        writing(path) as temporary,
        _MAKERS[kind](temporary, calibration, dtype, provenance) as array,
    ):
        sink = Sink(array, dtype)
        del array
        try:
            yield sink
        finally:
            sink.array = None  # Windows renames no file that is still mapped


@contextmanager
def _tiff(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str
) -> Iterator[NDArray[Any]]:
    options = _write_options(calibration, {"program": "gdn"}, provenance)
    with quiet_tifffile():
        mapped = tifffile.memmap(path, shape=calibration.shape, dtype=np.dtype(dtype), **options)
    _allocate(path)
    yield mapped.reshape((-1, *calibration.shape[-2:]))
    mapped.flush()
    del mapped


@contextmanager
def _mrc(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str
) -> Iterator[NDArray[Any]]:
    import mrcfile
    from mrcfile.utils import mode_from_dtype

    shape = (
        calibration.shape
        if len(calibration.shape) <= 3
        else (int(np.prod(calibration.shape[:-2])), *calibration.shape[-2:])
    )
    # MRC has no 8-bit unsigned mode: 16 bits hold it.
    stored = np.dtype("uint16" if dtype == "uint8" else dtype)
    with mrcfile.new_mmap(path, shape, mrc_mode=mode_from_dtype(stored), overwrite=True) as file:
        _allocate(path)
        file.voxel_size = calibration.sampling_angstrom or 0.0
        if len(shape) == 3:
            file.set_image_stack()
        if provenance:
            file.add_label(provenance[:80])
        yield file.data.reshape((-1, *shape[-2:]))
        _mrc_statistics(file)


def _mrc_statistics(file: Any) -> None:
    """The header's statistics, frame by frame: mrcfile's own take the memory of the whole stack."""
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
def _zarr(path: Path, calibration: FrameCalibration, dtype: str, provenance: str) -> Iterator[Any]:
    """OME-Zarr (NGFF 0.5), one level, a frame a chunk."""
    import zarr

    axes = [{"name": a.lower(), "type": "time" if a == "T" else "space"} for a in calibration.axes]
    scale = [1.0] * len(axes)
    if calibration.sampling_angstrom:
        for axis in axes[-2:]:
            axis["unit"] = "angstrom"
        scale[-2:] = [calibration.sampling_angstrom] * 2
    group = zarr.create_group(store=path, overwrite=True)
    transforms = [{"type": "scale", "scale": scale}]
    level = {"path": "0", "coordinateTransformations": transforms}
    about: Any = {
        "version": "0.5",
        "multiscales": [{"name": "gdn", "axes": axes, "datasets": [level]}],
    }
    group.attrs["ome"] = about
    group.attrs["provenance"] = provenance
    leading, frame = calibration.shape[:-2], calibration.shape[-2:]
    array = group.create_array(
        "0", shape=calibration.shape, dtype=dtype, chunks=(1,) * len(leading) + frame
    )
    yield _ByFrame(array, leading)


class _ByFrame:
    """An array of which frames are set by one number."""

    def __init__(self, array: Any, leading: tuple[int, ...]) -> None:
        self.array, self.leading = array, leading

    def __setitem__(self, index: int, frame: Any) -> None:
        at = tuple(int(i) for i in np.unravel_index(index, self.leading)) if self.leading else ()
        self.array[at if at else ...] = frame


_MAKERS = {"tif": _tiff, "mrc": _mrc, "zarr": _zarr}


def release(array: NDArray[Any]) -> None:
    """Let the pages of an array that is mapped on a file leave memory; what was written to them is
    kept."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none; it trims by itself
        base.madvise(mmap.MADV_DONTNEED)

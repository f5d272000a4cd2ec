"""Files that store frames one after the other and end before the last one, because copying was
interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def frames_within(
    path: Path, offset: int, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Complete frames (n, rows, columns), mapped, of the `count` frames of `shape` (rows, columns)
    that should begin at `offset`. None if there is none."""
    frame = int(np.prod(shape, dtype=int)) * dtype.itemsize
    there = min(count, (path.stat().st_size - offset) // max(frame, 1))
    return np.memmap(path, dtype, "r", offset, (there, *shape)) if there > 0 else None


def words_for(there: int, promised: int) -> str:
    """How many of a file's frames are there, in words; empty if all are."""
    return f"{there} of {promised} frames are there" if there < promised else ""


def _of_stack(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], str] | None:
    """The complete frames of a stack of `shape` (..., rows, columns), and how many there are, in
    words. None for a single image, for a complete stack, and if there is no complete frame."""
    count = int(np.prod(shape[:-2], dtype=int))
    data = frames_within(path, offset, count, shape[-2:], dtype) if len(shape) > 2 else None
    return None if data is None or len(data) == count else (data, words_for(len(data), count))


def npy_frames_within(path: Path) -> tuple[NDArray[Any], str] | None:
    """The complete frames of a NumPy file that is cut off, and how many there are, in words. None
    for any other file."""
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = read(stream)
            offset = stream.tell()
    except ValueError:
        return None
    return None if by_columns else _of_stack(path, offset, tuple(shape), np.dtype(dtype))


def mrc_frames_within(path: Path) -> tuple[NDArray[Any], str] | None:
    """The complete frames of an uncompressed MRC file that is cut off, and how many there are, in
    words. None for any other file."""
    import mrcfile

    try:
        with mrcfile.open(path, mode="r", header_only=True) as file:
            header = file.header
            shape = mrcfile.utils.data_shape_from_header(header)
            dtype = mrcfile.utils.data_dtype_from_header(header)
            offset = int(header.nbytes + header.nsymbt)
    except ValueError:
        return None
    return _of_stack(path, offset, tuple(map(int, shape)), np.dtype(dtype))

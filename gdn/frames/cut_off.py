"""Files whose frames lie one behind the other, and that end before the last: a copy that was broken
off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def frames_within(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], str] | None:
    """Of a stack of `shape` (..., rows, columns) that should begin at `offset`, the whole frames
    that are in the file (n, rows, columns), mapped, and words for how many are; None where it is
    complete, or not one frame is."""
    frame = int(np.prod(shape[-2:], dtype=int)) * dtype.itemsize
    promised = int(np.prod(shape[:-2], dtype=int))
    there = min(promised, (path.stat().st_size - offset) // max(frame, 1))
    if len(shape) < 3 or there >= promised or there < 1:
        return None
    data = np.memmap(path, dtype, "r", offset, (there, *shape[-2:]))
    return data, f"{there} of {promised} frames are there"


def npy_frames_within(path: Path) -> tuple[NDArray[Any], str] | None:
    """`frames_within` of a NumPy file; None for what is no such file."""
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
    return None if by_columns else frames_within(path, offset, tuple(shape), np.dtype(dtype))


def mrc_frames_within(path: Path) -> tuple[NDArray[Any], str] | None:
    """`frames_within` of an MRC file that is not packed; None for what is no such file."""
    import mrcfile

    try:
        with mrcfile.open(path, mode="r", header_only=True) as file:
            header = file.header
            shape = mrcfile.utils.data_shape_from_header(header)
            dtype = mrcfile.utils.data_dtype_from_header(header)
            offset = int(header.nbytes + header.nsymbt)
    except ValueError:
        return None
    return frames_within(path, offset, tuple(map(int, shape)), np.dtype(dtype))

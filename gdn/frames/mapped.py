"""Arrays that are stored in a file as they are. A map of the file finds the place of a part, and
the part is then read. If the file was cut off meanwhile, looking at the map itself would end the
process (SIGBUS)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stored:
    """A mapped array whose parts are read from the file when they are asked for. Any other array
    is what it was."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data = data
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, index: Any) -> NDArray[Any]:
        part = self.data[index]
        whole = _map_of(self.data)
        if whole is None or not isinstance(part, np.ndarray):
            return np.asarray(part)
        return _read(whole, part)


def _map_of(data: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """The array that is the map of a file and to which `data` belongs."""
    array: Any = data
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if isinstance(array, np.memmap) and array.filename else None


def _read(whole: np.memmap[Any, Any], part: NDArray[Any]) -> NDArray[Any]:
    """The values of `part` of a map. Raises OSError if the file has become too short for it."""
    path = Path(str(whole.filename))
    low, high = np.lib.array_utils.byte_bounds(part)
    # An old mrcfile gives the offset as an int32, which cannot hold an address.
    first = int(whole.offset) + low - whole.__array_interface__["data"][0]
    size = high - low
    with path.open("rb") as stream:
        stream.seek(first)
        content = stream.read(size)
    if len(content) < size:
        raise OSError(f"it has become shorter: {first + len(content)} bytes, {first + size} needed")
    if part.flags.c_contiguous:
        return np.frombuffer(content, part.dtype, math.prod(part.shape)).reshape(part.shape)
    at = part.__array_interface__["data"][0] - low
    return np.ndarray(part.shape, part.dtype, content, at, part.strides).copy()

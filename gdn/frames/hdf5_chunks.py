"""Chunks of HDF5 data sets. The library unpacks a chunk to whatever it holds, and only then
compares it with the size that the data set declares. Here it is compared before."""

from __future__ import annotations

import contextlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from gdn.frames.packed import (
    ZLIB_GROWTH,
    Exceeds,
    bzip2_exceeds,
    lzf_exceeds,
    stated,
    zlib_exceeds,
    zstd_exceeds,
)
from gdn.frames.pieces import FREE_BYTES, check_piece
from gdn.frames.source import FrameError

_EXTRA_BYTES = 4096  # of checksums and headers of filters
_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP, _NBIT, _SCALE_OFFSET = range(1, 7)
_BZIP2, _LZF, _BLOSC, _LZ4, _BITSHUFFLE, _ZSTD = 307, 32000, 32001, 32004, 32008, 32015
_KEEP_SIZE = (_SHUFFLE, _FLETCHER32)
_UNPACK: dict[int, Exceeds] = {
    _DEFLATE: zlib_exceeds,
    _SZIP: stated("<I"),
    _BZIP2: bzip2_exceeds,
    _LZF: lzf_exceeds,
    _BLOSC: stated("<I", 4),
    _LZ4: stated(">Q"),
    _BITSHUFFLE: stated(">Q"),
    _ZSTD: zstd_exceeds,
}
_MOST_GROWTH = {_DEFLATE: ZLIB_GROWTH, _LZF: 88}  # bytes for one of the chunk
NAMES = {
    _BLOSC: "Blosc",
    _LZ4: "LZ4",
    _BITSHUFFLE: "bitshuffle",
    32013: "ZFP",
    _ZSTD: "Zstandard",
    32026: "Blosc2",
}
Filter = tuple[int, tuple[int, ...]]  # its number and parameters


def check_chunks(path: Path, dataset: Any) -> None:
    """Raises FrameError if a chunk of an open data set is too large for memory, if it unpacks to
    more than it declares, or if that cannot be told before."""
    if not dataset.chunks:
        return
    item = dataset.dtype.itemsize
    check_piece(path, math.prod(dataset.chunks) * item, dataset.size * item)
    status = path.stat()
    _check_once(path, dataset.name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _check_once(path: Path, name: str, size: int, changed: int) -> None:
    """Check a data set. A process does so once while its file does not change."""
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file[name]
        bound = _declared(dataset) + _EXTRA_BYTES
        position, exceeds = _unpacking(f"{path}: {name}", dataset, bound)
        if exceeds is None:
            return
        chunks: list[Any] = []
        dataset.id.chunk_iter(chunks.append)
        growth = _MOST_GROWTH.get(_filters(dataset)[position][0], math.inf)
        for chunk in chunks:
            if chunk.filter_mask >> position & 1 or chunk.size * growth <= FREE_BYTES + bound:
                continue  # it is not packed, or can hold little
            with contextlib.suppress(OSError):  # what cannot be read is left to the reader
                if chunk.size > size or exceeds(
                    dataset.id.read_direct_chunk(chunk.chunk_offset)[1], bound
                ):
                    raise FrameError(
                        f"{path}: {name}: a chunk does not unpack into the {_declared(dataset)} "
                        "bytes that it declares; the file is damaged"
                    )


def _unpacking(where: str, dataset: Any, bound: int) -> tuple[int, Exceeds | None]:
    """The filter that is first to unpack what a chunk stores: its position, and how to tell what
    it will unpack. None if no filter does. Raises FrameError where a filter's parameters lead to
    more than `bound` bytes, and for filters of which nobody can tell."""
    position, exceeds, mixed = -1, None, False
    for place, (number, values) in reversed(list(enumerate(_filters(dataset)))):
        if (number == _BITSHUFFLE and not any(values[4:5])) or number in _KEEP_SIZE:
            mixed = mixed or number != _FLETCHER32  # a sum at the end disturbs nobody
        elif number in (_NBIT, _SCALE_OFFSET):
            mixed = True
            if math.prod(values[2:5:2]) > bound:
                raise FrameError(f"{where}: a filter that makes more of a chunk; it is damaged")
        elif number in _UNPACK and not mixed and exceeds is None:
            position, exceeds = place, _UNPACK[number]
        else:
            name = f"{NAMES.get(number, 'a filter')} (HDF5 filter {number})"
            another = " and another filter" if number in _UNPACK else ""
            raise FrameError(
                f"{where}: compressed by {name}{another}, which may take any memory to unpack; "
                "write it again with gzip (h5repack -f GZIP=4)"
            )
    return position, exceeds


def _filters(dataset: Any) -> list[Filter]:
    """The filters of a data set, in the order in which it was packed."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    return [(number, values) for number, _, values, _ in filters]


def _declared(dataset: Any) -> int:
    """Bytes of a whole chunk in the file. A text or list of any length is a reference there."""
    item = dataset.id.get_type().get_size() * (4 if dataset.dtype.hasobject else 1)
    return int(math.prod(dataset.chunks) * item)

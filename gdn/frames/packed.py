"""How much a packed piece unpacks to, measured before a library unpacks it, which may take any
memory. Nothing is kept of what is unpacked here."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

_STEP = 2**20  # bytes unpacked at a time
ZLIB_GROWTH = 1032  # zlib packs zeros by no more (https://zlib.net/zlib_tech.html)

Exceeds = Callable[[bytes, int], bool]


def zlib_exceeds(packed: bytes, bound: int) -> bool:
    """Whether a zlib stream unpacks to more than `bound` bytes. A damaged one is measured up to its
    damage, where every reader stops."""
    unpacker, size = zlib.decompressobj(), 0
    try:
        for at in range(0, len(packed), _STEP):
            rest = packed[at : at + _STEP]
            while rest and not unpacker.eof:
                size += len(unpacker.decompress(rest, _STEP))
                rest = unpacker.unconsumed_tail
                if size > bound:
                    return True
        while not unpacker.eof and (piece := unpacker.decompress(b"", _STEP)):
            size += len(piece)  # held back by the last step
    except zlib.error:
        return False
    return size > bound


def gzip_exceeds(packed: bytes, bound: int) -> bool:
    """`zlib_exceeds` for gzip, of all members."""
    return _reads_more(gzip.GzipFile(fileobj=io.BytesIO(packed)), bound)


def bzip2_exceeds(packed: bytes, bound: int) -> bool:
    """`zlib_exceeds` for bzip2, of all streams."""
    return _reads_more(bz2.BZ2File(io.BytesIO(packed)), bound)


def zstd_exceeds(packed: bytes, bound: int) -> bool:
    """Whether Zstandard frames unpack to more than `bound` bytes, or are damaged."""
    import imagecodecs

    return _does_not_fit(imagecodecs.zstd_decode, packed, bound)


def lzf_exceeds(packed: bytes, bound: int) -> bool:
    """Whether an LZF block unpacks to more than `bound` bytes, or is damaged."""
    import imagecodecs

    return _does_not_fit(imagecodecs.lzf_decode, packed, bound)


def stated(layout: str, offset: int = 0) -> Exceeds:
    """For methods that write the unpacked size into their header, as `layout` of struct at
    `offset`: their libraries take that much memory and no more."""

    def exceeds(packed: bytes, bound: int) -> bool:
        if len(packed) < offset + struct.calcsize(layout):
            return False  # no header: every reader refuses it
        return int(struct.unpack_from(layout, packed, offset)[0]) > bound

    return exceeds


def _reads_more(stream: gzip.GzipFile | bz2.BZ2File, bound: int) -> bool:
    size = 0
    try:
        while size <= bound and (piece := stream.read(_STEP)):
            size += len(piece)
    except (OSError, EOFError, zlib.error):
        pass  # damaged: every reader stops there
    return size > bound


def _does_not_fit(decode: Callable[..., Any], packed: bytes, bound: int) -> bool:
    try:
        decode(packed, out=bound)
    except Exception:  # each codec has an error of its own
        return True
    return False

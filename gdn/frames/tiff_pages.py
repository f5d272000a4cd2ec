"""The pages of a TIFF. The chain of their directories is checked before a library follows it,
because in a damaged file it can be endless. The frames that are complete are counted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION

from gdn.frames.cut_off import frames_within, words_for
from gdn.frames.pieces import check_piece
from gdn.frames.source import FrameError

MOST_TAGS = 1000  # of a directory; real ones have a few dozen
# Their decoders unpack no more than a piece of the page, or (JPEG) little. Those of others allocate
# what the packed piece says: 70 bytes of LERC or 500 of JPEG 2000 can stand for any number of GB.
BOUNDED = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.JPEG,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
    COMPRESSION.ZSTD_DEPRECATED,
}
HINT = "damaged, or not completely copied"


def check_pages(path: Path) -> bool:
    """Whether the chain of a file's directories continues beyond the file's end, as in a stack that
    is cut off. Raises FrameError if the directories of a TIFF or BigTIFF form a loop, lie outside
    of the file, or are not directories.

    TIFF 6.0 (Adobe 1992), section 2. BigTIFF has 8-byte counts and offsets.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise FrameError(f"{path}: not a readable TIFF (no TIFF header)")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        if big and len(head) < 16:
            raise FrameError(f"{path}: not a readable TIFF (it ends in its header); {HINT}")
        offset: int = (
            struct.unpack(order + "Q", head[8:16])[0]
            if big
            else struct.unpack(order + "I", head[4:8])[0]
        )
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise FrameError(
                    f"{path}: not a readable TIFF (its page directories form a loop); {HINT}"
                )
            if offset >= size:
                return True
            seen.add(offset)
            offset = _next(stream, path, offset, order, big)
    return False


def _next(stream: BinaryIO, path: Path, offset: int, order: str, big: bool) -> int:
    """Offset of the directory after the one at `offset`, 0 at the end."""
    count_size, tag_size = (8, 20) if big else (2, 12)
    stream.seek(offset)
    raw = stream.read(count_size)
    if len(raw) < count_size:
        return 0
    count = struct.unpack(order + ("Q" if big else "H"), raw)[0]
    if not 0 < count <= MOST_TAGS:
        raise FrameError(f"{path}: not a readable TIFF (a page directory of {count} tags); {HINT}")
    stream.seek(offset + count_size + count * tag_size)
    raw = stream.read(8 if big else 4)
    return (
        int(struct.unpack(order + ("Q" if big else "I"), raw)[0])
        if len(raw) == (8 if big else 4)
        else 0
    )


def check_compression(path: Path, series: Any) -> None:
    """Raises FrameError if a page of the series may unpack to more than it shows."""
    pages = {id(p.keyframe): p.keyframe for p in series.pages if p is not None}
    for page in pages.values():
        if page.compression not in BOUNDED:
            name = getattr(page.compression, "name", f"method {page.compression}")
            raise FrameError(
                f"{path}: compressed by {name}, which gdn does not unpack; save it with zlib or "
                "without compression"
            )
        item = np.dtype(page.dtype or np.uint8).itemsize
        check_piece(path, int(np.prod(page.chunks, dtype=object)) * item, page.nbytes)


@dataclass(frozen=True)
class FramesThere:
    """How many frames of a series are `there`; what is known of the missing ones, in words (empty
    if none is missing); and, if all lie behind one page, the frames themselves, `mapped` (n, rows,
    columns)."""

    there: int
    words: str = ""
    mapped: NDArray[Any] | None = None


def frames_there(path: Path, tif: Any, series: Any, chain_cut: bool) -> FramesThere:
    """Count the complete frames of `series` of an open TiffFile. For a stack behind one page the
    size of the file gives the number. In other stacks every page must lie within the file."""
    leading = series.shape[: -3 if series.axes.endswith("S") else -2]
    count = int(np.prod(leading, dtype=int))
    described = (tif.imagej_metadata or {}).get("images", 1) if tif.is_imagej else 1
    promised = max(count, int(described) if str(described).isdecimal() else 1)
    pages = list(series.pages)
    first, mapped = pages[0], None
    if len(pages) == 1 and promised > 1 and first is not None and first.compression == 1:
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        offset = int(first.dataoffsets[0])
        mapped = frames_within(path, offset, promised, tuple(first.shape), dtype)
        there = 0 if mapped is None else len(mapped)
    else:
        size = path.stat().st_size
        whole = [page is not None and _within(page, size) for page in pages]
        there = whole.index(False) if False in whole else len(pages)
        there = count if len(pages) != count and there == len(pages) else there
    words = words_for(there, promised)
    if not words and chain_cut:
        words = f"{there} frames are there, and further pages would lie after the end of the file"
    return FramesThere(there, words, mapped)


def _within(page: Any, size: int) -> bool:
    """Whether the pixels of a page lie within the file."""
    return all(
        offset + count <= size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )

"""The chain of page directories of a TIFF, walked before a library follows it: damaged chains can
be endless."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from gdn.frames.source import FrameError

MOST_TAGS = 1000  # of a directory; real ones have a few dozen
HINT = "damaged, or not completely copied"


def check_pages(path: Path) -> None:
    """Raises FrameError if the directories of a TIFF or BigTIFF form a loop, lie outside of the
    file, or are none.

    TIFF 6.0 (Adobe 1992), section 2; BigTIFF has 8-byte counts and offsets.
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
                # a stack cut off in the middle: what is there is read, or refused, by what decodes
                # it
                break
            seen.add(offset)
            offset = _next(stream, path, offset, order, big)


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

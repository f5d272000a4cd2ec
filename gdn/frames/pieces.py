"""How large the pieces may be in which an array is stored: chunks, tiles, strips. Also for one
frame a whole piece is unpacked in memory, and a packed one takes next to no room in the file."""

from __future__ import annotations

from pathlib import Path

from gdn.frames.source import FrameError

FREE_BYTES = 2**26  # of pixels, whatever the size of the file
LARGEST_PIECE = 2**31  # bytes


def check_piece(path: Path, piece: int, whole: int) -> None:
    """Raises FrameError if an array of `whole` bytes is stored in pieces of `piece` bytes, far more
    than that, or more than LARGEST_PIECE."""
    if piece > min(FREE_BYTES + whole, LARGEST_PIECE):
        raise FrameError(
            f"{path}: an array of {whole / 1e6:.1f} MB in pieces of {piece / 1e6:.0f} MB each, "
            "too much for memory; write it again with one piece for each frame"
        )

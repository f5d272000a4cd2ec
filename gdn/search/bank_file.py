"""The file of a bank: its head, its checksum, how long it will take to make; and large ones written
in parts that are kept, so that a run that is stopped, or killed, goes on where it was.

A bank that is kept grows in a folder that only its owner can enter. Beside it a journal has a line
for each part: how many images there are, and their CRC-32. What follows the last part that agrees
with its line is made again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows: nothing is kept
    fcntl = None  # type: ignore[assignment]

BATCH = 256
KEPT_BYTES = 2**26  # a bank of that size is kept in parts while it is made
PART_BYTES = 2**26  # between two lines of the journal
TRIAL_SECONDS = 2.0  # after which it is known how long a bank will take
LONG_SECONDS = 60.0  # which is said if it is longer than this
_CHUNK = 2**22

log = logging.getLogger("gdn")

Images = NDArray[np.float16]


class BankProgress:
    """A progress function that says once, soon after the beginning, how long the bank will take, if
    that is long; and whether what is made is kept (`stored` bytes) if the run is stopped."""

    def __init__(self, progress: Callable[[int, int], None], stored: int) -> None:
        self._progress, self._stored = progress, stored
        self._begun: tuple[float, int] | None = None
        self._said = False

    def __call__(self, made: int, of: int) -> None:
        """Pass on how many images are made, of how many."""
        now = time.monotonic()
        if self._begun is None:  # the first batch may be slow, and an earlier run's are there
            self._begun = now, made
        elapsed, new = now - self._begun[0], made - self._begun[1]
        if not self._said and new and (elapsed > TRIAL_SECONDS or made == of):
            self._said = True
            left = elapsed / new * (of - made)
            if left > LONG_SECONDS:
                kept = (
                    "; if it is stopped, it goes on from there"
                    if self._stored >= KEPT_BYTES
                    else ""
                )
                disk = f" and {self._stored / 2**30:.1f} GiB of the cache" if self._stored else ""
                hours = f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min"
                log.warning(
                    "the bank of %d restarts needs about %s%s, once%s", of, hours, disk, kept
                )
        self._progress(made, of)


def is_whole(path: Path, images: NDArray[np.float16]) -> bool:
    """Whether the file at `path` ends with the checksum of the `images` in it."""
    checksum = 0
    for first in range(0, len(images), BATCH):
        checksum = zlib.crc32(images[first : first + BATCH].data, checksum)
    trailer = trailer_of(checksum)
    with path.open("rb") as stream:
        stream.seek(-len(trailer), os.SEEK_END)
        return stream.read() == trailer


def trailer_of(checksum: int) -> bytes:
    """What follows the images in a bank's file; NumPy does not read it."""
    return b"gdn-crc32" + checksum.to_bytes(4, "little")


def head_of(shape: tuple[int, ...]) -> bytes:
    """What precedes the images in a bank's file, which NumPy reads."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(np.float16))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def growing_folder(path: Path) -> Path:
    """The folder in which the bank of this name grows."""
    return path.with_name(f".{path.stem}.growing")


def grow(
    path: Path,
    head: bytes,
    image_bytes: int,
    generate: Callable[[int], Iterator[Images]],
    end: Callable[[int], bytes],
) -> bool:
    """Write a bank: its `head`, the images that `generate(first)` makes from number `first` on, and
    `end(checksum)`. Returns False, and writes nothing, where no file can be kept: on a system
    without locks, in a folder that is not this user's alone, or if another process is at it. Raises
    OSError, and keeps nothing, if it cannot be written."""
    folder = growing_folder(path)
    if fcntl is None or not _own(folder):
        return False
    with contextlib.ExitStack() as stack:
        try:
            opened = os.open(folder / "images", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            stream = stack.enter_context(os.fdopen(opened, "rb+"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(opened), (folder / "images").lstat()):
                return False  # it was just completed
        except OSError:
            return False
        try:
            _fill(stream, folder / "journal", head, image_bytes, generate, end)
            (folder / "images").replace(path)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _own(folder: Path) -> bool:
    """Whether the folder could be made, or is there, and is this user's alone."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return stat.S_ISDIR(status.st_mode) and private


def _fill(
    stream: BinaryIO,
    journal: Path,
    head: bytes,
    image_bytes: int,
    generate: Callable[[int], Iterator[Images]],
    end: Callable[[int], bytes],
) -> None:
    made, checksum = _kept(stream, journal, head, image_bytes)
    if not made:
        stream.seek(0)
        stream.write(head)
    stream.truncate(len(head) + made * image_bytes)
    stream.seek(0, os.SEEK_END)
    marked = made

    def mark() -> None:
        stream.flush()
        os.fsync(stream.fileno())
        with journal.open("a", encoding="ascii") as lines:
            lines.write(f"{made} {checksum}\n")

    try:
        for images in generate(made):
            content = images.tobytes()
            stream.write(content)
            made, checksum = made + len(images), zlib.crc32(content, checksum)
            if (made - marked) * image_bytes >= PART_BYTES:
                mark()
                marked = made
    except KeyboardInterrupt:
        mark()
        raise
    stream.write(end(checksum))
    stream.flush()
    os.fsync(stream.fileno())


def _kept(stream: BinaryIO, journal: Path, head: bytes, image_bytes: int) -> tuple[int, int]:
    """How many images of an earlier run are good, and their checksum."""
    made = checksum = 0
    stream.seek(0)
    if stream.read(len(head)) != head or not journal.is_file():
        journal.unlink(missing_ok=True)
        return 0, 0
    good = []
    for line in journal.read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if len(words) != 2 or not all(word.isdecimal() for word in words):
            break
        count, left = int(words[0]), (int(words[0]) - made) * image_bytes
        total = checksum
        while left > 0 and (piece := stream.read(min(left, _CHUNK))):
            total, left = zlib.crc32(piece, total), left - len(piece)
        if left or total != int(words[1]):
            break
        made, checksum = count, total
        good.append(f"{made} {checksum}\n")
    journal.write_text("".join(good), encoding="ascii")
    return made, checksum

"""Damaged HDF5 files. The library can run for ever or crash in one, and a batch must survive both.
So every object of a file is first read in a separate process."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from gdn.frames.source import FrameError

SECONDS = 8.0
BYTES_PER_SECOND = 2e7  # more time for larger files, which hold more objects
# Errors are left to the reader, which says them in its own words: here only the end counts.
# The alarm ends it also where its parent was killed and nobody waits any more.
_LOOK = """
import signal, sys
if hasattr(signal, "alarm"):
    signal.alarm(1 + int(float(sys.argv[2])))
import h5py
def look(name, one):
    dict(one.attrs)
    if isinstance(one, h5py.Dataset):
        one.shape, one.dtype, one.chunks
try:
    with h5py.File(sys.argv[1], "r") as file:
        look("/", file)
        file.visititems(look)
except Exception:
    pass
"""


def check_linked(path: Path) -> None:
    """Check a file that another one links to. A process checks it once while it does not change,
    because hundreds of links may lead to one file. Raises FrameError."""
    status = path.stat()
    _check_once(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _check_once(path: Path, size: int, changed: int) -> None:
    check_hdf5(path)


def check_hdf5(path: Path, seconds: float = SECONDS) -> None:
    """Raises FrameError for a file in which the library crashes or does not end."""
    limit = seconds + path.stat().st_size / BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _LOOK, str(path), str(limit)],
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FrameError(
            f"{path}: a damaged HDF5 file (the HDF5 library does not finish reading it)"
        ) from None
    if done.returncode < 0:  # ended by a signal
        raise FrameError(f"{path}: a damaged HDF5 file (the HDF5 library crashes when it reads it)")

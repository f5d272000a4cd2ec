"""Writes files so that none is ever half-written, and knows the user's cache folder.

Whatever gdn writes is written in a private folder beside it and renamed once it is complete, so
that nothing half-written ever has a final name, whenever a process is killed. The folder's name is
random, it must be new, and only its owner can enter it: nobody can lay a link where gdn will write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from gdn.errors import GdnError

HOST = (
    re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:24] or "here"
)  # folders may be shared between machines
DEFAULT_CACHE_GIB = 10.0
_BANK = r"[0-9a-f]{16}-[0-9]+-[0-9]+"  # model, seed, restarts
_BANK_FILE = re.compile(rf"{_BANK}\.npy|\.{_BANK}\.growing")
_BANK_PART = re.compile(rf"\.{_BANK}\..*\.part")
_ABANDONED_SECONDS = 86_400  # age of a temporary file that no living process still writes


def json_line(content: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: a number that is not finite becomes null, because JSON has no
    word for it."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def read_text(path: Path) -> str:
    """The text of a file, UTF-8. Raises OSError for a pipe or a device too, which would be waited
    for, or read without end."""
    if not path.is_file():
        path.stat()
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path.read_text(encoding="utf-8")


class CacheError(GdnError, ValueError):
    """A setting of the cache that cannot be used; one line."""


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder, that becomes `path` if the block
    succeeds and vanishes if not. Nothing is there yet."""
    _sweep(path)
    # Without the suffix: who looks for files of a kind must not meet the folder.
    private = path.with_name(f".{path.stem}.{HOST}-{os.getpid()}-{secrets.token_hex(8)}.part")
    temporary = private / f"{private.name}{path.suffix}"
    try:
        private.mkdir(mode=0o700)
        yield temporary
        _sync(temporary)
        _replace(temporary, path)
    except OSError as error:
        # A full disk has no name to it, or one that the user has never seen.
        if error.errno is None or (
            error.filename is not None and not str(error.filename).startswith(str(private))
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        _remove(private)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or not at all. Of a name that is not text the bytes are escaped."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write a whole JSON file, indented for people; see `json_line` and `write_text`."""
    write_text(path, json_line(content, indent=1) + "\n")


def _sync(path: Path) -> None:
    """Wait until a file is on the disk: a name that outlives a power cut must not stand for an
    empty file."""
    if path.is_file():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Give a file its name. A folder cannot be replaced in one step: the former one goes aside
    first, and another process may put its own there meanwhile."""
    for _ in range(100):
        try:
            temporary.replace(path)
        except OSError:
            if not (temporary.is_dir() and path.is_dir()):
                raise
            aside = temporary.with_name(f"{temporary.name}.old")
            with contextlib.suppress(OSError):
                path.replace(aside)
            _remove(aside)
        else:
            return
    raise OSError(errno.ENOTEMPTY, "another process keeps writing there", str(path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    path.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what killed processes of this machine left under temporary names of `path`; and the
    empty folders that they left beside other files, which were complete."""
    start = f".{path.stem}.{HOST}-"
    for stale in path.parent.glob(f".*.{HOST}-*.part*"):
        number = re.split("[.-]", stale.name.rpartition(f".{HOST}-")[2])[0]
        if not number.isdecimal() or psutil.pid_exists(int(number)):
            continue
        if stale.name.startswith(start):
            _remove(stale)
        else:
            with contextlib.suppress(OSError):
                stale.rmdir()


def cache_folder() -> Path:
    """`GDN_CACHE_DIR`, or the user's cache directory."""
    chosen = os.environ.get("GDN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("gdn", appauthor=False))


def cache_limit() -> int:
    """Bytes that banks may take together: `GDN_CACHE_GIB`, 10 by default. Raises CacheError."""
    text = os.environ.get("GDN_CACHE_GIB", str(DEFAULT_CACHE_GIB))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise CacheError(f"GDN_CACHE_GIB={text}: must be a size in GiB")
    return int(value * 2**30)


def cached_bytes() -> int:
    """Bytes that banks take now."""
    files = (cache_folder() / "banks").glob("*.npy")
    return sum(path.stat().st_size for path in files if _BANK_FILE.fullmatch(path.name))


def evict(folder: Path, limit: int, spared: Path | None = None) -> list[Path]:
    """Remove the least recently used banks of `folder`, and those that were begun and left, until
    they take at most `limit` bytes together; not the one that is `spared`.

    Also removes what a killed process left half-written a day ago or more. Returns what was
    removed. Nothing is removed through a link that stands in the place of the folder, and nothing
    that is not called as a bank.
    """
    removed: list[Path] = []
    if folder.is_symlink():
        return removed
    now = time.time()
    for path in folder.glob(".*.part*"):
        with contextlib.suppress(OSError):
            old = now - path.lstat().st_mtime > _ABANDONED_SECONDS
            if old and _BANK_PART.fullmatch(path.name):
                _remove(path)
    files = []
    banks = [path for path in folder.iterdir() if _BANK_FILE.fullmatch(path.name)]
    for path in [path for path in banks if path.suffix == ".npy"]:
        with contextlib.suppress(OSError):  # another process may evict at the same time
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    for path in [path for path in banks if path.suffix == ".growing"]:
        with contextlib.suppress(OSError):
            states = [part.stat() for part in path.iterdir()] if path != spared else []
            newest = max((state.st_mtime for state in states), default=now)
            files.append((newest, sum(state.st_size for state in states), path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            break
        if path == spared:
            continue
        with contextlib.suppress(OSError):
            # A map that is open stays readable on POSIX; Windows refuses: next time.
            _remove(path)
            removed.append(path)
            total -= size
    return removed

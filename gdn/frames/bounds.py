"""What a file may make gdn open and hold: only files of its own folder, and no more bytes than a
file of its size can stand for. Both are checked before pixels are read."""

from __future__ import annotations

import bz2
import gzip
import html
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gdn.frames.hdf5_links import within_folder
from gdn.frames.source import FrameError, FrameFile

MOST_UNPACKED = 2**31  # bytes of a packed file, which is unpacked in memory
MOST_GROWTH = 2000  # bytes of pixels for one of the file: zlib packs zeros by 1030
FREE_BYTES = 2**26  # of pixels, whatever the size of the file
_CHUNK = 2**20
_NAMED = re.compile(r"""\bFileName\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def check_named_files(path: Path, ome: str | None) -> list[str]:
    """Names of the other files that the OME metadata of a TIFF takes planes from. Raises FrameError
    for one that lies outside of the file's folder, and for one that is no regular file."""
    given = (html.unescape(double or single) for double, single in _NAMED.findall(ome or ""))
    names = sorted({name for name in given if name} - {path.name})
    folder = path.parent.resolve()
    for name in names:
        other = (folder / name).resolve()
        if not other.is_relative_to(folder):
            _, why = within_folder(folder / path.name, name)
            raise FrameError(f"{path}: planes in another file, {name}, {why}")
        if other.exists() and not other.is_file():
            raise FrameError(f"{path}: planes in {name}, which is not a file")
    return [name for name in names if (folder / name).is_file()]


def check_opened_files(path: Path, pages: Iterable[Any]) -> None:
    """Raises FrameError if tifffile takes a page of a series from a file outside of the folder."""
    folder = path.parent.resolve()
    for opened in {page.parent.filehandle.path for page in pages if page is not None}:
        if not Path(opened).resolve().is_relative_to(folder) and not Path(opened).samefile(path):
            raise FrameError(
                f"{path}: pixels in {opened}, which lies outside of the folder; copy it beside "
                "this one"
            )


def check_growth(frames: FrameFile, others: Iterable[Path]) -> None:
    """Raises FrameError if the frames of a file take more bytes than files of that size can stand
    for: its header is wrong, or someone wants to fill the memory or the disk."""
    rows, columns = frames.frame_shape
    claimed = frames.count * rows * columns * frames.dtype.itemsize
    if claimed <= FREE_BYTES:
        return
    files = [frames.path, *others]
    parts = [p for file in files for p in (file.rglob("*") if file.is_dir() else [file])]
    size = sum(part.stat().st_size for part in parts if part.is_file())
    if claimed > FREE_BYTES + MOST_GROWTH * size:
        raise FrameError(
            f"{frames.path}: promises {frames.count} frames of {rows}x{columns} px "
            f"({claimed / 1e6:.0f} MB), but has only {size / 1e3:.0f} kB; the file is damaged"
        )


def check_packed(path: Path) -> None:
    """Raises FrameError for a .gz or .bz2 that unpacks to more than MOST_UNPACKED bytes. It is
    unpacked piece by piece, and nothing is kept."""
    opener = bz2.open if path.suffix.lower() == ".bz2" else gzip.open
    total = 0
    with opener(path, "rb") as stream:
        while piece := stream.read(_CHUNK):
            total += len(piece)
            if total > MOST_UNPACKED:
                raise FrameError(_too_large(path))


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises FrameError for a ZIP archive whose arrays unpack to more than MOST_UNPACKED bytes.
    zipfile gives no more bytes of an entry than its directory says."""
    if sum(entry.file_size for entry in archive.infolist()) > MOST_UNPACKED:
        raise FrameError(_too_large(path))


def _too_large(path: Path) -> str:
    return (
        f"{path}: unpacks to more than {MOST_UNPACKED / 2**30:.0f} GiB, which gdn does not hold in "
        "memory; unpack it and give the unpacked file"
    )

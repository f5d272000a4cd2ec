"""What a file may make gdn open and hold: only files of its own folder, and no more bytes than a
file of its size can stand for. Both are checked before pixels are read."""

from __future__ import annotations

import bz2
import glob
import gzip
import html
import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.hdf5_links import within_folder
from gdn.frames.pieces import FREE_BYTES
from gdn.frames.source import FrameError, FrameFile

MOST_UNPACKED = 2**31  # bytes of a packed file, which is unpacked in memory
MOST_GROWTH = 2000  # bytes of pixels for one of the file: zlib packs zeros by 1030
_CHUNK = 2**20
_HEADER = 1024  # bytes of the header of an MRC file
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


def check_regular(path: Path) -> None:
    """Raises FrameError for what is no file: a pipe or a device would be waited for, or read
    without end. Of an .emi, also the files of its series are looked at."""
    series = path.parent.glob(f"{glob.escape(path.stem)}_*.ser")
    for each in (path, *(series if path.suffix.lower() == ".emi" else ())):
        if not (each.is_file() or each.is_dir()):
            raise FrameError(
                f"{each}: a pipe, a device or a socket, not a file; save it as a file first"
            )


def check_parts(path: Path) -> None:
    """Raises FrameError for a folder of data that holds anything but files and folders, or a link
    that leaves it."""
    folder = path.resolve()
    for part in path.rglob("*"):
        if part.is_symlink() and not part.resolve().is_relative_to(folder):
            raise FrameError(f"{path}: {part.relative_to(path)} is a link that leaves the folder")
        if not part.is_dir() and not part.is_file():
            raise FrameError(f"{path}: {part.relative_to(path)} is not a file")


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


def unpack_mrc(path: Path) -> NDArray[Any]:
    """The pixels of a packed MRC file. They are unpacked piece by piece into the memory that the
    header promises, and no further. Raises FrameError if that is more than MOST_UNPACKED bytes, or
    more than a file of its size can stand for, and if there are fewer bytes, or more."""
    opener = bz2.open if path.suffix.lower() == ".bz2" else gzip.open
    with opener(path, "rb") as stream:
        before, shape, dtype = _layout(path, stream.read(_HEADER))
        size = math.prod(shape) * dtype.itemsize
        if before + size > MOST_UNPACKED:
            raise FrameError(_too_large(path))
        if before + size > FREE_BYTES + MOST_GROWTH * path.stat().st_size:
            raise FrameError(
                f"{path}: promises {size / 1e6:.0f} MB, but has only "
                f"{path.stat().st_size / 1e3:.1f} kB; the file is damaged"
            )
        stream.seek(before)
        content = np.empty(size, np.uint8)  # memory is taken as it is filled
        done = 0
        while done < size and (piece := stream.read(min(_CHUNK, size - done))):
            content[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
        if done < size:
            raise FrameError(
                f"{path}: not a readable MRC file (it unpacks to {before + done} bytes, its header "
                f"promises {before + size})"
            )
        rest = 0
        while piece := stream.read(_CHUNK):
            rest += len(piece)
            if rest > _CHUNK:
                raise FrameError(
                    f"{path}: unpacks to more than the {before + size} bytes that its header "
                    "promises; the file is damaged"
                )
    return content.view(dtype).reshape(shape)


def _layout(path: Path, head: bytes) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Bytes before the pixels of an MRC file with this header, their shape and type. Raises
    ValueError if it is none."""
    if len(head) < _HEADER:
        raise FrameError(f"{path}: not a readable MRC file (it ends in its header)")
    from mrcfile import utils
    from mrcfile.dtypes import HEADER_DTYPE

    header = np.frombuffer(head, HEADER_DTYPE)[0]
    order = utils.byte_order_from_machine_stamp(header["machst"])
    header = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order)).view(np.recarray)[0]
    shape, dtype = utils.data_shape_from_header(header), utils.data_dtype_from_header(header)
    if min(shape) < 1 or header.nsymbt < 0:
        raise FrameError(f"{path}: not a readable MRC file (a shape of {shape})")
    return _HEADER + int(header.nsymbt), tuple(int(n) for n in shape), np.dtype(dtype)


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

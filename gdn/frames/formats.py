"""Which reader opens which file. A new format needs one function and one line in FORMATS.

A reader's module is imported when one of its files is opened, so a TIFF does not need HDF5.
"""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gdn.frames.bounds import check_growth, check_parts, check_regular
from gdn.frames.selection import select_channel
from gdn.frames.source import FrameError, FrameFile, one_line
from gdn.frames.unread import check_read

EXTRA = "formats"
HEAD = 4096  # bytes looked at


@dataclass(frozen=True, kw_only=True)
class Format:
    """A family of files.

    - `name`: in records and messages.
    - `suffixes`: in small letters.
    - `reads`: whether a file's first bytes belong to the family.
    - `reader`: (path, dataset) -> FrameFile, as 'module.function' of `gdn.frames`.
    - `package`: the package that it needs beyond gdn's own requirements.
    - `rsciio`: the module of RosettaSciIO that reads it instead.
    - `folder`: whether it is a folder and not a file.
    - `hdf5`: whether it is a kind of HDF5.
    """

    name: str
    suffixes: tuple[str, ...]
    reads: Callable[[bytes], bool]
    reader: str = ""
    rsciio: str = ""
    package: str | None = None
    folder: bool = False
    hdf5: bool = False

    def read(self, path: Path, dataset: str | None) -> FrameFile:
        """The frames of a file of this family; `dataset` names one of several images."""
        if self.rsciio:
            from gdn.frames.microscopes import read_signal

            return read_signal(self.rsciio, path, dataset)
        module, _, function = self.reader.partition(".")
        frames: FrameFile = getattr(import_module(f"gdn.frames.{module}"), function)(path, dataset)
        return frames


def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


def _never(head: bytes) -> bool:
    return False


HDF5 = b"\x89HDF\r\n\x1a\n"
FORMATS = (
    Format(
        name="TIFF",
        suffixes=(".tif", ".tiff"),
        reads=_starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        reader="tiff.read_tiff",
    ),
    Format(name="PNG", suffixes=(".png",), reads=_starts(b"\x89PNG"), reader="arrays.read_png"),
    Format(name="NumPy", suffixes=(".npy",), reads=_starts(b"\x93NUMPY"), reader="arrays.read_npy"),
    Format(
        name="NumPy",
        suffixes=(".npz",),
        reads=_never,
        reader="arrays.read_npz",
    ),
    Format(name="Nion Swift", suffixes=(".ndata",), reads=_never, reader="nion.read_ndata"),
    Format(
        name="MRC",
        suffixes=(".mrc", ".mrcs", ".map", ".ali", ".st"),
        reads=lambda head: head[208:212] == b"MAP ",
        reader="arrays.read_mrc",
    ),
    Format(
        name="MRC",
        suffixes=(".mrc.gz", ".mrcs.gz", ".mrc.bz2"),
        reads=_never,
        reader="arrays.read_mrc",
    ),
    Format(
        name="EMD",
        suffixes=(".emd",),
        reads=_never,
        rsciio="emd",
        package="rsciio",
        hdf5=True,
    ),
    Format(
        name="HyperSpy",
        suffixes=(".hspy",),
        reads=_never,
        rsciio="hspy",
        package="rsciio",
        hdf5=True,
    ),
    Format(
        name="HyperSpy",
        suffixes=(".zspy",),
        reads=_never,
        rsciio="zspy",
        package="rsciio",
        folder=True,
    ),
    Format(
        name="HDF5",
        suffixes=(".h5", ".hdf5", ".hdf", ".nxs", ".nhdf"),
        reads=_starts(HDF5),
        reader="hdf5_arrays.read_hdf5_by_content",
        package="h5py",
        hdf5=True,
    ),
    Format(
        name="Zarr",
        suffixes=(".zarr",),
        reads=_never,
        reader="zarr_arrays.read_zarr",
        package="zarr",
        folder=True,
    ),
    Format(
        name="DigitalMicrograph",
        suffixes=(".dm3", ".dm4"),
        reads=_never,
        rsciio="digitalmicrograph",
        package="rsciio",
    ),
    Format(
        name="TIA",
        suffixes=(".ser", ".emi"),
        reads=_starts(b"II\x97\x01"),
        rsciio="tia",
        package="rsciio",
    ),
)


def suffixes() -> tuple[str, ...]:
    """All suffixes that can be read, longest first."""
    return tuple(sorted((s for f in FORMATS for s in f.suffixes), key=len, reverse=True))


def suffix_of(path: Path) -> str:
    """The known suffix of a name, as it is written there, or ''."""
    name = path.name
    return next((name[-len(s) :] for s in suffixes() if name.lower().endswith(s)), "")


def is_data_folder(path: Path) -> bool:
    """Whether a folder is itself a file of frames (Zarr)."""
    return path.is_dir() and any(
        f.folder and path.name.lower().endswith(f.suffixes) for f in FORMATS
    )


def format_of(path: Path) -> Format:
    """The format of a file: by its suffix, else by its first bytes. Raises FrameError if it is
    unknown."""
    name = path.name.lower()
    by_name = [f for f in FORMATS if name.endswith(f.suffixes)]
    if path.is_dir():
        folders = [f for f in by_name if f.folder]
        if not folders:
            next(path.iterdir(), None)  # raises PermissionError for a closed one
            if path.is_symlink():
                raise FrameError(
                    f"{path}: a link to another folder, {path.resolve()}; give that folder itself"
                )
            raise FrameError(f"{path}: a folder, not a file of frames")
        check_parts(path)
        return folders[0]
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    by_content = [f for f in FORMATS if f.reads(head)]
    # A file with another's suffix is what its first bytes say, unless they say nothing, or HDF5 of
    # a special kind.
    for family in (
        *(f for f in by_content if f in by_name),
        *(f for f in by_name if f.reads is _never),
        *by_content,
        *by_name,
    ):
        return family
    known = ", ".join(dict.fromkeys(f.name for f in FORMATS))
    raise FrameError(f"{path}: not a readable file of frames; gdn reads {known}")


def files_beside(path: Path) -> list[Path]:
    """Other files that hold pixels of a file: the .ser files of an .emi, and the files that an HDF5
    file links to."""
    if path.suffix.lower() == ".emi":
        return sorted(path.parent.glob(f"{glob.escape(path.stem)}_*.ser"))
    if not path.is_file() or format_of(path).name != "HDF5":
        return []
    from gdn.frames.hdf5_arrays import linked_files

    return linked_files(path)


def read_frames(path: Path, dataset: str | None = None, channel: int | None = None) -> FrameFile:
    """Open a file. `dataset` names one of several images, `channel` (from 0) one of several
    channels. Raises FrameError if the file is missing, of unknown format, damaged, or without a
    usable frame."""
    if not path.exists():
        raise FrameError(f"{path}: no such file")
    check_read(path)
    check_regular(path)
    family = None
    try:
        family = format_of(path)
        if family.package and importlib.util.find_spec(family.package) is None:
            raise FrameError(
                f"{path}: {family.name} files need {family.package}; pip install 'gdn[{EXTRA}]'"
            )
        if family.hdf5:
            from gdn.frames.hdf5 import check_hdf5

            check_hdf5(path)
        frames = family.read(path, dataset)
        check_growth(frames, files_beside(path))
        return select_channel(frames, channel)
    except (FrameError, PermissionError):
        raise
    except Exception as error:  # the libraries raise many kinds on broken files
        kind = "file" if family is None else f"{family.name} file"
        raise FrameError(f"{path}: not a readable {kind} ({one_line(error)})") from None

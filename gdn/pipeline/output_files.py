"""The names of a file's results, and which of them exist."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from gdn.errors import InputError
from gdn.frames.formats import is_data_folder, suffix_of
from gdn.frames.writing import DTYPES, SUFFIX
from gdn.trust.calibration import LEVELS

KINDS = (*SUFFIX, "same")
MOVIE_FILES = ("mp4", "gif")


@dataclass(frozen=True)
class OutputStyle:
    """How images are written: `kind` tif, mrc, zarr or same (as the input), `dtype` of DTYPES;
    `png` slides, and `movie` mp4 or gif, '' for none. Raises InputError."""

    kind: str = "tif"
    dtype: str = "float32"
    png: bool = False
    movie: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"format {self.kind}: one of {', '.join(KINDS)}", "format")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype}: one of {', '.join(DTYPES)}", "dtype")
        if self.movie not in ("", *MOVIE_FILES):
            raise InputError(f"movie_file {self.movie}: {' or '.join(MOVIE_FILES)}", "movie_file")

    def record(self) -> dict[str, Any]:
        """What decides whether results are complete; pictures only where they are asked for."""
        return {name: value for name, value in asdict(self).items() if value}

    def of(self, source: Path) -> str:
        """The kind that results of `source` get. What cannot be written (DM4, SER, ...) becomes
        TIFF."""
        if self.kind != "same":
            return self.kind
        suffix = suffix_of(source).lower()
        if suffix == ".zarr":
            return "zarr"
        return "mrc" if suffix in (".mrc", ".mrcs", ".map", ".ali", ".st") else "tif"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Names of the outputs of one input.

    - `folder`: where they are written.
    - `stem`: the name of the input without its ending.
    - `kind`: of the images: tif, mrc or zarr.
    - `with_spread`: whether a spread is written; the original method has none.
    - `png`: whether slides are written.
    - `movie`: the kind of the movie, mp4 or gif; '' for none.
    """

    folder: Path
    stem: str
    kind: str = "tif"
    with_spread: bool = True
    png: bool = False
    movie: str = ""

    def of_method(self, method: str) -> Outputs:
        """What this `method` writes of them."""
        return replace(self, with_spread=method != "original")

    def _image(self, what: str) -> Path:
        return self.folder / f"{self.stem}_{what}{SUFFIX[self.kind]}"

    @cached_property
    def denoised(self) -> Path:
        """The result."""
        return self._image("denoised")

    @cached_property
    def spread(self) -> Path:
        """Its spread."""
        return self._image("spread")

    def interval(self, level: int) -> Path:
        """Half-width of the interval of `level` per cent."""
        return self._image(f"interval{level}")

    @cached_property
    def record(self) -> Path:
        """Settings, estimates and scores. Not NAME.json: others write a sidecar of that name."""
        return self.folder / f"{self.stem}_gdn.json"

    @cached_property
    def former_record(self) -> Path:
        """The record as it was called before version 0.2."""
        return self.folder / f"{self.stem}.json"

    def atoms(self, index: int | None = None) -> tuple[Path, Path]:
        """Table and picture of the columns of an image, or of frame `index` of a stack, numbered
        from 0 as in the record."""
        number = "" if index is None else f"_{index:04d}"
        name = f"{self.stem}_atoms{number}"
        return self.folder / f"{name}.csv", self.folder / f"{name}.png"

    def slide(self, index: int | None = None) -> Path:
        """The picture for slides of an image, or of frame `index` of a stack."""
        number = "" if index is None else f"_{index:04d}"
        return self.folder / f"{self.stem}_denoised{number}.png"

    @cached_property
    def movie_file(self) -> Path:
        """The movie of a stack."""
        return self.folder / f"{self.stem}_denoised.{self.movie}"

    def images(self, levels: tuple[int, ...]) -> list[Path]:
        """Every image that is written, in order."""
        spread = [self.spread] if self.with_spread else []
        return [self.denoised, *spread, *(self.interval(level) for level in levels)]

    def wanted(self, levels: tuple[int, ...], atoms: bool, frames: int = 1) -> list[Path]:
        """What a run writes of so many frames."""
        numbers = range(frames) if frames > 1 else [None]
        tables = [path for n in numbers for path in self.atoms(n)] if atoms else []
        slides = [self.slide(n) for n in numbers] if self.png else []
        movies = [self.movie_file] if self.movie and frames > 1 else []
        return [*self.images(levels), self.record, *tables, *slides, *movies]

    def possible(self) -> list[Path]:
        """Every file that a run may have written under these names, of those that are there."""
        kinds = [replace(self, kind=kind, with_spread=True) for kind in SUFFIX]
        images = [path for kind in kinds for path in kind.images(LEVELS)]
        tables = [path for path in self.atoms() if path.exists()]
        for index in count():
            there = [path for path in self.atoms(index) if path.exists()]
            if not there and index:  # the first frame of a stack once had no number
                break
            tables += there
        return [*(path for path in images if path.exists()), *tables]


ENDINGS = ("_denoised", "_spread", *(f"_interval{level}" for level in LEVELS))


def is_own_result(path: Path) -> bool:
    """Whether a name is that of a result of gdn. If a folder is denoised twice, its results must
    not be denoised."""
    stem = path.name.removesuffix(suffix_of(path))
    numbered = stem.rstrip("0123456789").removesuffix("_")
    pictures = path.suffix == ".png" and ("_atoms" in stem or numbered.endswith("_denoised"))
    return stem.endswith(ENDINGS) or pictures


def outputs_for(source: Path, folder: Path | None, style: OutputStyle | None = None) -> Outputs:
    """`NAME_denoised.tif`, `NAME_spread.tif`, `NAME_gdn.json`, `NAME_atoms.csv` and `.png` in
    `folder`, or beside the input."""
    stem = source.name.removesuffix(suffix_of(source))
    stem = stem[:-4] if stem.lower().endswith(".ome") else stem
    style = style or OutputStyle()
    return Outputs(
        folder=folder if folder is not None else source.parent,
        stem=stem,
        kind=style.of(source),
        png=style.png,
        movie=style.movie,
    )


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes, or of the names and bytes in a folder (Zarr)."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path).as_posix()}\0{content_hash(part)}\0".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_in(folder: Path, recursive: bool = False, inside: tuple[Path, ...] = ()) -> list[Path]:
    """Every file of frames in a folder, without gdn's own results, by name; also those of its
    subfolders if `recursive`, but not again those of a folder that it lies `inside` of: links may
    lead up. A subfolder that cannot be read, or that is a link out of the first folder, is listed
    itself, so that it fails alone."""
    if is_data_folder(folder):
        return [folder]
    files: list[Path] = []
    inside = (*inside, folder.resolve())
    for path in sorted(folder.iterdir()):
        data = path.is_file() or is_data_folder(path)
        if path.name.startswith(".") or is_own_result(path):
            continue
        if not data:
            if recursive and path.is_dir() and path.resolve() not in inside:
                if not path.resolve().is_relative_to(inside[0]):
                    files.append(path)
                    continue
                try:
                    files += files_in(path, recursive, inside)
                except PermissionError:
                    files.append(path)
        elif suffix_of(path) and not (path.suffix.lower() == ".ser" and _has_emi(path)):
            files.append(path)
    return files


def _has_emi(path: Path) -> bool:
    """Whether a .ser file (NAME_1.ser) belongs to an .emi file beside it, which reads it."""
    return path.with_name(f"{path.stem.rpartition('_')[0]}.emi").exists()

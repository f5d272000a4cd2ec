"""Where the results of a file go, and whether they are already there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gdn.errors import InputError
from gdn.frames.formats import is_data_folder, suffix_of
from gdn.frames.source import FrameError
from gdn.frames.writing import DTYPES, SUFFIX

KINDS = (*SUFFIX, "same")


@dataclass(frozen=True)
class OutputStyle:
    """How images are written: `kind` tif, mrc, zarr or same (as the input), `dtype` of DTYPES.
    Raises InputError."""

    kind: str = "tif"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"format {self.kind}: one of {', '.join(KINDS)}", "format")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype}: one of {', '.join(DTYPES)}", "dtype")

    def of(self, source: Path) -> str:
        """The kind that results of `source` get. What cannot be written (DM4, SER, ...) becomes
        TIFF."""
        if self.kind != "same":
            return self.kind
        suffix = suffix_of(source).lower()
        if suffix == ".zarr":
            return "zarr"
        return "mrc" if suffix in (".mrc", ".mrcs", ".map", ".ali", ".st") else "tif"


@dataclass(frozen=True)
class Outputs:
    """Names of the outputs of one input; `atoms` and `overlay` are written if columns are asked
    for, one of each for the first frame, with the frame's number after it for the others."""

    folder: Path
    stem: str
    kind: str = "tif"

    def _image(self, what: str) -> Path:
        return self.folder / f"{self.stem}_{what}{SUFFIX[self.kind]}"

    @property
    def denoised(self) -> Path:
        """The result."""
        return self._image("denoised")

    @property
    def spread(self) -> Path:
        """Its spread."""
        return self._image("spread")

    def interval(self, level: int) -> Path:
        """Half-width of the interval of `level` per cent."""
        return self._image(f"interval{level}")

    @property
    def record(self) -> Path:
        """Settings, estimates and scores."""
        return self.folder / f"{self.stem}.json"

    def atoms(self, index: int = 0) -> tuple[Path, Path]:
        """Table and picture of the columns of frame `index`."""
        number = f"_{index:04d}" if index else ""
        name = f"{self.stem}_atoms{number}"
        return self.folder / f"{name}.csv", self.folder / f"{name}.png"

    def images(self, levels: tuple[int, ...]) -> list[Path]:
        """Every image that is written, in order."""
        return [self.denoised, self.spread, *(self.interval(level) for level in levels)]


ENDINGS = ("_denoised", "_spread", "_interval50", "_interval68", "_interval90", "_interval99")


def is_own_result(path: Path) -> bool:
    """Whether a name is that of a result: a folder that is denoised twice must not denoise its
    results."""
    stem = path.name.removesuffix(suffix_of(path))
    return stem.endswith(ENDINGS) or ("_atoms" in stem and path.suffix == ".png")


def outputs_for(source: Path, folder: Path | None, style: OutputStyle | None = None) -> Outputs:
    """`NAME_denoised.tif`, `NAME_spread.tif`, `NAME.json`, `NAME_atoms.csv` and `.png` in `folder`,
    or beside the input."""
    stem = source.name.removesuffix(suffix_of(source))
    stem = stem[:-4] if stem.lower().endswith(".ome") else stem
    return Outputs(
        folder if folder is not None else source.parent, stem, (style or OutputStyle()).of(source)
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


def is_done(outputs: Outputs, levels: tuple[int, ...], atoms: bool, key: str) -> bool:
    """Whether all outputs exist and were made from the very input, model and settings of `key`."""
    try:
        record = json.loads(outputs.record.read_text())
        wanted = [*outputs.images(levels), *(outputs.atoms() if atoms else ())]
        return bool(all(path.exists() for path in wanted) and record["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_absent(outputs: Outputs, levels: tuple[int, ...]) -> None:
    """Raises FrameError where an output is already there."""
    there = next((p for p in (*outputs.images(levels), outputs.record) if p.exists()), None)
    if there is not None:
        raise FrameError(
            f"{there}: exists already; --overwrite replaces results, --resume skips those "
            "that are complete"
        )


def files_in(folder: Path) -> list[Path]:
    """Every file of frames in a folder, not below it, without gdn's own results, by name."""
    if is_data_folder(folder):
        return [folder]
    found = []
    for path in sorted(folder.iterdir()):
        if (
            path.name.startswith(".")
            or is_own_result(path)
            or not (path.is_file() or is_data_folder(path))
        ):
            continue
        if suffix_of(path) and not (path.suffix.lower() == ".ser" and _has_emi(path)):
            found.append(path)
    return found


def _has_emi(path: Path) -> bool:
    """Whether a .ser file (NAME_1.ser) belongs to an .emi file beside it, which reads it."""
    return path.with_name(f"{path.stem.rpartition('_')[0]}.emi").exists()

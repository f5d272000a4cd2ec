"""Make a data set of clean images from any simulator (docs/howto/own-specimen.md).

The images are stored in units of the vacuum level. Of where they come from nothing but the pixel
size needs to be known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdn import __version__
from gdn.errors import EmptyFrame, InputError
from gdn.frames.formats import read_frames
from gdn.frames.source import FrameFile
from gdn.simulation.clean_images import FOLDER, CleanImage, write_clean_image
from gdn.simulation.dataset import DATASET_SCHEMA, FILE, read_dataset
from gdn.simulation.scenes import IMAGES
from gdn.simulation.structures import split_of
from gdn.storage import json_line, write_text

Progress = Callable[[int, int], None]

LAST_DIGITS = (1, 0, 2, 3, 4, 5, 6, 7, 8, 9)  # of seeds in turn: validation and test come first
LEAST_STRUCTURES = 3  # one for each split
MOST_NEGATIVE = 0.05  # of the vacuum level: what a resampling may have swung below zero
LEVELS = (0.2, 5.0)  # of the mean over the vacuum level: beyond, the vacuum is another


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """What a data set of clean images is made of.

    - `sampling_angstrom`: of all files; None takes what each file says.
    - `vacuum`: gray value of the vacuum; None divides each image by its mean, as for dark field.
    - `independent`: whether the frames of a file show different structures, so that they may be in
      different splits.
    """

    out: Path
    files: Sequence[Path]
    seed: int
    sampling_angstrom: float | None = None
    vacuum: float | None = 1.0
    energy_kv: float = 300.0
    independent: bool = False


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Frames of a file that show one structure; `key` is the hash of their content."""

    file: FrameFile
    frames: tuple[int, ...]
    key: str
    seed: int = 0

    @property
    def label(self) -> str:
        name = str(self.file.path)
        return name if len(self.frames) == self.file.count else f"{name}, frame {self.frames[0]}"


def import_images(plan: ImagePlan, progress: Progress = lambda done, total: None) -> list[Path]:
    """Make the data set, or what is missing of it, and return the paths of its images. Of ten
    structures one is in the test split and one in validation, by their content and the seed.
    Raises InputError for files that cannot be used, and if the folder holds another data set."""
    parts = _with_seeds(plan, [part for path in plan.files for part in _parts(path, plan)])
    _open(plan, parts)
    (plan.out / FOLDER).mkdir(parents=True, exist_ok=True)
    tasks = [(part, frame) for part in parts for frame in part.frames]
    paths = []
    for index, (part, frame) in enumerate(tasks):
        path = plan.out / FOLDER / f"{index:06d}_{part.seed}.npz"
        if not path.exists():
            write_clean_image(path, _read_frame(part.file, frame, plan))
        paths.append(path)
        progress(index + 1, len(tasks))
    return paths


def _parts(path: Path, plan: ImagePlan) -> Iterator[_Part]:
    """The structures of a file. All pixels are read and checked."""
    file = read_frames(path)
    groups = [range(file.count)] if not plan.independent else [[n] for n in range(file.count)]
    for frames in groups:
        content = hashlib.sha256()
        for frame in frames:
            content.update(_read_frame(file, frame, plan).image.tobytes())
        yield _Part(file=file, frames=tuple(frames), key=content.hexdigest())


def _read_frame(file: FrameFile, index: int, plan: ImagePlan) -> CleanImage:
    """A frame in units of the vacuum level. Raises InputError."""
    try:
        image = file.read(index, whole=True)
    except EmptyFrame as error:
        raise InputError(f"{error}: leave it out") from None
    vacuum = float(image.mean()) if plan.vacuum is None else plan.vacuum
    name = f"{file.path}, frame {index}" if file.count > 1 else str(file.path)
    if vacuum <= 0:
        raise InputError(f"{name}: its mean is {vacuum:.3g}; give intensities, which are positive")
    image = image / np.float32(vacuum)
    least, mean = float(image.min()), float(image.mean())
    if least < -MOST_NEGATIVE:
        raise InputError(
            f"{name}: goes down to {least:.3g} of the vacuum level; give intensities, which are "
            "not negative"
        )
    if not LEVELS[0] <= mean <= LEVELS[1]:
        raise InputError(
            f"{name}: its mean is {mean:.3g} times the vacuum level; give the gray value of the "
            "vacuum, or 'mean' for dark field",
            "vacuum",
        )
    return CleanImage(np.maximum(image, 0), file.sampling(plan.sampling_angstrom))


def _with_seeds(plan: ImagePlan, parts: list[_Part]) -> list[_Part]:
    """The parts with a seed each. Its last digit decides the split (`split_of`), the rest comes
    from the content, so that neither names nor order matter."""
    first: dict[str, _Part] = {}
    for part in parts:
        if part.key in first:
            raise InputError(
                f"{part.label}: has the same pixels as {first[part.key].label}; leave out one"
            )
        first[part.key] = part
    if len(parts) < LEAST_STRUCTURES:
        raise InputError(
            f"{len(parts)} structures: training, validation and test need at least "
            f"{LEAST_STRUCTURES}; give more files, or say that the frames of a file show "
            "different structures",
            "independent",
        )
    words = {
        part.key: hashlib.sha256(f"{plan.seed} {part.key}".encode()).hexdigest() for part in parts
    }
    ranked = sorted(parts, key=lambda part: words[part.key])
    return [
        replace(
            part,
            seed=int(words[part.key][:12], 16) // 10 * 10 + LAST_DIGITS[rank % len(LAST_DIGITS)],
        )
        for rank, part in enumerate(ranked)
    ]


def _open(plan: ImagePlan, parts: list[_Part]) -> None:
    """Write `dataset.json`, or check that it is this data set's. Raises InputError."""
    made_of = {
        "vacuum": "mean" if plan.vacuum is None else plan.vacuum,
        "least_field_angstrom": min(
            min(part.file.frame_shape) * part.file.sampling(plan.sampling_angstrom)
            for part in parts
        ),
        "structures": [
            {
                "file": part.file.path.name,
                "frames": list(part.frames),
                "sha256": part.key,
                "split": split_of(part.seed),
            }
            for part in parts
        ],
    }
    content = {
        "schema": DATASET_SCHEMA,
        "seed": plan.seed,
        "count": len(parts),
        "energy_kv": plan.energy_kv,
        "scenes": IMAGES,
        "images": made_of,
    }
    path = plan.out / FILE
    if path.exists():
        known = read_dataset(path)
        if {name: known.get(name) for name in content} != content:
            raise InputError(f"{path}: is that of another data set; choose another folder")
        return
    if plan.out.is_dir() and any(plan.out.iterdir()):
        raise InputError(f"{plan.out}: is not empty; choose another folder")
    plan.out.mkdir(parents=True, exist_ok=True)
    write_text(path, json_line(content | {"gdn": __version__}, indent=1) + "\n")

"""Make a data set of clean images from any simulator (docs/howto/own-specimen.md).

The images are stored in units of the vacuum level. Of where they come from nothing but the pixel
size needs to be known.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
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
from gdn.storage import write_json, writing

Progress = Callable[[int, int], None]

LAST_DIGITS = (1, 0, 2, 3, 4, 5, 6, 7, 8, 9)  # of seeds in turn: validation and test come first
LEAST_STRUCTURES = 3  # one for each split
MOST_NEGATIVE = 0.05  # of the vacuum level: what a resampling may have swung below zero
LEVELS = (0.2, 5.0)  # of the mean over the vacuum level: beyond, the vacuum is another


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """What a data set of clean images is made of.

    - `out`: its folder.
    - `files`: of images.
    - `seed`: of the seeds of its images, which decide their splits.
    - `sampling_angstrom`: of all files; None takes what each file says.
    - `vacuum`: gray value of the vacuum; None divides each image by its mean, as for dark field.
    - `energy_kv`: of the beam.
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
    """Frames of a file that show one structure.

    - `file`: which one.
    - `frames`: their numbers in it.
    - `key`: hash of their content.
    - `stored`: their images under temporary names.
    - `seed`: which decides their split.
    """

    file: FrameFile
    frames: tuple[int, ...]
    key: str
    stored: tuple[Path, ...] = ()
    seed: int = 0

    @property
    def label(self) -> str:
        name = str(self.file.path)
        return name if len(self.frames) == self.file.count else f"{name}, frame {self.frames[0]}"


def import_images(plan: ImagePlan, progress: Progress = lambda done, total: None) -> list[Path]:
    """Make the data set, or what is missing of it, and return the paths of its images. Of ten
    structures one is in the test split and one in validation, by their content and the seed.
    Raises InputError for files that cannot be used, and if the folder holds another data set."""
    _check_folder(plan.out)
    if (plan.out / FOLDER).exists():
        return _complete(plan, plan.out / FOLDER, progress)
    fresh = not plan.out.exists()
    plan.out.mkdir(parents=True, exist_ok=True)
    try:
        return _make(plan, plan.out / FOLDER, progress)
    except BaseException:
        if fresh:
            with contextlib.suppress(OSError):  # it is not empty
                plan.out.rmdir()
        raise


def _make(plan: ImagePlan, folder: Path, progress: Progress) -> list[Path]:
    """Read each file, store its images, and give them their names once all seeds are known."""
    with writing(folder) as temporary:
        temporary.mkdir()
        parts = _with_seeds(plan, _read_all(plan, temporary, progress))
        _open(plan, parts)
        images = [(part, stored) for part in parts for stored in part.stored]
        names = [_name(index, part) for index, (part, _) in enumerate(images)]
        for name, (_, stored) in zip(names, images, strict=True):
            stored.rename(temporary / name)
    return [folder / name for name in names]


def _complete(plan: ImagePlan, folder: Path, progress: Progress) -> list[Path]:
    """Make what is missing of a data set; each file is read to know it again, and what is missing
    once more."""
    parts = _with_seeds(plan, _read_all(plan, None, progress))
    _open(plan, parts)
    tasks = [(part, frame) for part in parts for frame in part.frames]
    paths = [folder / _name(index, part) for index, (part, _) in enumerate(tasks)]
    for path, (part, frame) in zip(paths, tasks, strict=True):
        if not path.exists():
            write_clean_image(path, _read_frame(part.file, frame, plan))
    return paths


def _name(index: int, part: _Part) -> str:
    """Of the image number `index`."""
    return f"{index:06d}_{part.seed}.npz"


def _read_all(plan: ImagePlan, folder: Path | None, progress: Progress) -> list[_Part]:
    """The structures of all files. All pixels are read and checked, and stored in `folder`, if one
    is given."""
    parts: list[_Part] = []
    for number, path in enumerate(plan.files):
        file = read_frames(path)
        groups = [range(file.count)] if not plan.independent else [[n] for n in range(file.count)]
        for frames in groups:
            content, stored = hashlib.sha256(), []
            for frame in frames:
                clean = _read_frame(file, frame, plan)
                content.update(clean.image.tobytes())
                if folder is not None:
                    stored.append(folder / f"{number}_{frame}.npz")
                    write_clean_image(stored[-1], clean)
            key = content.hexdigest()
            parts.append(_Part(file=file, frames=tuple(frames), key=key, stored=tuple(stored)))
        progress(number + 1, len(plan.files))
    return parts


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
            f"{len(parts)} structures, of at least {LEAST_STRUCTURES}; give more files, or "
            "say that the frames of a file show different structures",
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


def _check_folder(folder: Path) -> None:
    """Raises InputError for a folder with anything but a data set, before any file is read. What a
    killed run left of its images does not count."""
    if (folder / FILE).exists() or not folder.is_dir():
        return
    if any(not path.name.startswith(f".{FOLDER}.") for path in folder.iterdir()):
        raise InputError(f"{folder}: is not empty; choose another folder")


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
    write_json(path, content | {"gdn": __version__})

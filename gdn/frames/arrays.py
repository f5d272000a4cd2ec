"""Files that hold arrays: MRC, PNG, NumPy, and arrays whose axes are described."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.axes import (
    Axis,
    image_axes,
    leading_axes,
    leading_letters,
    objection,
    plain_axes,
)
from gdn.frames.bounds import check_archive, unpack_mrc
from gdn.frames.choosing import Arrays
from gdn.frames.cut_off import mrc_frames_within, npy_frames_within
from gdn.frames.source import (
    FrameCalibration,
    FrameError,
    FrameFile,
    check_layout,
    gray,
    of_array,
    of_planes,
)
from gdn.frames.units import pixel_size, unit_kind
from gdn.frames.values import rescale, values_in

_IMOD = 1146047817  # the word that says that IMOD wrote a header


def read_mrc(path: Path, dataset: str | None = None) -> FrameFile:
    """Open an MRC2014 file (mrcfile); the voxel size is in Å. Compressed files are unpacked in
    memory, others are mapped."""
    import mrcfile

    packed = path.suffix.lower() in (".gz", ".bz2")
    there, words = (unpack_mrc(path), "") if packed else mrc_frames_within(path) or (None, "")
    header_only = {"header_only": True} if there is not None else {}
    opener = mrcfile.open if there is not None else mrcfile.mmap
    with opener(path, mode="r", **header_only) as file:
        data, voxel = file.data if there is None else there, file.voxel_size
        if data is None:
            raise FrameError(f"{path}: an MRC file without data")
        header = file.header
        if int(header.mode) == 0 and _unsigned(header):
            data = data.view(np.uint8)
        space_group, depth = int(header.ispg), int(header.mz)
        volume = not words and space_group != 0 and data.ndim == 3
        labels = [label.decode("latin-1") for label in header.label]
    steps = {"Z": (float(voxel.z), "Å")} if volume else {}
    sampling, trouble = pixel_size([(float(voxel.x), "Å"), (float(voxel.y), "Å")])
    calibration = FrameCalibration(
        sampling_angstrom=sampling,
        axes="ZYX" if volume else leading_axes(data.ndim),
        shape=tuple(data.shape),
        trouble=trouble,
        steps=steps,
        mrc=None if words else (space_group, depth, float(voxel.z)),
    )
    image = (data.ndim - 2, data.ndim - 1)
    frames = of_planes(path, data, image, calibration, "mrc")
    return replace(rescale(frames, values_in(" ".join(labels))), cut_off=words)


def _unsigned(header: Any) -> bool:
    """Whether the bytes are unsigned, as older versions of IMOD write them: IMOD's stamp is there,
    but the flag of signed bytes is not (IMOD, MRC format, words 39 and 40)."""
    stamp, flags = np.frombuffer(header.tobytes()[152:160], header.mode.dtype)
    return bool(stamp == _IMOD and not flags & 1)


def read_png(path: Path, dataset: str | None = None) -> FrameFile:
    """Open an 8 or 16-bit gray PNG, or one whose channels are equal. PNG has no pixel size."""
    from PIL import Image

    # Pillow would take it for any of its formats: for some it starts another program.
    with Image.open(path, formats=("PNG",)) as picture:
        picture.load()
        mode = picture.mode
        data = np.asarray(picture.convert("RGB") if mode in ("P", "RGBA") else picture)
    if mode in ("P", "RGBA", "RGB", "LA"):
        data = data[..., 0] if mode == "LA" else gray(path, data)
    data = (
        data.astype(np.uint16) if data.dtype.kind == "i" else data
    )  # Pillow's 16-bit mode is 32-bit integers
    return of_array(path, data, "YX", [], "png")


def read_npy(path: Path, dataset: str | None = None) -> FrameFile:
    """Open a NumPy array, mapped. Pickled objects are refused."""
    if cut_off := npy_frames_within(path):
        return replace(_undescribed(path, cut_off[0]), cut_off=cut_off[1])
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    return _undescribed(path, data)


def read_npz(path: Path, dataset: str | None = None) -> FrameFile:
    """Open the only image among the arrays of a NumPy archive, or `dataset`. Pickled objects are
    refused."""
    arrays = Arrays(path=path)
    with zipfile.ZipFile(path) as entries:
        check_archive(path, entries)
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            arrays.add(name, archive[name])
    return _undescribed(path, arrays.chosen(dataset))


def _undescribed(path: Path, data: Any) -> FrameFile:
    """A file whose frames are the last two axes of an array; nothing is known of its other axes."""
    check_layout(path, data.shape, leading_axes(len(data.shape)), data.dtype)
    return of_axes(path, data, plain_axes(data.shape), "npy", [])


def of_axes(
    path: Path, data: Any, axes: Sequence[Axis], name: str, sizes: list[tuple[float, str]] | None
) -> FrameFile:
    """A file whose frames are the two of the `axes` of `data` that form an image of real space.
    `sizes` are the pixel sizes with their units (None: take them from the axes). Raises FrameError
    for spectra and diffraction patterns."""
    wrong = objection(axes)
    if wrong:
        raise FrameError(f"{path}: holds {wrong}")
    image = image_axes(axes)
    rest = [axis for number, axis in enumerate(axes) if number not in image]
    if sizes is None:
        sizes = sizes_of([axes[number] for number in image])
    sampling, trouble = pixel_size(sizes)
    letters = leading_letters(rest)
    calibration = FrameCalibration(
        sampling_angstrom=sampling,
        axes=f"{letters}YX",
        shape=(*(axis.size for axis in rest), *(axes[number].size for number in image)),
        trouble=trouble,
        unit=sizes[-1][1] if sampling else "",
        steps={
            letter: (axis.scale, axis.unit)
            for letter, axis in zip(letters, rest, strict=True)
            if axis.scale > 0 and unit_kind(axis.unit) != "none"
        },
    )
    unknown = [axis for axis in rest if axis.kind == "unknown" and not axis.name]
    notes = []
    if len(unknown) > 1:
        count = int(np.prod([axis.size for axis in rest]))
        notes = [
            f"the file does not say what its first {len(rest)} axes are (in a 4D-STEM scan, "
            f"positions of the beam); gdn takes them for {count} frames"
        ]
    return of_planes(path, data, image, calibration, name, notes)


def sizes_of(axes: Sequence[Axis]) -> list[tuple[float, str]]:
    """Pixel size and unit of those `axes` that have both."""
    return [(axis.scale, axis.unit) for axis in axes if axis.scale > 0 and axis.unit]

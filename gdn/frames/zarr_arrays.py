"""Read Zarr: plain arrays, and OME-Zarr images (NGFF 0.4 and 0.5) with the scale of their axes."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gdn.frames.arrays import of_axes
from gdn.frames.axes import Axis, plain_axes
from gdn.frames.choosing import Arrays
from gdn.frames.hdf5_axes import attribute_sizes
from gdn.frames.pieces import check_piece
from gdn.frames.source import FrameFile
from gdn.frames.values import rescale, values_in
from gdn.frames.zarr_chunks import bounded_chunks


class _Level:
    """An array of a group: its axes, and what is wrong with their calibration."""

    def __init__(
        self, array: Any, axes: list[Axis], trouble: str = "", provenance: str = ""
    ) -> None:
        self.array, self.axes, self.trouble = array, axes, trouble
        self.provenance = provenance
        self.shape, self.dtype = tuple(array.shape), array.dtype

    def check(self, path: Path) -> None:
        """Raises FrameError if a chunk is too large for memory."""
        item = self.array.dtype.itemsize
        check_piece(path, math.prod(self.array.chunks) * item, math.prod(self.shape) * item)

    def __getitem__(self, index: Any) -> Any:
        with bounded_chunks():
            return self.array[index]


def read_zarr(path: Path, dataset: str | None = None) -> FrameFile:
    """Open a Zarr array, or the only image in a group (of an OME-Zarr pyramid its finest level), or
    `dataset`, which may be a coarser level."""
    import zarr

    arrays, levels = Arrays(path=path), Arrays(path=path)
    with bounded_chunks():
        opened: Any = zarr.open(path, mode="r")
        if not isinstance(opened, zarr.Group):
            return _frames(path, _plain(opened))
        for name, level, first in _levels(opened):
            (arrays if first else levels).add(name, level, level.axes)
    if dataset is not None and dataset.strip("/") in levels.images:
        return _frames(path, levels.images[dataset.strip("/")])
    return _frames(path, arrays.chosen(dataset))


def check_zarr(path: Path) -> None:
    """Raises FrameError if an array of a folder is stored in chunks that are too large for memory.
    Needed where another library reads it."""
    import zarr

    opened: Any = zarr.open(path, mode="r")
    if isinstance(opened, zarr.Group):
        for _, member in opened.members(max_depth=None):
            if isinstance(member, zarr.Array):
                _plain(member).check(path)


def _frames(path: Path, level: _Level) -> FrameFile:
    from dataclasses import replace

    level.check(path)
    sizes = attribute_sizes(level.array.attrs) or None
    frames = of_axes(path, level, level.axes, "zarr", [] if level.trouble else sizes)
    if level.trouble and not frames.calibration.sampling_angstrom:
        frames = replace(frames, calibration=replace(frames.calibration, trouble=level.trouble))
    return rescale(frames, values_in(level.provenance))


def _plain(array: Any) -> _Level:
    """An array that belongs to no pyramid. Its dimensions may have names (xarray's too)."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    axes = plain_axes(array.shape)
    if names and len(names) == len(axes):
        axes = [
            Axis(size=axis.size, name=str(name or ""))
            for axis, name in zip(axes, names, strict=True)
        ]
    return _Level(array, axes)


def _levels(group: Any, prefix: str = "") -> Iterator[tuple[str, _Level, bool]]:
    """Arrays of a group with their names, and whether each is the finest of its pyramid."""
    attributes: Any = dict(group.attrs)
    pyramids = attributes.get("ome", attributes).get("multiscales") or []
    provenance = str(attributes.get("provenance", ""))
    seen = set()
    for pyramid in pyramids:
        for number, level in enumerate(pyramid.get("datasets", [])):
            seen.add(level["path"])
            array = group[level["path"]]
            axes, trouble = _ngff_axes(pyramid, level, array)
            name = posixpath.join(prefix, level["path"])
            yield name, _Level(array, axes, trouble, provenance), number == 0
    for name, member in group.arrays():
        if name not in seen:
            yield posixpath.join(prefix, name), _plain(member), True
    for name, member in sorted(group.groups(), key=lambda entry: str(entry[0])):
        yield from (
            (path, level, first)
            for path, level, first in _levels(member, posixpath.join(prefix, name))
            if posixpath.relpath(path, prefix or ".") not in seen
        )


def _ngff_axes(pyramid: Any, level: Any, array: Any) -> tuple[list[Axis], str]:
    """Axes of a level. Its own scale and that of the whole pyramid are both applied (NGFF 0.4,
    'multiscales' metadata). If a transformation is neither a scale nor a translation, the pixel
    size is unknown, and the second value says so."""
    named = pyramid.get("axes", [])
    if len(named) != array.ndim:
        return plain_axes(array.shape), ""
    factors = [1.0] * array.ndim
    steps = [level.get("coordinateTransformations"), pyramid.get("coordinateTransformations")]
    scaled = False
    for step_ in [step for listed in steps for step in listed or []]:
        kind = step_.get("type")
        if kind == "scale" and len(step_.get("scale", [])) == array.ndim:
            factors = [a * float(b) for a, b in zip(factors, step_["scale"], strict=True)]
            scaled = True
        elif kind not in ("identity", "translation"):
            return _described(named, array, [0.0] * array.ndim), (
                f"has a coordinate transformation ({kind}) that gdn does not know"
            )
    return _described(named, array, factors if scaled else [0.0] * array.ndim), ""


def _described(named: Any, array: Any, factors: list[float]) -> list[Axis]:
    described = [{"name": axis} if isinstance(axis, str) else axis for axis in named]
    return [
        Axis(
            size=int(size),
            name=str(axis.get("name", "")),
            scale=factor,
            unit=str(axis.get("unit") or ""),
            declared=str(axis.get("type") or ""),
        )
        for axis, size, factor in zip(described, array.shape, factors, strict=True)
    ]

"""The axes of an HDF5 data set, from attributes, NeXus, named dimensions, or Nion Swift's
properties."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.axes import Axis, plain_axes
from gdn.frames.hdf5_chunks import check_chunks


def attribute_sizes(attributes: Any) -> list[tuple[float, str]]:
    """Pixel size and unit from the attribute 'sampling_angstrom' or 'element_size_um'."""
    for name, unit in (("sampling_angstrom", "Å"), ("element_size_um", "um")):
        if name in attributes:
            return [(float(size), unit) for size in np.atleast_1d(attributes[name])[-2:]]
    return []


def axes_of(dataset: Any) -> list[Axis]:
    """The axes of an open data set, as far as its file describes them."""
    shape = dataset.shape
    for axes in (_nion(dataset), _nexus(dataset), _labelled(dataset)):
        if len(axes) == len(shape):
            return axes
    return plain_axes(shape)


def _nion(dataset: Any) -> list[Axis]:
    """Nion Swift keeps its properties as JSON."""
    text = dataset.attrs.get("properties")
    if not isinstance(text, str | bytes):
        return []
    try:
        return nion_axes(dataset.shape, json.loads(text))
    except ValueError:
        return []


def nion_axes(shape: Sequence[int], properties: Any) -> list[Axis]:
    """Axes of a Nion Swift item from its properties. The axes of a sequence and of a scan come
    before the detector's own (nion.data, DataDescriptor)."""
    source = _nion_source(properties)
    calibrations = (
        source.get("dimensional_calibrations") or source.get("spatial_calibrations") or []
    )
    if len(calibrations) != len(shape):
        return []
    own = source.get("datum_dimension_count")
    first = len(shape) - int(own) if own else 0
    scanned = source.get("collection_dimension_count") == 2
    names = {first - 2: "scan_y", first - 1: "scan_x"} if scanned else {}
    return [
        Axis(
            size=int(size),
            name=names.get(number, ""),
            scale=abs(float(calibration.get("scale") or 0.0)),
            unit=str(calibration.get("units") or ""),
            signal=(number >= first) if own and first else None,
        )
        for number, (size, calibration) in enumerate(zip(shape, calibrations, strict=True))
    ]


def _nion_source(properties: Any) -> Any:
    """The part of an item's properties that describes its data; older versions keep a list."""
    if not isinstance(properties, dict):
        return {}
    sources = properties.get("data_sources") or [properties.get("data_source") or properties]
    source = sources[0] if isinstance(sources[0], dict) else {}
    nested = source.get("data_source")
    return nested if isinstance(nested, dict) else source


def _nexus(dataset: Any) -> list[Axis]:
    """Axes that a NeXus group (NXdata) names, in the order of the array."""
    group = dataset.parent
    names = [_text(name) for name in np.atleast_1d(group.attrs.get("axes", []))]
    if len(names) == 1 and len(dataset.shape) > 1:  # older files: one text with colons
        names = names[0].strip("[]").replace(",", ":").split(":")
    return [
        Axis(size=int(size), name=name, scale=step, unit=unit)
        for size, name in zip(dataset.shape, names, strict=False)
        for step, unit in [_step(group, name)]
    ]


def _step(group: Any, name: str) -> tuple[float, str]:
    """Spacing and unit of an axis that a data set of the group lists."""
    import h5py

    if name in (".", "") or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return 0.0, ""
    values = group[name]
    unit = _text(values.attrs.get("units", ""))
    if not isinstance(values, h5py.Dataset) or values.ndim != 1 or len(values) < 2:
        return 0.0, unit
    check_chunks(Path(values.file.filename), values)
    return abs(float(values[-1]) - float(values[0])) / (len(values) - 1), unit


def _labelled(dataset: Any) -> list[Axis]:
    """Labels of HDF5 dimensions, and scales attached to them."""
    axes = []
    for size, dimension in zip(dataset.shape, dataset.dims, strict=True):
        step, unit, name = 0.0, "", dimension.label
        if len(dimension):
            scale = dimension[0]
            name = name or posixpath.basename(scale.name or "")
            step, unit = _step(scale.parent, posixpath.basename(scale.name))
        axes.append(Axis(size=int(size), name=name, scale=step, unit=unit))
    return axes


def is_colour(dataset: Any) -> bool:
    """Whether a data set declares itself a colour picture (HDF5 Image specification 1.2)."""
    return _text(dataset.attrs.get("IMAGE_SUBCLASS", "")) == "IMAGE_TRUECOLOR"


def _text(value: Any) -> str:
    """An attribute's text, however it is stored."""
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

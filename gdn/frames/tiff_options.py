"""How a result is written as TIFF: in the style of its input, with the calibration of every
axis."""

from __future__ import annotations

from typing import Any

from gdn.frames.source import FrameCalibration
from gdn.frames.units import angstrom_per, seconds_per
from gdn.frames.values import Values

_IMAGEJ_UNITS = (0.01, 1.0, 10.0, 1e4)  # Å: of others the tag of the resolution is too small
_OME_LENGTHS = {1.0: "Å", 10.0: "nm", 1e4: "µm", 0.01: "pm", 1e7: "mm", 1e8: "cm", 1e10: "m"}
_OME_TIMES = {1.0: "s", 1e-3: "ms", 1e-6: "µs", 1e-9: "ns", 60.0: "min", 3600.0: "h"}


def write_options(
    calibration: FrameCalibration,
    description: dict[str, Any],
    provenance: str = "",
    values: Values | None = None,
) -> dict[str, Any]:
    """tifffile's arguments that give an output the axes, calibration and style of its input, state
    where it came from, and what its `values` mean."""
    values = values or Values()
    # A name may hold bytes that are no UTF-8.
    provenance = provenance.encode("utf-8", "backslashreplace").decode()
    if calibration.style == "imagej":
        return _imagej(calibration, provenance, values)
    if not values.plain:
        provenance = f"{provenance}; {values.line}".removeprefix("; ")
    if calibration.style == "ome":
        return _ome(calibration, provenance)
    sampling = calibration.sampling_angstrom
    # Said outright, or three frames would be taken for red, green and blue.
    metadata: dict[str, Any] = {"axes": calibration.axes} | description
    metadata |= {"provenance": provenance} if provenance else {}
    metadata |= {"axis_steps": calibration.steps} if calibration.steps else {}
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": metadata}
    if sampling:
        metadata["sampling_angstrom"] = sampling
        options |= {"extratags": _tags_of_micrographs(sampling)}
        if sampling > 0.03:  # the tag holds at most 2^32 pixels per centimetre
            options |= {"resolution": (1e8 / sampling,) * 2, "resolutionunit": "CENTIMETER"}
    return options


def _imagej(calibration: FrameCalibration, provenance: str, values: Values) -> dict[str, Any]:
    """ImageJ's style: lengths in the unit of the input, times in seconds."""
    size, unit = angstrom_per(calibration.unit), calibration.unit
    if size not in _IMAGEJ_UNITS:
        size, unit = 10.0, "nm"
    metadata: dict[str, Any] = {"axes": calibration.axes}
    metadata |= {"Info": provenance} if provenance else {}
    if not values.plain:
        metadata |= {"cf": 0, "c0": values.offset, "c1": values.scale, "vunit": "Gray Value"}
    sampling = calibration.sampling_angstrom
    if sampling:
        # ImageJ writes letters beyond ASCII as \\uXXXX.
        metadata["unit"] = "".join(c if ord(c) < 128 else f"\\u{ord(c):04X}" for c in unit)
    depth = length_of(calibration, "Z")
    if depth is not None and sampling:
        metadata["spacing"] = depth / size
    interval = time_of(calibration)
    if interval is not None:
        metadata["finterval"] = interval
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if not sampling:
        return options
    tags = _tags_of_micrographs(sampling)
    return options | {"resolution": (size / sampling,) * 2, "extratags": tags}


def _tags_of_micrographs(sampling_angstrom: float) -> list[tuple[int, int, int, Any, bool]]:
    """The pixel size in the tags that DigitalMicrograph writes into its TIFF files, in nm:
    RosettaSciIO, and so HyperSpy, reads it there."""
    unit, size = (2, 3, "nm"), (12, 1, sampling_angstrom / 10)  # as TIFF's ASCII, DOUBLE
    origin = (12, 1, 0.0)
    tags = {65003: unit, 65004: unit, 65006: origin, 65007: origin, 65009: size, 65010: size}
    return [(number, *tag, False) for number, tag in tags.items()]


def _ome(calibration: FrameCalibration, provenance: str) -> dict[str, Any]:
    """OME's style, lengths and times in the units of the input."""
    metadata: dict[str, Any] = {"axes": calibration.axes}
    metadata |= {"Description": provenance} if provenance else {}
    size = angstrom_per(calibration.unit)
    size = size if size in _OME_LENGTHS else 1.0
    if calibration.sampling_angstrom:
        for axis in "XY":
            metadata[f"PhysicalSize{axis}"] = calibration.sampling_angstrom / size
            metadata[f"PhysicalSize{axis}Unit"] = _OME_LENGTHS[size]
    depth, interval = calibration.steps.get("Z"), calibration.steps.get("T")
    if depth and angstrom_per(depth[1]) in _OME_LENGTHS:
        unit = _OME_LENGTHS[angstrom_per(depth[1]) or 1.0]
        metadata |= {"PhysicalSizeZ": depth[0], "PhysicalSizeZUnit": unit}
    if interval and seconds_per(interval[1]) in _OME_TIMES:
        unit = _OME_TIMES[seconds_per(interval[1]) or 1.0]
        metadata |= {"TimeIncrement": interval[0], "TimeIncrementUnit": unit}
    return {"ome": True, "photometric": "minisblack", "metadata": metadata}


def length_of(calibration: FrameCalibration, axis: str) -> float | None:
    """Å from one frame to the next along an axis; None if that is unknown."""
    step, unit = calibration.steps.get(axis, (0.0, ""))
    size = angstrom_per(unit)
    return step * size if size and step > 0 and axis in calibration.axes else None


def time_of(calibration: FrameCalibration) -> float | None:
    """Seconds from one frame to the next; None if that is unknown."""
    step, unit = calibration.steps.get("T", (0.0, ""))
    size = seconds_per(unit)
    return step * size if size and step > 0 and "T" in calibration.axes else None

"""What a TIFF states about its pixels (size, frame interval and depth, the meaning of its values),
in the styles of ImageJ, OME, and gdn's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from gdn.frames.source import FrameCalibration, FrameError, Style
from gdn.frames.units import is_reciprocal, pixel_size, unit_kind
from gdn.frames.values import Values, values_in

_STRAIGHT_LINE, _NO_FUNCTION = 0, 20  # ij.measure.Calibration


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a TIFF file states.

    - `style`: in which it is written.
    - `sizes`: of a pixel, with their units.
    - `steps`: of other axes, by letter, with their units.
    - `values`: what the numbers mean.
    - `notes`: warnings.
    """

    style: Style = "plain"
    sizes: list[tuple[float, str]] = field(default_factory=list)
    steps: dict[str, tuple[float, str]] = field(default_factory=dict)
    values: Values = field(default_factory=Values)
    notes: list[str] = field(default_factory=list)

    def calibration(self, path: Path, axes: str, shape: tuple[int, ...]) -> FrameCalibration:
        """The calibration of frames of `axes` and `shape`. Raises FrameError for a diffraction
        pattern."""
        for size, unit in self.sizes:
            if is_reciprocal(unit):
                raise FrameError(
                    f"{path}: holds a diffraction pattern (pixels of {size:.4g} {unit}), and gdn "
                    "denoises images of real space (or the unit is wrong)"
                )
        sampling, trouble = pixel_size(self.sizes)
        return FrameCalibration(
            sampling_angstrom=sampling,
            style=self.style,
            axes=axes,
            shape=shape,
            trouble=trouble,
            unit=self.sizes[-1][1] if sampling else "",
            steps={axis: step for axis, step in self.steps.items() if axis in axes},
        )


def stated(tif: tifffile.TiffFile, series: int, path: Path) -> Stated:
    """What the metadata of ImageJ, OME or gdn state. Plain resolution tags are ignored: they mean
    print size. Raises FrameError where ImageJ's values follow a curve."""
    if tif.is_ome and tif.ome_metadata:
        return _ome(tif.ome_metadata, series)
    if tif.is_imagej:
        return _imagej(tif, tif.series[series].dtype, path)
    metadata = Stated()
    for shaped in tif.shaped_metadata or ():
        metadata = replace(metadata, values=values_in(str(shaped.get("provenance", ""))))
        steps = shaped.get("axis_steps")
        if isinstance(steps, dict):
            kept = {str(axis): (float(step), str(unit)) for axis, (step, unit) in steps.items()}
            metadata = replace(metadata, steps=kept)
        value = shaped.get("sampling_angstrom")
        if isinstance(value, int | float) and value > 0:
            return replace(metadata, sizes=[(float(value), "Å")])
    return metadata


def _imagej(tif: tifffile.TiffFile, dtype: Any, path: Path) -> Stated:
    tags: Any = tif.pages.first.tags if len(tif.pages) else {}
    metadata = tif.imagej_metadata or {}
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ").replace("\\u00C5", "Å")
    ratios = [_ratio(tags[name].value) for name in ("XResolution", "YResolution") if name in tags]
    known = unit_kind(unit) != "none"
    sizes = [(1 / ratio, unit) for ratio in ratios if ratio > 0] if known else []
    steps: dict[str, tuple[float, str]] = {}
    if known and _positive(metadata.get("spacing")):
        steps["Z"] = (float(metadata["spacing"]), unit)
    if _positive(metadata.get("finterval")):
        steps["T"] = (float(metadata["finterval"]), str(metadata.get("tunit", "s")))
    values, notes = _imagej_values(metadata, dtype, path)
    return Stated(style="imagej", sizes=sizes, steps=steps, values=values, notes=notes)


def _imagej_values(metadata: Any, dtype: Any, path: Path) -> tuple[Values, list[str]]:
    """ImageJ's calibration of values, a straight line c0 + c1 * gray. 32-bit images have none."""
    function = metadata.get("cf")
    if np.dtype(dtype).kind != "u" or np.dtype(dtype).itemsize > 2:
        return Values(), []
    if not isinstance(function, int) or function >= _NO_FUNCTION:
        return Values(), []
    if function != _STRAIGHT_LINE:
        raise FrameError(
            f"{path}: calibrated by a curve (ImageJ function {function}), "
            "which changes the noise; remove it (Analyze, Calibrate, None)"
        )
    values = Values(float(metadata.get("c1", 1.0)), float(metadata.get("c0", 0.0)))
    if values.plain:
        return values, []
    return values, [
        f"ImageJ's calibration is applied: value = {values.offset:g} + {values.scale:g} x gray"
    ]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and np.isfinite(value) and value > 0


def _ratio(value: Any) -> float:
    return float(value[0]) / float(value[1]) if value[1] else 0.0


def _ome(xml: str, series: int) -> Stated:
    """PhysicalSizeX, Y and Z of the image, whose default unit is µm, and TimeIncrement (s)."""
    images = (tifffile.xml2dict(xml).get("OME", {}) or {}).get("Image", {})
    images = images if isinstance(images, list) else [images]
    image = images[min(series, len(images) - 1)]
    pixels = image.get("Pixels", {})
    sizes = {
        axis: (float(pixels[name]), str(pixels.get(f"{name}Unit", default)))
        for axis, name, default in (
            ("X", "PhysicalSizeX", "µm"),
            ("Y", "PhysicalSizeY", "µm"),
            ("Z", "PhysicalSizeZ", "µm"),
            ("T", "TimeIncrement", "s"),
        )
        if _positive(pixels.get(name))
    }
    return Stated(
        style="ome",
        sizes=[sizes[axis] for axis in "XY" if axis in sizes],
        steps={axis: sizes[axis] for axis in "ZT" if axis in sizes},
        values=values_in(str(image.get("Description", ""))),
    )

"""Results as OME-Zarr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.source import FrameCalibration
from gdn.frames.units import angstrom_per, seconds_per, unit_kind
from gdn.frames.values import Values

_TYPES = {"T": "time", "C": "channel"}
# Names that NGFF takes from UDUNITS-2.
_LENGTHS = {
    1.0: "angstrom",
    10.0: "nanometer",
    1e4: "micrometer",
    0.01: "picometer",
    1e7: "millimeter",
    1e8: "centimeter",
    1e10: "meter",
}
_TIMES = {
    1.0: "second",
    1e-3: "millisecond",
    1e-6: "microsecond",
    1e-9: "nanosecond",
    60.0: "minute",
    3600.0: "hour",
}


@contextmanager
def zarr_result(
    path: Path, calibration: FrameCalibration, dtype: str, provenance: str, values: Values
) -> Iterator[Any]:
    """OME-Zarr (NGFF 0.5), one level, one frame per chunk, with the scale and unit of every
    axis."""
    import zarr

    axes, scale = _axes(calibration)
    group = zarr.create_group(store=path, overwrite=True)
    transforms = [{"type": "scale", "scale": scale}]
    level = {"path": "0", "coordinateTransformations": transforms}
    attributes: Any = {
        "version": "0.5",
        "multiscales": [{"name": "gdn", "axes": axes, "datasets": [level]}],
    }
    group.attrs["ome"] = attributes
    line = "" if values.plain else f"; {values.line}"
    group.attrs["provenance"] = f"{provenance}{line}"
    leading, frame = calibration.shape[:-2], calibration.shape[-2:]
    array = group.create_array(
        "0", shape=calibration.shape, dtype=dtype, chunks=(1,) * len(leading) + frame
    )
    yield _ByFrame(array, leading)


def _axes(calibration: FrameCalibration) -> tuple[list[dict[str, str]], list[float]]:
    """NGFF's axes, and their scale, each in the unit of the input."""
    axes: list[dict[str, str]] = []
    scale: list[float] = []
    for letter in calibration.axes:
        step, unit = calibration.steps.get(letter, (0.0, ""))
        if letter in "YX" and calibration.sampling_angstrom:
            size = angstrom_per(calibration.unit)
            size = size if size in _LENGTHS else 1.0
            step, unit = calibration.sampling_angstrom / size, _LENGTHS[size]
        axis = {"name": letter.lower(), "type": _TYPES.get(letter, "space")}
        name = _LENGTHS.get(angstrom_per(unit) or 0.0) or _TIMES.get(seconds_per(unit) or 0.0)
        if unit_kind(unit) != "none" and step > 0:
            axis["unit"] = name or unit
        axes.append(axis)
        scale.append(step if step > 0 else 1.0)
    return axes, scale


class _ByFrame:
    """An array whose frames are set by a single number."""

    def __init__(self, array: Any, leading: tuple[int, ...]) -> None:
        self.array, self.leading, self.dtype = array, leading, np.dtype(array.dtype)

    def __setitem__(self, index: int, frame: Any) -> None:
        at = tuple(int(i) for i in np.unravel_index(index, self.leading)) if self.leading else ()
        self.array[at if at else ...] = frame

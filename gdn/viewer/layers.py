"""Images, spread and columns as layers of napari, without an import of napari."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.errors import InputError
from gdn.frames.units import angstrom_per
from gdn.pipeline.column_picture import COLOURS, span
from gdn.pipeline.result import Result

LayerData = tuple[Any, dict[str, Any], str]
COLUMN_ANGSTROM = 1.1  # diameter of the ring around a column
SHOWN = ("verdict", "evidence_nats", "probability", "position_error_angstrom")  # in the status bar


def image_layer(
    image: NDArray[Any], name: str, sampling_angstrom: float | None, how: Mapping[str, Any]
) -> LayerData:
    """An image (rows, columns), or a stack (n, rows, columns), with its scale in nm; in pixels
    where the size is not known. `how` is kept in the layer's metadata."""
    whole = np.asarray(image)
    return (
        whole,
        {
            "name": name,
            "contrast_limits": span(whole[np.isfinite(whole)]),
            "metadata": {"gdn": dict(how) | {"sampling_angstrom": sampling_angstrom}},
            **_scale(whole.ndim, sampling_angstrom),
        },
        "image",
    )


def sampling_of(layer: Any) -> float | None:
    """Å per pixel of a layer: as gdn's reader left it, else by the layer's own scale and units;
    None if they are not lengths, or the pixels are not square."""
    known = layer.metadata.get("gdn", {}).get("sampling_angstrom")
    if known is not None:
        return float(known)
    sizes = []
    for size, unit in zip(layer.scale[-2:], layer.units[-2:], strict=True):
        length = angstrom_per(str(unit))
        if length is None:
            return None
        sizes.append(float(size) * length)
    height, width = sizes
    return height if math.isclose(height, width, rel_tol=0.01) else None


def frames_of(layer: Any) -> NDArray[Any]:
    """The frames of an image layer, (rows, columns) or (n, rows, columns). Raises InputError."""
    if getattr(layer, "rgb", False):
        raise InputError(f"{layer.name}: a colour picture; choose a layer of gray values")
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    if data.ndim not in (2, 3):
        raise InputError(f"{layer.name}: {data.ndim} axes; wanted an image, or a stack of images")
    return np.asarray(data)


def result_layers(result: Result, name: str) -> list[LayerData]:
    """The layers of a result: the denoised image, its spread (hidden), and its columns."""
    sampling = result.sampling_angstrom
    how = {"made_by": result.signature, "warnings": result.warnings, "record": result.record}
    layers = [image_layer(result.image, f"{name} denoised", sampling, how)]
    if result.spread is not None:
        data, options, kind = image_layer(result.spread, f"{name} spread", sampling, how)
        top = max(float(np.nanpercentile(result.spread, 99.5)), 1e-30)
        options |= {"colormap": "viridis", "visible": False, "contrast_limits": (0.0, top)}
        layers.append((data, options, kind))
    columns = _column_layer(result, name)
    return layers if columns is None else [*layers, columns]


def _column_layer(result: Result, name: str) -> LayerData | None:
    """The columns as points, a ring each in the colour of its verdict."""
    lines: list[dict[str, Any]] = []
    places = []
    for frame, values in enumerate(result.values):
        for line in [] if values.atoms is None else values.atoms.table():
            place = (line["y_px"], line["x_px"])
            places.append((frame, *place) if result.stacked else place)
            lines.append(line)
    if not lines:
        return None
    verdicts = [_verdict(line) for line in lines]
    colours = np.array([(*COLOURS[verdict], 255) for verdict in verdicts]) / 255
    shown = {key: [line[key] for line in lines] for key in SHOWN} | {"verdict": verdicts}
    sampling = result.sampling_angstrom
    options = {
        "name": f"{name} columns",
        "features": shown,
        "face_color": "transparent",
        "border_color": colours,
        "border_width": 0.15,
        "size": COLUMN_ANGSTROM / sampling,
        "symbol": ["disc" if line["in_image"] else "square" for line in lines],
        **_scale(len(places[0]), sampling),
    }
    return np.array(places), options, "points"


def _verdict(line: Mapping[str, Any]) -> str:
    """The verdict of a column; of one that the image does not have, that it is missing."""
    missing = line["verdict"] == "present" and not line["in_image"]
    return "missing" if missing else str(line["verdict"])


def _scale(dimensions: int, sampling_angstrom: float | None) -> dict[str, Any]:
    if sampling_angstrom is None:
        return {}
    frames = dimensions - 2
    return {
        "scale": (1.0,) * frames + (sampling_angstrom / 10,) * 2,
        "units": ("pixel",) * frames + ("nm", "nm"),
    }

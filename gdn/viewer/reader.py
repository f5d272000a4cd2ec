"""Frames of a file as a layer of napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gdn.frames.formats import is_data_folder, suffix_of
from gdn.pipeline.shortcuts import read
from gdn.viewer.layers import LayerData, image_layer


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """What reads these paths; None where gdn does not know the format of all of them."""
    paths = [Path(name) for name in ([path] if isinstance(path, str) else path)]
    known = all(suffix_of(name) and (name.is_file() or is_data_folder(name)) for name in paths)
    return read_layers if paths and known else None


def read_layers(path: str | list[str]) -> list[LayerData]:
    """A layer for each file. Raises InputError for one that cannot be denoised."""
    paths = [Path(name) for name in ([path] if isinstance(path, str) else path)]
    return [_layer(name) for name in paths]


def _layer(path: Path) -> LayerData:
    frames = read(path)
    how = {"file": str(path), "warnings": frames.warnings}
    return image_layer(frames.image, path.name, frames.sampling_angstrom, how)

"""Files of microscopes' own programs, by RosettaSciIO (GPL, optional): DM3/DM4, EMD, SER/EMI,
HyperSpy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.arrays import chosen, image_like, leading_axes
from gdn.frames.source import FrameFile, of_array

Signals = list[dict[str, Any]]


def reader(module: str) -> Callable[[Path, str | None], FrameFile]:
    """The reader by a module of RosettaSciIO, imported when a file needs it."""

    def read(path: Path, dataset: str | None = None) -> FrameFile:
        library = importlib.import_module(f"rsciio.{module}")
        return _one(path, library.file_reader(str(path), lazy=True), module, dataset)

    return read


class _Computed:
    """A Dask array whose parts are computed when they are asked for."""

    def __init__(self, data: Any) -> None:
        self.data, self.shape, self.dtype = data, tuple(data.shape), np.dtype(data.dtype)

    def __getitem__(self, index: Any) -> Any:
        part = self.data[index]
        return part.compute() if hasattr(part, "compute") else np.asarray(part)


@dataclass(frozen=True)
class _Signal:
    """An image of a file: its lazy `data`, and its axes as RosettaSciIO describes them."""

    data: _Computed
    axes: list[dict[str, Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


def _one(path: Path, signals: Signals, name: str, dataset: str | None) -> FrameFile:
    """The one image among the signals of a file, or the one called `dataset`."""
    found: dict[str, _Signal] = {}
    for number, signal in enumerate(signals):
        one = _Signal(_Computed(signal["data"]), signal["axes"])
        if image_like(one.data):
            title = str((signal.get("metadata") or {}).get("General", {}).get("title") or number)
            found[title if title not in found else f"{title} {number}"] = one
    image: _Signal = chosen(path, found, dataset)
    # In the order of the array where that is said, else as listed.
    axes = sorted(image.axes, key=lambda a: int(a.get("index_in_array", 0)))[-2:]
    sizes = [(abs(float(a.get("scale", 0))), str(a.get("units") or "")) for a in axes]
    sizes = [(size, unit) for size, unit in sizes if unit and unit != "<undefined>"]
    return of_array(path, image.data, leading_axes(len(image.shape)), sizes, name)

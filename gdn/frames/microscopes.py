"""Files of the microscopes' own programs, read by RosettaSciIO (GPL, optional): DM3/DM4, EMD,
SER/EMI, HyperSpy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.arrays import of_axes
from gdn.frames.axes import Axis
from gdn.frames.choosing import Arrays
from gdn.frames.hdf5_links import check_links
from gdn.frames.source import FrameFile

Signals = list[dict[str, Any]]
Context = Callable[[], AbstractContextManager[None]]


def read_signal(module: str, path: Path, dataset: str | None = None) -> FrameFile:
    """Open the only image of a file, or `dataset`, by a module of RosettaSciIO."""
    if path.is_file() and module in ("hspy", "emd"):
        check_links(path)
    library = importlib.import_module(f"rsciio.{module}")
    if not path.is_dir():
        signals = library.file_reader(str(path), lazy=True)
        return _choose_signal(path, signals, module, dataset, nullcontext)
    from gdn.frames.zarr_arrays import check_zarr
    from gdn.frames.zarr_chunks import bounded_chunks

    check_zarr(path)
    with bounded_chunks():
        signals = library.file_reader(str(path), lazy=True)
    return _choose_signal(path, signals, module, dataset, bounded_chunks)


class _Computed:
    """A Dask array whose parts are computed when they are asked for, `within` a context."""

    def __init__(self, data: Any, within: Context) -> None:
        self.data, self.shape, self.dtype = data, tuple(data.shape), np.dtype(data.dtype)
        self.within = within

    def __getitem__(self, index: Any) -> Any:
        part = self.data[index]
        with self.within():
            return part.compute() if hasattr(part, "compute") else np.asarray(part)


@dataclass(frozen=True)
class _Signal:
    """A signal of a file: its lazy `data`, and the axes of that array."""

    data: _Computed
    axes: list[Axis]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype


def _choose_signal(
    path: Path, signals: Signals, name: str, dataset: str | None, within: Context
) -> FrameFile:
    """The only image among the signals of a file, or the one called `dataset`."""
    arrays = Arrays(path=path, titles=True)
    seen: set[str] = set()
    for number, signal in enumerate(signals):
        data = _Computed(signal["data"], within)
        image_signal = _Signal(data, _axes(signal["axes"], data.shape))
        metadata = signal.get("metadata") or {}
        title = str(metadata.get("General", {}).get("title") or number)
        kind = str(metadata.get("Signal", {}).get("signal_type") or "")
        title = title if title not in seen else f"{title} {number}"
        seen.add(title)
        arrays.add(title, image_signal, image_signal.axes, kind)
    image: _Signal = arrays.chosen(dataset)
    return of_axes(path, image.data, image.axes, name, None)


def _axes(described: list[dict[str, Any]], shape: tuple[int, ...]) -> list[Axis]:
    """Axes as RosettaSciIO describes them, in the order of the array if it is stated, else in the
    order of the list."""
    ordered = sorted(described, key=lambda axis: int(axis.get("index_in_array") or 0))
    navigated = {bool(axis.get("navigate")) for axis in ordered}
    axes = [
        Axis(
            size=int(size),
            name=_said(axis.get("name")),
            scale=abs(_step(axis)),
            unit=_said(axis.get("units")),
            # Where all axes are of one sort nothing is said of them.
            signal=not axis.get("navigate") if len(navigated) > 1 else None,
        )
        for axis, size in zip(ordered, shape, strict=False)
    ]
    return axes if len(axes) == len(shape) else [Axis(size=int(size)) for size in shape]


def _step(axis: dict[str, Any]) -> float:
    """The distance from one pixel to the next, also for an axis that lists its values."""
    if axis.get("scale") is not None:
        return float(axis["scale"])
    values = axis.get("axis")
    if values is None or len(values) < 2:
        return 0.0
    return (float(values[-1]) - float(values[0])) / (len(values) - 1)


def _said(text: Any) -> str:
    return "" if text is None or str(text) in ("<undefined>", "t.Undefined") else str(text)

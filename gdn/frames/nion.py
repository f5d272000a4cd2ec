"""Nion Swift's own files: .ndata, a ZIP archive of one array and its properties."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from gdn.frames.arrays import of_axes
from gdn.frames.axes import plain_axes
from gdn.frames.bounds import check_archive
from gdn.frames.choosing import Arrays
from gdn.frames.hdf5_axes import nion_axes
from gdn.frames.source import FrameError, FrameFile


def read_ndata(path: Path, dataset: str | None = None) -> FrameFile:
    """Open the array of an .ndata file, or `dataset` if there are several, with the calibration of
    its axes."""
    arrays = Arrays(path=path)
    axes = {}
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive)
        names = archive.namelist()
        properties = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        for name in names:
            if not name.endswith(".npy"):
                continue
            with archive.open(name) as stream:
                data = np.load(io.BytesIO(stream.read()), allow_pickle=False)
            short = name.removesuffix(".npy")
            axes[short] = nion_axes(data.shape, properties) or plain_axes(data.shape)
            arrays.add(short, _Named(short, data), axes[short])
    if not axes:
        raise FrameError(f"{path}: holds no array")
    image: _Named = arrays.chosen(dataset)
    return of_axes(path, image.data, axes[image.name], "ndata", None)


class _Named:
    """An array that knows its name in the archive."""

    def __init__(self, name: str, data: np.ndarray) -> None:
        self.name, self.data, self.shape, self.dtype = name, data, data.shape, data.dtype

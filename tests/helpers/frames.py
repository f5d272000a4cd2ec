"""Frames, in memory and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError


def noisy_frame(
    shape: tuple[int, int] = (220, 240), seed: int = 0, dose: float = 0.45
) -> np.ndarray:
    """Poisson counts of a lattice, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    clean = 1 + 0.2 * np.cos(2 * np.pi * x / 33) * np.cos(2 * np.pi * y / 40)
    return rng.poisson(dose * clean).astype(np.uint8)


def write_mrc(path: Path, data: np.ndarray, sampling: float) -> None:
    import mrcfile

    with mrcfile.new(path, data.astype(np.float32)) as file:
        file.voxel_size = sampling


def write_hspy(path: Path, data: np.ndarray, unit: str = "nm", scale: float = 0.0061) -> None:
    from rsciio.hspy import file_writer

    names = ("t", "y", "x")[-data.ndim :]
    axes = [
        {
            "name": n,
            "size": s,
            "scale": scale if n in "xy" else 1.0,
            "offset": 0.0,
            "units": unit if n in "xy" else "s",
            "navigate": n == "t",
            "index_in_array": i,
            "_type": "UniformDataAxis",
            "is_binned": False,
        }
        for i, (n, s) in enumerate(zip(names, data.shape, strict=True))
    ]
    about = {
        "package_info": {"package": "test", "package_version": "0"},
        "attributes": {"_lazy": False, "ragged": False},
    }
    parts: dict[str, Any] = {
        name: {} for name in ("original_metadata", "learning_results", "models", "tmp_parameters")
    }
    signal = (
        {"data": data, "axes": axes, "metadata": {"General": {"title": "movie"}}} | about | parts
    )
    file_writer(str(path), signal)


def refused(path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(FrameError) as caught:
        read_frames(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)

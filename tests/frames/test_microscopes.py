"""DigitalMicrograph and Velox files, built from the formats' descriptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from tests.helpers.frames import noisy_frame
from tests.helpers.microscope_files import write_dm, write_velox
from tests.helpers.needs import needs_formats

STACK = np.stack([noisy_frame((40, 50), seed) for seed in range(3)])


@needs_formats
@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4"])
def test_digital_micrograph(tmp_path: Path, version: int, dtype: str) -> None:

    path = tmp_path / f"movie.dm{version}"
    write_dm(path, STACK.astype(dtype), version, 0.0061)
    source = read_frames(path)
    assert (source.count, source.frame_shape, source.dtype) == (3, (40, 50), np.dtype(dtype))
    assert source.sampling(None) == pytest.approx(0.061)
    for index in range(3):
        np.testing.assert_array_equal(source.read(index), STACK[index])
    single = tmp_path / f"one.dm{version}"
    write_dm(single, STACK[0].astype(dtype), version, 61e-6, "µm")
    assert (read_frames(single).count, read_frames(single).sampling(None)) == (
        1,
        pytest.approx(0.61, rel=1e-4),
    )
    content = single.read_bytes()
    (tmp_path / "cut.dm4").write_bytes(content[: len(content) // 2])
    with pytest.raises(FrameError, match=r"cut\.dm4: "):
        read_frames(tmp_path / "cut.dm4").read(0)


@needs_formats
@pytest.mark.parametrize("unit", ["nm", "1/nm", "mrad", ""])
def test_digital_micrograph_units(tmp_path: Path, unit: str) -> None:

    write_dm(tmp_path / "a.dm4", STACK[0], 4, 0.01, unit)
    if unit in ("1/nm", "mrad"):
        with pytest.raises(FrameError, match="a diffraction pattern"):
            read_frames(tmp_path / "a.dm4")
        return
    source = read_frames(tmp_path / "a.dm4")
    if unit == "nm":
        assert source.sampling(None) == pytest.approx(0.1)
        return
    with pytest.raises(FrameError, match="carries no pixel size"):
        source.sampling(None)
    assert source.sampling(0.3) == 0.3


@needs_formats
@pytest.mark.parametrize("frames", [1, 3])
def test_velox(tmp_path: Path, frames: int) -> None:

    write_velox(tmp_path / "a.emd", STACK[:frames].astype(np.uint16), 6.1e-12)
    source = read_frames(tmp_path / "a.emd")
    assert (source.count, source.frame_shape) == (frames, (40, 50))
    assert source.sampling(None) == pytest.approx(0.061)
    np.testing.assert_array_equal(source.read(frames - 1), STACK[frames - 1])

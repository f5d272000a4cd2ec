"""A file that promises more frames than it holds is never taken for whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.frames.source import FrameError, FrameFile
from gdn.pipeline.denoise_file import FileSettings
from tests.helpers.frames import write_mrc

STACK = (np.arange(10 * 48 * 64) * 7919 % 997).astype(np.uint16).reshape(10, 48, 64)


def imagej(path: Path) -> None:
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TYX"})


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for frame in STACK:
            writer.write(frame, compression="lzw", contiguous=False, metadata=None)


def shaped(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack")


def ome(path: Path) -> None:
    tifffile.imwrite(path, STACK, metadata={"axes": "TYX"}, ome=True)


def big_endian(path: Path) -> None:
    tifffile.imwrite(path, STACK, imagej=True, byteorder=">", metadata={"axes": "TYX"})


def npy(path: Path) -> None:
    np.save(path, STACK)


def mrc(path: Path) -> None:
    write_mrc(path, STACK, 0.1)


def half(path: Path) -> FrameFile:
    content = path.read_bytes()
    path.write_bytes(content[: int(0.55 * len(content))])
    return FileSettings(partial=True).read(path)


@pytest.mark.parametrize("write", [imagej, pages, shaped, big_endian, npy, mrc])
def test_half_a_movie_fails_or_is_said(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / f"m.{write.__name__ if write in (npy, mrc) else 'tif'}"
    write(path)
    whole = FileSettings().read(path)
    assert (whole.count, whole.cut_off) == (10, "")
    there = half(path)
    assert 4 <= there.count <= 6
    for index in range(there.count):
        np.testing.assert_array_equal(there.read(index), STACK[index])
    assert "the file is cut off" in there.notes[0]
    assert f"{there.count}" in there.notes[0]
    with pytest.raises(FrameError, match="cut off: copy it again") as caught:
        FileSettings().read(path)
    assert caught.value.parameter == "partial"


def test_half_an_ome_tiff_fails(tmp_path: Path) -> None:
    ome(tmp_path / "m.ome.tif")
    content = (tmp_path / "m.ome.tif").read_bytes()
    (tmp_path / "m.ome.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(FrameError, match=r"cut off|not a readable TIFF"):
        FileSettings().read(tmp_path / "m.ome.tif")


def test_pages_that_are_whole_pass(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    tifffile.imwrite(tmp_path / "tiled.tif", STACK, tile=(32, 32), compression="zlib")
    for name in ("one.tif", "tiled.tif"):
        assert FileSettings().read(tmp_path / name).cut_off == ""

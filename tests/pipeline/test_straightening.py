"""Frames with straight rows reach every later stage, from files and from arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn import InputError
from gdn.pipeline.denoise_file import FileSettings
from gdn.pipeline.inputs import check_input
from gdn.pipeline.options import Options
from gdn.pipeline.straightening import Straightener
from tests.helpers.scans import crystal, displaced, swaying

PIXEL = 0.15  # Å


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    """A frame of a scan, one of a camera, and a blank one."""
    rng = np.random.default_rng(5)
    clean = crystal(240, 260)
    scanned = rng.poisson(displaced(clean, swaying(clean, 1.2, rng)))
    return np.stack([scanned, rng.poisson(clean), np.full_like(scanned, 4)]).astype(np.uint16)


def test_a_file_is_read_with_straight_rows(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    plain = FileSettings(sampling_angstrom=PIXEL).read(path)
    frames = FileSettings(sampling_angstrom=PIXEL, straightener=Straightener()).read(path)
    assert plain.scan_of(0) is None
    scan = frames.scan_of(0)  # asked for before the frame is read
    assert scan is not None
    assert "displaced by" in scan.words
    assert "gdn straightened them" in scan.words
    assert np.abs(frames.read(0) - plain.read(0)).max() > 1
    assert (frames.read(1) == plain.read(1)).all()
    assert frames.scan_of(1) is None
    assert frames.mean(2) == 4
    with pytest.raises(InputError, match="constant"):
        frames.read(2)


def test_a_sum_is_of_straight_rows(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    apart = FileSettings(sampling_angstrom=PIXEL, straightener=Straightener()).read(path)
    summed = FileSettings(sampling_angstrom=PIXEL, straightener=Straightener(), summed=True).read(
        path
    )
    assert np.allclose(summed.read(0), apart.read(0) + stack[1] + stack[2], rtol=1e-5)
    assert summed.scan_of(0) == apart.scan_of(0)


def test_an_array_is_straightened_and_not_changed(stack: np.ndarray) -> None:
    given = check_input(stack, PIXEL)
    kept = given.frames.copy()
    straight = Straightener().of_input(given)
    assert (given.frames == kept).all()
    assert list(straight.scans) == [0]
    assert np.abs(straight.frames[0] - kept[0]).max() > 1
    assert (straight.frames[1:] == kept[1:]).all()


def test_without_a_scan_nothing_is_copied(stack: np.ndarray) -> None:
    given = check_input(stack[1], PIXEL)
    assert Straightener().of_input(given).frames is given.frames


def test_it_can_be_left_out() -> None:
    assert Options(straighten="off").straightener is None
    assert Options().straightener is not None
    with pytest.raises(InputError, match="straighten sometimes: auto or off"):
        Options(straighten="sometimes")

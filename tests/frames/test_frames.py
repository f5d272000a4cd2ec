"""Frames in and out, the two grids, tiling."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn.frames.formats import read_frames
from gdn.frames.resampling import Grids, bin_sum, grids_for, rebin, unbin
from gdn.frames.sink import release
from gdn.frames.source import FrameCalibration, FrameError
from gdn.frames.tiff import quiet_tifffile
from gdn.frames.writing import result_writer, write_tiff
from gdn.search.tiles import cut, merge, tile_frame
from gdn.storage import HOST
from tests.helpers.frames import noisy_frame


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_reads_every_pixel_type(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noisy_frame().astype(dtype))
    source = read_frames(path)
    assert (source.count, source.frame_shape) == (1, (220, 240))
    np.testing.assert_array_equal(source.read(0), noisy_frame().astype(np.float32))


@pytest.mark.parametrize(
    ("unit", "per_px", "angstrom"),
    [
        ("nm", 0.0061, 0.061),
        ("micron", 6.1e-6, 0.061),
        ("pm", 6.1, 0.061),
        ("angstrom", 0.061, 0.061),
    ],
)
def test_imagej_calibration(tmp_path: Path, unit: str, per_px: float, angstrom: float) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        noisy_frame(),
        imagej=True,
        resolution=(1 / per_px, 1 / per_px),
        metadata={"unit": unit, "axes": "YX"},
    )
    found = read_frames(path).calibration
    assert found.style == "imagej"
    assert found.sampling_angstrom == pytest.approx(angstrom, rel=1e-4)


def test_ome_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    stack = np.stack([noisy_frame(seed=i) for i in range(3)])
    meta = {
        "axes": "TYX",
        "PhysicalSizeX": 0.0061,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.0061,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=meta)
    source = read_frames(path)
    assert (source.count, source.calibration.style, source.calibration.axes) == (3, "ome", "TYX")
    assert source.calibration.sampling_angstrom == pytest.approx(0.061)
    np.testing.assert_array_equal(source.read(2), stack[2])


def test_print_resolution_is_not_a_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noisy_frame(), resolution=(72, 72), resolutionunit="INCH", metadata=None)
    assert read_frames(path).calibration.sampling_angstrom is None


def test_tifffile_s_logger_stays_the_caller_s(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tifffile")
    level, filters = logger.level, list(logger.filters)
    with quiet_tifffile():
        logger.error("of a file that gdn reads")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(logger.error, "of a file that another thread reads").result()
    assert caplog.messages == ["of a file that another thread reads"]
    assert (logger.level, logger.filters) == (level, filters)


def test_oblong_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        noisy_frame(),
        imagej=True,
        resolution=(100, 200),
        metadata={"unit": "nm", "axes": "YX"},
    )
    source = read_frames(path)
    with pytest.raises(FrameError, match=r"not square.*in Å per pixel"):
        source.sampling(None)
    assert source.sampling(0.06) == 0.06


@settings(max_examples=30, deadline=None)
@given(
    style=st.sampled_from(["imagej", "ome", "plain"]),
    lead=st.sampled_from(["", "T", "Z", "TZ"]),
    n=st.integers(2, 3),
    rows=st.integers(16, 40),
    columns=st.integers(16, 40),
    sampling=st.floats(0.01, 2),
)
def test_result_has_axes_shape_and_calibration_of_its_input(
    tmp_path_factory: pytest.TempPathFactory,
    style: str,
    lead: str,
    n: int,
    rows: int,
    columns: int,
    sampling: float,
) -> None:
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(0)
    data = rng.poisson(5, (n,) * len(lead) + (rows, columns)).astype(np.uint16)
    path = folder / ("a.ome.tif" if style == "ome" else "a.tif")
    axes = lead + "YX"
    if style == "imagej":
        tifffile.imwrite(
            path,
            data,
            imagej=True,
            resolution=(10 / sampling,) * 2,
            metadata={"axes": axes, "unit": "nm"},
        )
    elif style == "ome":
        meta = (
            {"axes": axes}
            | {f"PhysicalSize{a}": sampling for a in "XY"}
            | {f"PhysicalSize{a}Unit": "Å" for a in "XY"}
        )
        tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata=meta)
    else:
        tifffile.imwrite(
            path,
            data,
            photometric="minisblack",
            metadata={"axes": axes, "sampling_angstrom": sampling},
        )
    source = read_frames(path)
    out = folder / "out.tif"
    with result_writer(out, source, source.calibration.sampling_angstrom or 1) as mapped:
        for i in range(source.count):
            mapped[i] = source.read(i) / np.float32(2)
    back = read_frames(out)
    assert (back.count, back.frame_shape, back.calibration.style) == (
        source.count,
        source.frame_shape,
        style,
    )
    assert back.calibration.axes == source.calibration.axes
    assert back.calibration.sampling_angstrom == pytest.approx(sampling, rel=1e-3)
    for i in range(back.count):
        np.testing.assert_array_equal(back.read(i), source.read(i) / 2)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, frame_file: Path) -> None:
    source = read_frames(frame_file)
    with pytest.raises(RuntimeError), result_writer(tmp_path / "out.tif", source, 0.06):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == [frame_file.name]


def test_equal_channels_count_as_gray_and_colour_does_not(tmp_path: Path) -> None:
    gray = np.repeat(noisy_frame()[..., None], 3, -1)
    tifffile.imwrite(tmp_path / "g.tif", gray, photometric="rgb")
    np.testing.assert_array_equal(read_frames(tmp_path / "g.tif").read(0), noisy_frame())
    gray[3, 4, 1] += 1
    tifffile.imwrite(tmp_path / "c.tif", gray, photometric="rgb")
    with pytest.raises(FrameError, match="colour"):
        read_frames(tmp_path / "c.tif").read(0)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(20, 90), columns=st.integers(20, 90), factor=st.floats(1.0, 8.0))
def test_binning_keeps_every_count(rows: int, columns: int, factor: float) -> None:
    frame = (
        np.random.default_rng(rows * 100 + columns).poisson(3, (rows, columns)).astype(np.float32)
    )
    grids = grids_for((rows, columns), 0.1, 0.1 * factor)
    binned = bin_sum(frame, grids)
    assert binned.shape == grids.binned_shape
    assert binned.sum() == pytest.approx(frame.sum(), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(m0=st.integers(5, 20), m1=st.integers(5, 20), f0=st.integers(1, 7), f1=st.integers(1, 7))
def test_unbin_inverts_binning_by_whole_pixels(m0: int, m1: int, f0: int, f1: int) -> None:
    grids = Grids((m0 * f0, m1 * f1), (m0, m1), 0.1)
    b = np.random.default_rng(m0 * m1).normal(1, 0.2, (m0, m1)).astype(np.float32)
    np.testing.assert_allclose(bin_sum(unbin(b, grids), grids) / grids.area, b, atol=1e-4)


@pytest.mark.parametrize(("factor", "allowed"), [(2.3, 3e-3), (4.0, 1e-5), (6.54, 1e-3)])
def test_a_band_limited_frame_survives_binning(factor: float, allowed: float) -> None:
    n, m = round(64 * factor), 64
    u = (np.arange(n) + 0.5) / n
    frame = (1 + 0.2 * np.cos(np.pi * 9 * u)[:, None] * np.cos(np.pi * 14 * u)[None, :]).astype(
        np.float32
    )
    grids = Grids((n, n), (m, m), 0.1)
    back = unbin(bin_sum(frame, grids) / np.float32(grids.area), grids)
    assert np.abs(back - frame).max() < allowed  # of a modulation of 0.2; exact for whole factors


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(8, 100),
    columns=st.integers(8, 100),
    patch=st.sampled_from([16, 32]),
    stride=st.integers(4, 16),
)
def test_merging_cut_tiles_returns_the_frame(
    rows: int, columns: int, patch: int, stride: int
) -> None:
    frame = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    tiling = tile_frame((rows, columns), patch, stride)
    tiles, weights = cut(frame, tiling)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    np.testing.assert_allclose(merge(tiles, tiling), frame, atol=1e-5)


def test_write_tiff_carries_calibration(tmp_path: Path) -> None:
    write_tiff(
        tmp_path / "a.tif",
        noisy_frame().astype(np.float32),
        FrameCalibration(sampling_angstrom=0.0612),
        {"note": 1},
    )
    assert read_frames(tmp_path / "a.tif").calibration.sampling_angstrom == pytest.approx(0.0612)


def test_released_pages_are_kept_in_the_file(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(
        tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=(3, 500, 500)
    )
    view = mapped.reshape(3, -1)
    for index in range(3):
        view[index] = index
        release(view)
    np.testing.assert_array_equal(view[:, 7], [0, 1, 2])
    release(np.zeros(3))  # nothing mapped: nothing to do


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".out.{HOST}-{gone.pid}.part.tif"
    other = tmp_path / f".out.elsewhere-{gone.pid}.part.tif"
    living = tmp_path / f".out.{HOST}-{os.getppid()}-1f.part.tif"
    folder = tmp_path / f".out.{HOST}-{gone.pid}-0a1b.part"
    folder.mkdir(mode=0o700)
    for path in (left, other, living, folder / folder.name):
        path.write_bytes(b"half")
    write_tiff(tmp_path / "out.tif", noisy_frame().astype(np.float32), FrameCalibration())
    assert not left.exists()
    assert not folder.exists()
    assert other.exists()  # another machine's: it may be at work
    assert living.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux")
@pytest.mark.parametrize("kind", ["tif", "mrc"])
def test_results_are_not_mapped_when_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # Windows renames no file that is open or mapped.
    from gdn.frames.formats import read_frames

    path = tmp_path / "in.tif"
    tifffile.imwrite(
        path,
        np.random.default_rng(0).poisson(3, (2, 40, 50)).astype(np.uint8),
        photometric="minisblack",
    )
    plain = Path.replace

    def checked(temporary: Path, final: Path) -> Path:
        assert temporary.name not in Path("/proc/self/maps").read_text()
        assert not any(temporary.name in opened.path for opened in psutil.Process().open_files())
        return plain(temporary, final)

    monkeypatch.setattr(Path, "replace", checked)
    with result_writer(tmp_path / f"out.{kind}", read_frames(path), 0.1, kind=kind) as sink:
        for index in range(2):
            sink[index] = np.full((40, 50), index, np.float32)
    assert read_frames(tmp_path / f"out.{kind}").count == 2


@pytest.mark.parametrize(("shape", "factor"), [((90, 75), 4), ((31, 64), 1), ((50, 50), 7)])
def test_from_bins_to_other_bins_without_a_frame_in_between(
    shape: tuple[int, int], factor: int
) -> None:
    small = -(-shape[0] // factor), -(-shape[1] // factor)
    image = np.random.default_rng(5).poisson(9.0, small).astype(np.float32)
    fine, coarse = (
        Grids((factor * small[0], factor * small[1]), small, 0.1),
        grids_for(shape, 0.1, 0.37),
    )
    between = np.ascontiguousarray(unbin(image, fine)[: shape[0], : shape[1]])
    np.testing.assert_allclose(
        rebin(image, fine, coarse), bin_sum(between, coarse), rtol=1e-5, atol=1e-3
    )

"""What is no file, or does not stay what it was: pipes, devices, links that leave, files that are
cut off while they are read. None is waited for, and none ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from tests.helpers.commands import FAST, gdn, one_line
from tests.helpers.frames import write_mrc
from tests.helpers.needs import needs_formats

STACK = np.arange(40 * 64 * 64, dtype=np.int16).reshape(40, 64, 64) % 97

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX")


@pytest.mark.parametrize("suffix", [".tif", ".mrc.gz", ".npy", ".h5", ".emi", ""])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str, not_for_ever: None) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(f"pipe{suffix}")
    for name in ("pipe", "link"):
        with pytest.raises(FrameError, match="a pipe, a device or a socket, not a file; save it"):
            read_frames(tmp_path / f"{name}{suffix}")


def test_a_device_is_not_read_without_end(tmp_path: Path, not_for_ever: None) -> None:
    (tmp_path / "zero.mrc").symlink_to("/dev/zero")
    with pytest.raises(FrameError, match=r"zero\.mrc: a pipe, a device"):
        read_frames(tmp_path / "zero.mrc")


def test_a_series_of_an_emi_that_is_a_pipe(tmp_path: Path, not_for_ever: None) -> None:
    (tmp_path / "a.emi").write_bytes(bytes(100))
    os.mkfifo(tmp_path / "a_1.ser")
    with pytest.raises(FrameError, match=r"a_1\.ser: a pipe"):
        read_frames(tmp_path / "a.emi")


@needs_formats
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_folder_of_data_holds_only_files_of_its_own(
    tmp_path: Path, kind: str, not_for_ever: None
) -> None:
    import zarr

    zarr.save_array(tmp_path / "a.zarr", STACK[:2], zarr_format=2)
    assert read_frames(tmp_path / "a.zarr").count == 2
    if kind == "pipe":
        (tmp_path / "a.zarr" / ".zattrs").unlink(missing_ok=True)
        os.mkfifo(tmp_path / "a.zarr" / ".zattrs")
    else:
        (tmp_path / "elsewhere").write_bytes(b"")
        (tmp_path / "a.zarr" / "9.0.0").symlink_to("../elsewhere")
    with pytest.raises(FrameError, match=r"a\.zarr: (\.zattrs is not a file|9\.0\.0 is a link)"):
        read_frames(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "name", ["frame_gdn.json", "frame.json", "gdn-run.toml", "gdn-summary.csv", "report.html"]
)
def test_a_pipe_under_the_name_of_a_result(
    tmp_path: Path, frame_file: Path, name: str, not_for_ever: None
) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / name)
    options = ("--no-score", "--report", "--overwrite", *FAST)
    done = gdn("denoise", frame_file, "-o", tmp_path / "out", *options)
    if name == "frame_gdn.json":
        one_line(done, 1, "frame_gdn.json: exists already, and none of gdn's records says")
    else:
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / name).is_fifo()


def test_a_name_of_two_lines_is_refused_in_one(tmp_path: Path) -> None:
    (tmp_path / "a\ngdn: all is well.tif").write_bytes(b"no image")
    (tmp_path / "b.tif").write_bytes(b"no image")
    done = gdn("denoise", tmp_path, "--sampling", "0.1", *FAST)
    assert done.returncode == 1
    assert not [line for line in done.stderr.splitlines() if line.startswith("gdn: all is well")]


CUT = """
import os, sys
from gdn.frames.formats import read_frames
frames = read_frames(__import__("pathlib").Path(sys.argv[1]))
print(int(frames.read(0).sum()), int(frames.read(39).sum()))
os.truncate(sys.argv[1], 20_000)
try:
    frames.read(39)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["a.npy", "fortran.npy", "a.mrc", "imagej.tif", "cut.mrc"])
def test_a_file_that_is_cut_off_while_it_is_open(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, np.asfortranarray(STACK) if name == "fortran.npy" else STACK)
    elif path.suffix == ".mrc":
        stored = STACK if name == "a.mrc" else np.concatenate([STACK, STACK])
        write_mrc(path, stored, 0.1)
        if name == "cut.mrc":
            os.truncate(path, path.stat().st_size - STACK.nbytes)
    else:
        tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TYX"})
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    sums, error = done.stdout.splitlines()
    assert sums == f"{STACK[0].sum()} {STACK[39].sum()}"
    assert f"{name}: frame 39 cannot be decoded (" in error
    assert "is the file complete?" in error

"""Disks that are full, folders that are closed, two processes in one place: nothing half-written,
one line each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.helpers.commands import FAST, gdn, left_behind, one_line
from tests.helpers.frames import noisy_frame
from tests.helpers.needs import needs_formats

QUICK = [*FAST, "--sampling", "0.1", "--no-score"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


def frames(folder: Path) -> list[Path]:
    """Three small frames and one whose results do not fit into the disk, in the middle."""
    for number, side in enumerate((100, 400, 110, 120)):
        tifffile.imwrite(folder / f"f{number}.tif", noisy_frame((side, side), number))
    return sorted(folder.glob("f*.tif"))


@pytest.mark.slow
@posix
@pytest.mark.parametrize("kind", ["tif", "mrc", pytest.param("zarr", marks=needs_formats)])
def test_a_full_disk_costs_the_file_that_does_not_fit(
    small_disk: Path, tmp_path: Path, kind: str
) -> None:
    result = gdn("denoise", *frames(tmp_path), *QUICK, "--format", kind, "-o", small_disk, "--json")
    one_line(result, 1, "f1_", "No space left on device")
    assert [Path(json.loads(line)["input"]).stem for line in result.stdout.splitlines()] == [
        "f0",
        "f2",
        "f3",
    ]
    assert left_behind(small_disk) == []
    assert not list(small_disk.glob("f1*"))
    again = gdn(
        "denoise",
        *frames(tmp_path),
        *QUICK,
        "--format",
        kind,
        "-o",
        small_disk,
        "--json",
        "--resume",
    )
    one_line(again, 1, "3 of 4 files were already complete")


@posix
def test_a_disk_with_no_room_at_all(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    result = gdn("denoise", frames(tmp_path)[0], *QUICK, "-o", small_disk)
    one_line(result, 1, "No space left on device")
    assert len(result.stderr.strip().splitlines()) == 1
    assert [p.name for p in small_disk.iterdir()] == ["ballast"]


@posix
def test_a_full_disk_under_the_cache_costs_time_only(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    monkeypatch.setenv("GDN_CACHE_DIR", str(small_disk / "cache"))
    result = gdn("denoise", frames(tmp_path)[0], *QUICK)
    assert result.returncode == 0, result.stderr
    assert left_behind(small_disk) == []


@pytest.mark.slow
@posix
def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "gdn",
        "denoise",
        *map(str, frames(tmp_path)),
        *QUICK,
        "-o",
        str(out),
        "--no-cache",
    ]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    one_line(result, 1, "f1_denoised.tif: File too large")
    assert sorted(p.name for p in out.glob("*.json")) == [f"f{n}_gdn.json" for n in (0, 2, 3)]
    assert left_behind(out) == []


def as_anybody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command by a user to whom permissions apply: root without its override."""
    before: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root here, and no setpriv to give its rights up")
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [*before, sys.executable, "-m", "gdn", "denoise", *map(str, arguments), *QUICK]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@posix
def test_closed_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night, out, closed = tmp_path / "night", tmp_path / "out", tmp_path / "closed"
    for folder in (night, closed):
        folder.mkdir()
    names = frames(night)
    names[1].chmod(0)
    closed.chmod(0o555)
    monkeypatch.setenv("GDN_CACHE_DIR", str(closed / "cache"))  # costs time only
    one_line(as_anybody(*names, "-o", out), 1, "f1.tif: Permission denied")
    assert sorted(p.name for p in out.glob("*.json")) == [f"f{n}_gdn.json" for n in (0, 2, 3)]
    night.chmod(0o555)
    one_line(as_anybody(names[0]), 1, "Permission denied")  # beside the input
    one_line(as_anybody(names[0], "-o", closed), 2, "cannot write there")
    assert left_behind(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tif", pytest.param("zarr", marks=needs_formats)])
def test_two_processes_in_one_folder_and_one_cache(tmp_path: Path, kind: str) -> None:
    night, out = tmp_path / "night", tmp_path / "out"
    night.mkdir()
    for number in range(2):
        tifffile.imwrite(night / f"f{number}.tif", noisy_frame((100, 100), number))
    options = [str(night), *QUICK, "--overwrite", "--format", kind]
    calm = gdn(
        "denoise", *options, "-o", tmp_path / "calm"
    )  # with another cache: the racing ones fill theirs
    assert calm.returncode == 0, calm.stderr
    command = [sys.executable, "-m", "gdn", "denoise", *options]
    environment = os.environ | {"GDN_CACHE_DIR": str(tmp_path / "cache")}
    racing = [
        subprocess.Popen(
            [*command, "-o", str(out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    for one in racing:
        _, err = one.communicate(timeout=200)
        assert one.returncode == 0, err
    assert left_behind(tmp_path) == []
    assert sorted(p.name for p in out.iterdir()) == sorted(
        p.name for p in (tmp_path / "calm").iterdir()
    )
    if kind == "tif":
        for path in out.glob("*.tif"):
            np.testing.assert_array_equal(
                tifffile.imread(path), tifffile.imread(tmp_path / "calm" / path.name)
            )


def test_a_stack_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    stack = np.stack([noisy_frame((100, 100), n) for n in range(3)]).astype(np.float32)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    content = (tmp_path / "s.tif").read_bytes()
    (tmp_path / "s.tif").write_bytes(content[: len(content) - 20_000])
    result = gdn("denoise", tmp_path / "s.tif", *QUICK, "--atoms", "-o", tmp_path / "out")
    one_line(result, 1, "s.tif: 2 of 3 frames are there; the file is cut off")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["gdn-run.toml"]

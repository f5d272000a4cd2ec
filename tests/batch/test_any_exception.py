"""Whatever goes wrong with one file, or with what is written at the end, costs that and no more."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tifffile

from gdn.engines.base import EngineError
from gdn.errors import CandidateError
from gdn.pipeline import denoise_file as files
from gdn.storage import CacheError
from tests.helpers.commands import FAST, gdn, left_behind, unwrapped
from tests.helpers.frames import noisy_frame

QUICK = [*FAST, "--sampling", "0.1", "--no-score"]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Three small frames."""
    (tmp_path / "night").mkdir()
    for number in range(3):
        tifffile.imwrite(tmp_path / "night" / f"f{number}.tif", noisy_frame((64, 64), number))
    return tmp_path / "night"


class Panic(BaseException):
    """What a library of another language raises when it cannot go on."""


FAULTS = [
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    RuntimeError("two\nlines"),
    SystemExit(0),
    Panic("at the disco"),
    ImportError("no codec"),
    EngineError("the card is full"),
    CacheError("the cache is gone"),
    CandidateError("no image"),
    OSError(errno.EIO, "Input/output error", "f1.tif"),
    UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_any_exception_costs_one_file(
    night: Path, tmp_path: Path, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.denoise_file

    def faulty(frames: Any, *rest: Any) -> Any:
        if frames.path.name == "f1.tif":
            raise fault
        return real(frames, *rest)

    monkeypatch.setattr(files, "denoise_file", faulty)
    done = gdn("denoise", night, *QUICK, "-o", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*_denoised.tif")) == [
        "f0_denoised.tif",
        "f2_denoised.tif",
    ]
    lines = [line for line in unwrapped(done.stderr).splitlines() if "f1.tif" in line]
    assert len(lines) == 1, done.stderr
    assert "1 of 3 files failed; the others are done" in unwrapped(done.stderr)
    assert left_behind(tmp_path) == []


def test_a_deep_record_is_no_record(night: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("f1_gdn.json", "gdn-run.toml"):
        (tmp_path / "out" / name).write_text("x = " * (name[0] == "g") + "[" * 100_000)
    done = gdn("denoise", night, *QUICK, "-o", tmp_path / "out", "--resume")
    assert done.returncode == 1, done.stderr
    assert "f1_gdn.json: exists already, and none of gdn's records says" in " ".join(
        done.stderr.split()
    )
    assert len(list((tmp_path / "out").glob("*_denoised.tif"))) == 2


def test_a_summary_that_cannot_be_written_hides_nothing(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdn.cli import run_files

    def full(path: Path, text: str) -> None:
        if path.suffix == ".csv":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_files, "write_text", full)
    (night / "f1.tif").write_bytes(b"no image")
    done = gdn("denoise", night, *QUICK, "-o", tmp_path / "out", "--report")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())  # lines are wrapped
    assert "gdn-summary.csv: No space left on device" in said
    assert "f1.tif: not a readable TIFF" in said
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_links_that_lead_up_are_followed_once(
    night: Path, tmp_path: Path, not_for_ever: None
) -> None:
    for name in ("a", "b"):
        (night / name).symlink_to(night, target_is_directory=True)
    shutil.copytree(night, night / "sub", symlinks=True)
    done = gdn("denoise", night, "--recursive", *QUICK, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_a_closed_subfolder_fails_alone(night: Path, tmp_path: Path) -> None:
    (night / "closed").mkdir(mode=0)
    before: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root here, and no setpriv to give its rights up")
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    words = ["denoise", str(night), "--recursive", *QUICK, "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*before, sys.executable, "-m", "gdn", *words], capture_output=True, text=True, check=False
    )
    (night / "closed").chmod(0o700)
    assert done.returncode == 1, done.stderr
    assert "closed: Permission denied" in unwrapped(done.stderr)
    assert len(list((tmp_path / "out").glob("*_denoised.tif"))) == 3


def test_a_run_of_nothing_leaves_no_settings(night: Path, tmp_path: Path) -> None:
    done = gdn("denoise", "nothing.tif", *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing.tif: no such file" in unwrapped(done.stderr)
    out = tmp_path / "out"
    done = gdn("denoise", night / "f0.tif", "-o", out, *QUICK, "--engine", "tensorrt")
    assert done.returncode == 2
    assert list(tmp_path.rglob("gdn-run.toml")) == []

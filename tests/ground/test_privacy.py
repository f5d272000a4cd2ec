"""gdn opens no connection, and leaves nothing in the user's home but its own cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EVERYTHING = """
import gdn.engines.onnxruntime, gdn.engines.restorer, gdn.frames.formats, time
time.sleep(1)
"""


def in_new_home(
    folder: Path, *command: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A command of a user whose home is empty."""
    (folder / "home").mkdir()
    spared = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "CI")
    environment = {k: v for k, v in os.environ.items() if k not in spared}
    environment |= {"HOME": str(folder / "home"), "GDN_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [*before, sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", [("-c", EVERYTHING), ("-m", "gdn", "doctor")])
def test_nothing_is_written_to_the_home_and_no_name_is_looked_up(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    log = tmp_path / "calls"
    strace = shutil.which("strace")
    watch = (strace, "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(log)) if strace else ()
    done = in_new_home(tmp_path, *command, before=watch)
    assert done.returncode == 0, done.stderr
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    if strace:
        calls = log.read_text()
        assert "AF_INET" not in calls
        assert "port" not in calls


def test_a_run_needs_no_network(tmp_path: Path, frame_file: Path) -> None:
    alone = ("unshare", "-rn")
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("this system makes no empty network namespace")
    words = ("denoise", str(frame_file), "-o", str(tmp_path / "out"), "--restarts", "16")
    done = in_new_home(tmp_path, "-m", "gdn", *words, "--no-score", before=alone)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").glob("*_denoised.tif"))
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []

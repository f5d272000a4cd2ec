"""A closed terminal and a batch system's polite end interrupt a run: nothing is half-written."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_the_end_of_a_session_is_an_interruption(tmp_path: Path, name: str) -> None:
    (tmp_path / "watched").mkdir()
    words = ("denoise", "--watch", "watched", "-o", "out", "--sampling", "0.2")
    running = subprocess.Popen(
        [sys.executable, "-m", "gdn", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    running.send_signal(getattr(signal, name))
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors

"""A closed terminal and a batch system's polite end interrupt a run: nothing is half-written."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import gdn, unwrapped


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_the_end_of_a_session_is_an_interruption(tmp_path: Path, name: str) -> None:
    (tmp_path / "watched").mkdir()
    words = ("denoise", "--watch", "watched", "-o", "out", "--sampling", "0.2")
    running = subprocess.Popen(
        [sys.executable, "-m", "gdn", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup a closed terminal is to be ignored, and so it is.
        preexec_fn=lambda: signal.signal(getattr(signal, name), signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    running.send_signal(getattr(signal, name))
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_that_a_library_swallows_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As in the import of a compiled module: the signal comes, and nobody hears of it."""
    (tmp_path / "watched").mkdir()
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert len(waited) < 3, "the run goes on"
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)

    monkeypatch.setattr("gdn.batch.inputs.watch.__defaults__", (sleep,))
    # A job that a script started in the background, as CI does, ignores Ctrl-C.
    before = signal.signal(number, signal.default_int_handler)
    try:
        done = gdn("denoise", "--watch", tmp_path / "watched", "-o", tmp_path / "out")
    finally:
        signal.signal(number, before)
    assert done.returncode == 130, done.stderr
    assert len(waited) == 1


INTERRUPTED_IN_EXEC = """
import gdn.batch.inputs
from gdn.cli import main

def sleep(seconds):
    exec("import signal; signal.raise_signal(signal.SIGTERM)")

gdn.batch.inputs.watch.__defaults__ = (sleep,)
main(["denoise", "--watch", "watched", "-o", "out"])
"""


def test_an_interruption_in_a_string_that_is_executed_ends_with_130(tmp_path: Path) -> None:
    """As in the import of a module with data classes: Python would end by SIGINT."""
    (tmp_path / "watched").mkdir()
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_IN_EXEC)
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr


def test_an_interruption_that_was_to_be_ignored_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a script's background job, which the Ctrl-C of another program reaches too."""
    (tmp_path / "watched").mkdir()
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        signal.raise_signal(signal.SIGINT if len(waited) < 3 else signal.SIGTERM)

    monkeypatch.setattr("gdn.batch.inputs.watch.__defaults__", (sleep,))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = gdn("denoise", "--watch", tmp_path / "watched", "-o", tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 130, done.stderr
    assert len(waited) == 3


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("gdn.pipeline.denoise_file.FileSettings.read", RuntimeError),
        ("gdn.cli.denoise.refusals", RuntimeError),
        ("gdn.batch.settings.BatchRun.check_free", RuntimeError),
        ("gdn.cli.run_files.RunFiles.write_summary", OSError),
    ],
)
def test_an_interruption_that_comes_out_as_another_fault_is_one(
    frame_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    fault: type[Exception],
) -> None:
    """As in an import: what was interrupted there is missing afterwards."""

    def fail(*arguments: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise fault("cannot import name 'x' from partially initialized module")

    monkeypatch.setattr(where, fail)
    done = gdn("denoise", frame_file, "-o", tmp_path / "out")
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert "report it" not in unwrapped(done.stderr)

"""What reaches the terminal: names from anybody, never their control characters."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gdn.batch.printed import Printed, escaped, one_row
from gdn.batch.terminal import progress_bar
from tests.helpers.commands import FAST, gdn

TITLE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (TITLE, r"\x1b]0;owned\x07\x1b[2J"),
        ("a\rb\x9b31m", r"a\rb\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("n\udce9", r"n\xe9"),
        ("é Å [red] \t\n", "é Å [red] \t\n"),
    ],
)
def test_control_characters_are_escaped(text: str, safe: str) -> None:
    assert escaped(text) == safe


def test_a_row_stays_one_row() -> None:
    assert one_row("a\nb") == r"a\nb"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_names_of_files_do_not_reach_the_terminal_raw(
    tmp_path: Path, frame_file: Path, more: tuple[str, ...]
) -> None:
    shutil.copy(frame_file, tmp_path / f"{TITLE}\n.tif")
    (tmp_path / f"bad{TITLE}.tif").write_bytes(b"no tiff")
    done = gdn("denoise", tmp_path, "-o", tmp_path / "out", "--no-score", *more, *FAST)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "owned" in done.stdout
    assert "owned" in done.stderr
    assert not {c for c in said if ord(c) < 32} - {"\n"}
    assert len(done.stdout.splitlines()) == len(list((tmp_path / "out").glob("*_gdn.json")))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_rows_in_a_file_are_not_drawn_above_the_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, rows = terminal_of(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", rows)
    with progress_bar("denoising", 2) as update:
        print("a row")
        update(1)
    assert rows.getvalue() == "a row\n"
    assert "a row" not in terminal.getvalue()


def test_brackets_are_no_markup_and_text_on_the_bar_is_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    with progress_bar("denoising", 2) as update:
        update(1, text=f"[red]{TITLE}[/nonsense]")
    shown = terminal.getvalue()
    assert "[red]" in shown
    assert "\x1b]0;owned" not in shown


def run(
    *words: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_name_that_the_stream_cannot_print_ends_nothing(tmp_path: Path, frame_file: Path) -> None:
    shutil.copy(frame_file, tmp_path / "Å.tif")
    try:
        shutil.copy(frame_file, os.fsencode(tmp_path) + b"/n\xe9.tif")
    except OSError:
        pytest.skip("this file system takes no such name")
    words = ("-m", "gdn", "denoise", ".", "-o", "out", "--no-score", *FAST)
    done = run(sys.executable, *words, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert r"\xc5.tif" in done.stdout
    assert r"n\xe9.tif" in done.stdout
    assert len(list((tmp_path / "out").glob("*_denoised.tif"))) == 3  # and frame_file


def test_a_closed_stderr_ends_nothing(tmp_path: Path, frame_file: Path) -> None:
    words = f"-m gdn denoise '{frame_file}' -o out --no-score --json {' '.join(FAST)} 2>&-"
    done = run("sh", "-c", f"{sys.executable} {words}", cwd=tmp_path)
    assert done.returncode == 0
    (row,) = done.stdout.splitlines()
    assert json.loads(row)["input"] == str(frame_file)


def test_whatever_is_printed_is_escaped() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    print(f"é {TITLE}", file=Printed(raw))
    assert raw.buffer.getvalue() == rb"\xe9 \x1b]0;owned\x07\x1b[2J" + b"\n"

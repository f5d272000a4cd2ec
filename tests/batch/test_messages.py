"""What gdn says beside the results: once a file, in short lines, with what to do."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gdn.batch.printed import LINE, note
from gdn.batch.tally import warnings_of
from gdn.report.words import unexplained
from tests.helpers.commands import FAST, gdn, messages, too_long, unwrapped
from tests.helpers.places import ROOT


def rows(*warnings: list[str]) -> list[dict[str, Any]]:
    noise = {"kind": "poisson"}
    return [
        {"input": "a.tif", "frame": number, "noise": noise, "warnings": words}
        for number, words in enumerate(warnings)
    ]


def test_a_warning_of_many_frames_is_said_once() -> None:
    said = warnings_of(rows(["12 pixels are out", "small"], ["13 pixels are out"], ["blurred"]))
    assert said == [
        "a.tif: 2 of 3 frames: 12 pixels are out",
        "a.tif: frame 0: small",
        "a.tif: frame 2: blurred",
    ]
    assert warnings_of(rows(["small"])) == ["a.tif: small"]
    dark = [
        row | {"noise": None} for row in rows(["dark: a.tif: frame 0"], ["dark: a.tif: frame 1"])
    ]
    assert warnings_of(dark) == ["a.tif: 2 of 2 frames: dark: frame 0"]
    sized = rows([], [])
    for row, high in zip(sized, (0.07, 0.08), strict=True):
        row["pixel_size"] = {"contradicts": False, "words": f"sizes to {high} explain it"}
    assert warnings_of(sized) == ["a.tif: 2 of 2 frames: sizes to 0.07 explain it"]


def test_notes_are_in_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    note(unexplained())
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= LINE
    assert lines[0].startswith("gdn: What it may be")
    assert all(re.match(" {4}[^ ]", line) for line in lines[1:])
    for words in ("pixel size", "--adapt", "a model of your own"):
        assert words in unexplained()


def all_written(master: int) -> bytes:
    """What a closed terminal was sent: it may come in several pieces, and ends with an error."""
    pieces = []
    with contextlib.suppress(OSError):
        while piece := os.read(master, 65536):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(("columns", "longest"), [(60, 60), (200, LINE), (0, LINE)])
def test_messages_fit_the_terminal(
    columns: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    path = "/night/" + 70 * "x"
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        note(f"{path}: {unexplained()}")
    lines = all_written(master).decode().splitlines()
    os.close(master)
    widths = [len(line) for line in lines]
    assert longest - 20 < max(widths[1:]) <= longest
    assert lines[0].startswith(f"gdn: {path}:")  # one word: never broken
    assert (lines[0] == f"gdn: {path}:") == (columns == 60)
    assert all(line.startswith("    ") for line in lines[1:])


def failing(folder: Path) -> Iterator[Path]:
    """Files that cannot be denoised, in a folder with a long name: damaged ones of every format,
    and what is no frame."""
    folder = folder / ("a night of frames " * 5).strip()
    folder.mkdir()
    corpus = (path for path in (ROOT / "tests" / "corpus").iterdir() if path.is_file())
    for number, path in enumerate(sorted(corpus)):
        content = path.read_bytes()
        for name, damaged in (
            ("cut", content[: len(content) // 3]),
            ("spoilt", bytes(255 - byte for byte in content[:512]) + content[512:]),
        ):
            copy = folder / f"{name}{number}{''.join(path.suffixes)}"
            copy.write_bytes(damaged)
            yield copy
    for name in ("empty.tif", "text.csv", "x" * 150 + ".tif", "video.mp4", "no-ending"):
        (folder / name).write_bytes(b"" if name == "empty.tif" else b"no frame at all\n" * 99)
        yield folder / name


def test_a_failed_file_has_one_message_in_short_lines(tmp_path: Path) -> None:
    paths = list(failing(tmp_path))
    done = gdn("denoise", *paths, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 1
    assert not too_long(done.stderr)
    assert messages(done) == len(paths) + 1  # and the count
    assert f"{len(paths)} of {len(paths)} files failed" in unwrapped(done.stderr)
    heads = [line for line in unwrapped(done.stderr).splitlines() if line.startswith("gdn: ")]
    assert all(any(line.startswith(f"gdn: {path}") for line in heads) for path in paths)


def raised(tree: ast.AST) -> Iterator[str]:
    """The messages of the errors that a file raises: what is filled in counts as six characters,
    but for a name at the beginning."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.JoinedStr):
            parts = [
                p.value if isinstance(p, ast.Constant) else "######" for p in call.args[0].values
            ]
            yield re.sub("^######: ", "", "".join(map(str, parts)))


def test_messages_are_short_but_for_the_file() -> None:
    files = sorted((ROOT / "gdn").rglob("*.py"))
    said = [words for path in files for words in raised(ast.parse(path.read_text("utf-8")))]
    assert len(said) > 200
    assert [words for words in said if len(words) > LINE] == []


def test_what_ends_a_run_is_said_in_short_lines(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("restart = 3")
    done = gdn("denoise", "a.tif", "--config", "run.toml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "no such option: restart; there are: files" in lines[0]
    assert max(map(len, lines)) <= LINE


@pytest.mark.slow
def test_the_original_method_writes_no_spread_and_says_how_far_it_is(
    frame_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(
        "gdn.search.progress.Reached.__call__", lambda _, share: shares.append(share)
    )
    settings = ["--method", "original", "--original-steps", "2,3,4", "--model", "pt-ceo2-64"]
    done = gdn("denoise", frame_file, *settings, *FAST, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert "frame_denoised.tif" in written
    assert "frame_spread.tif" not in written
    assert shares == sorted(shares)
    assert len(set(shares)) >= 10  # a step each
    again = gdn("denoise", frame_file, *settings, *FAST, "-o", tmp_path / "out", "--resume")
    assert "1 of 1 files were already complete" in unwrapped(again.stderr)

"""What gdn says beside the results: once a file, in short lines, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdn.batch.printed import LINE, note
from gdn.batch.tally import warnings_of
from gdn.report.words import unexplained
from tests.helpers.commands import FAST, gdn


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
    sized = rows([], [])
    for row, high in zip(sized, (0.07, 0.08), strict=True):
        row["pixel_size"] = {"contradicts": False, "words": f"sizes to {high} explain it"}
    assert warnings_of(sized) == ["a.tif: 2 of 2 frames: sizes to 0.07 explain it"]


def test_notes_are_in_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    note(unexplained())
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= LINE
    assert lines[0].startswith("gdn: What it may be")
    assert all(line.startswith("     ") for line in lines[1:])
    for words in ("pixel size", "--adapt", "a model of your own"):
        assert words in unexplained()


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
        "gdn.batch.terminal.Log.__call__", lambda log, done, *_, **__: shares.append(done)
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
    assert "1 of 1 files were already complete" in again.stderr

"""What a run suggests at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdn.cli.hints import hints
from gdn.pipeline.options import Options
from gdn.report.ledger import Ledger
from tests.helpers.commands import FAST, gdn


def said(names: str, unlike: int, learned: bool = False, movie: str = "off") -> str:
    rows = [{"input": f"{name}.tif", "standing": None} for name in names]
    ledger = Ledger(frames=len(rows), unlike=unlike)
    return "\n".join(hints(rows, ledger, Options(movie=movie), learned))


def test_a_stack_that_no_generator_explains_may_be_a_movie_to_learn_from() -> None:
    words = said("aaab", 2)
    assert "a.tif has 3 frames. If they show one object, try --movie on" in words
    assert "cannot explain 2 of 4 frames" in words
    assert "learn from the recording (--movie on --adapt, if its frames show one object)" in words


@pytest.mark.parametrize(
    ("names", "unlike", "learned", "movie", "movie_hint", "adapt_hint"),
    [
        ("aaa", 0, False, "off", True, ""),
        ("aab", 1, False, "off", False, "(--adapt)"),
        ("aaa", 1, False, "on", False, "(--adapt)"),
        ("aaa", 1, True, "off", True, ""),
        ("a", 0, False, "off", False, ""),
    ],
)
def test_a_hint_is_given_where_it_may_help(
    names: str, unlike: int, learned: bool, movie: str, movie_hint: bool, adapt_hint: str
) -> None:
    words = said(names, unlike, learned, movie)
    assert ("try --movie on" in words) == movie_hint
    assert ("--adapt" in words) == bool(adapt_hint)
    assert adapt_hint in words


def test_the_report_repeats_the_run_from_the_folder_where_it_was_started(
    frame_file: Path, tmp_path: Path
) -> None:
    options = ["--model", "pt-ceo2-64", "--no-score", *FAST]
    done = gdn("denoise", frame_file, *options, "-o", "out", "--report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<pre>gdn denoise --config out/gdn-run.toml</pre>" in page

"""All measurements by one command: what has ended stays, what failed is tried again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import measurements
import pytest
from measurement_steps import STEPS, Step
from measurements import StepsError, begin, chosen, make

from tests.helpers.places import BENCHMARKS, ROOT

WRITES = """
import json, sys
from pathlib import Path
with Path(sys.argv[2]).open("a") as stream:
    for method in sys.argv[3:]:
        stream.write(json.dumps({"frame": "a", "method": method, "psnr_db": 2.0}) + "\\n")
"""
FAILS = """
from pathlib import Path
print("tried", file=Path("tried").open("a"))
raise SystemExit(0 if Path("mended").exists() else 1)
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of the run and that of the results; scripts that write rows, and that fail."""
    scripts, folder, results = (tmp_path / name for name in ("scripts", "run", "results"))
    for path in (scripts, folder, results):
        path.mkdir()
    (scripts / "writes.py").write_text(WRITES)
    (scripts / "fails.py").write_text(FAILS)
    monkeypatch.setattr(measurements, "HERE", scripts)
    return folder, results


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_that_fails_stops_no_other_and_is_tried_again(places: tuple[Path, Path]) -> None:
    folder, results = places
    steps = {
        "bad": Step("fails.py", 0.1),
        "good": Step("writes.py --rows good.jsonl gdn", 0.1, "good"),
    }
    assert make(steps, folder, results, None) == ["bad"]
    assert [row["method"] for row in rows(results / "good.jsonl")] == ["gdn"]
    (results / "good.jsonl").unlink()  # to see that it is not made again
    (folder / "mended").touch()
    assert make(steps, folder, results, None) == []
    assert not (results / "good.jsonl").exists()
    assert (folder / "tried").read_text().count("tried") == 2


def test_rows_of_others_stay(places: tuple[Path, Path]) -> None:
    folder, results = places
    (results / "all.jsonl").write_text(
        '{"frame": "a", "method": "gdn", "psnr_db": 1.0}\n'
        '{"frame": "a", "method": "bm3d", "psnr_db": 1.5}\n'
    )
    step = Step("writes.py --rows all.jsonl gdn", 0.1, "all", ("frame", "method"))
    assert make({"all": step}, folder, results, None) == []
    assert {row["method"]: row["psnr_db"] for row in rows(results / "all.jsonl")} == {
        "gdn": 2.0,
        "bm3d": 1.5,
    }


@pytest.mark.parametrize("resumes", [False, True])
def test_a_step_that_was_stopped_begins_anew_or_goes_on(
    places: tuple[Path, Path], resumes: bool
) -> None:
    folder, results = places
    (folder / "some.jsonl").write_text('{"frame": "b"}\n')  # written before it was stopped
    step = Step("writes.py --rows some.jsonl gdn", 0.1, "some", resumes=resumes)
    make({"some": step}, folder, results, None)
    assert len(rows(results / "some.jsonl")) == 1 + resumes


def test_what_needs_a_recording_is_left_out(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, results = places
    steps = {"real": Step("fails.py RECORDING", 0.1)}
    assert make(steps, folder, results, None) == []
    assert "needs --recording" in capsys.readouterr().err
    assert make(steps, folder, results, folder / "frames.tif") == ["real"]


def test_a_folder_belongs_to_one_commit(tmp_path: Path) -> None:
    begin(tmp_path / "run", "a" * 40)
    begin(tmp_path / "run", "a" * 40)
    with pytest.raises(StepsError, match="was begun with commit aaaaaaa, this is bbbbbbb"):
        begin(tmp_path / "run", "b" * 40)


def test_steps_are_chosen_by_name() -> None:
    assert list(chosen("far,suite")) == [name for name in STEPS if name in ("far", "suite")]
    assert chosen("") == STEPS
    with pytest.raises(StepsError, match="no step 'nothing'"):
        chosen("nothing")


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_a_script_with_its_options(name: str) -> None:
    script, *words = STEPS[name].command.split()
    source = (BENCHMARKS / script).read_text()
    for module in re.findall(r"^from (\w+) import", source, re.MULTILINE):
        if (BENCHMARKS / f"{module}.py").exists():  # some take their options from another
            source += (BENCHMARKS / f"{module}.py").read_text()
    for option in (word for word in words if word.startswith("-")):
        assert f'"{option}"' in source, option


@pytest.mark.parametrize("name", [name for name in STEPS if STEPS[name].rows])
def test_each_step_replaces_rows_that_a_page_shows(name: str) -> None:
    step = STEPS[name]
    assert (ROOT / "docs" / "results" / f"{step.rows}.jsonl").exists()
    assert f"{step.rows}.jsonl" in step.command

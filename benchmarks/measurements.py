"""Everything that the pages quote of results, made again with this version by one command.

Each step (`measurement_steps.py`) is a benchmark of this folder. It runs in the folder `-o` and
writes its rows there. A step that has ended is not run again when the command is given once more,
so it may be stopped at any time. When a step has ended its rows take the place of those in
`docs/results`. At the end the tables of the pages are written from them. A folder belongs to one
commit: rows of two versions never meet in it. Some hours on two cores; `--list` says about how many
for each step.

Not made again: what is trained (experiments, learning curves, `--adapt`), what needs a graphics
card or environments of other programs (the rows of rivals), pictures but the reliability plot, and
prose: `git diff docs` shows which numbers it must be read against.

    python benchmarks/measurements.py -o measurements [--only far,suite] [--list]
    python benchmarks/measurements.py -o measurements --recording frames.tif
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measurement_steps import RECORDING, STEPS, Step

from gdn.storage import json_line

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results"
Row = dict[str, Any]


class StepsError(Exception):
    """What keeps the measurements from being made."""


def begin(folder: Path, commit: str) -> None:
    """Make the folder that belongs to `commit`, or go on with it. Raises StepsError if it belongs
    to another."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "commit"
    if not mark.exists():
        mark.write_text(f"{commit}\n", encoding="utf-8")
    begun = mark.read_text(encoding="utf-8").strip()
    if begun != commit:
        raise StepsError(
            f"{folder}: was begun with commit {begun[:7]}, this is {commit[:7]}; "
            "choose another folder (-o), or check that commit out"
        )


def this_commit() -> str:
    """The commit of this checkout. Raises StepsError if what is measured differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../gdn", ".")
        commit = git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        raise StepsError(f"{HERE.parent}: not a checkout of git ({error})") from None
    if changed:
        raise StepsError("gdn/ or benchmarks/ has changes that are not committed; commit them")
    return commit


def run(step: Step, folder: Path, recording: Path | None) -> int:
    """Run one step in `folder`; returns its exit code."""
    if step.rows and not step.resumes:
        (folder / f"{step.rows}.jsonl").unlink(missing_ok=True)
    words = [str(recording) if word == RECORDING else word for word in shlex.split(step.command)]
    alone = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env={**os.environ, **alone}).returncode


def publish(step: Step, folder: Path, results: Path) -> None:
    """Put the rows of a step that has ended in the place of those in `results`."""
    if not step.rows:
        return
    made, at = folder / f"{step.rows}.jsonl", results / f"{step.rows}.jsonl"
    if not step.keys:
        shutil.copyfile(made, at)
        return
    kept = {_key(row, step.keys): row for row in _rows(at)}
    kept.update((_key(row, step.keys), row) for row in _rows(made))
    at.write_text("".join(json_line(row) + "\n" for row in kept.values()), encoding="utf-8")


def _rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _key(row: Row, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(json.dumps(row.get(key)) for key in keys)


def make(steps: dict[str, Step], folder: Path, results: Path, recording: Path | None) -> list[str]:
    """Run the steps that have not ended yet, in order; returns the names of those that failed. A
    step that fails does not stop the others."""
    failed = []
    for number, (name, step) in enumerate(steps.items(), 1):
        done = folder / f"{name}.done"
        if done.exists():
            continue
        if step.needs_recording and recording is None:
            print(f"{name}: left out, needs --recording", file=sys.stderr, flush=True)
            continue
        print(f"{number} of {len(steps)}: {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        if run(step, folder, recording):
            failed.append(name)
            continue
        publish(step, folder, results)
        done.write_text(f"{time.monotonic() - start:.0f} s\n", encoding="utf-8")
    return failed


def chosen(names: str) -> dict[str, Step]:
    """The steps of these names, all if there are none. Raises StepsError."""
    wanted = [name for name in names.split(",") if name]
    unknown = [name for name in wanted if name not in STEPS]
    if unknown:
        raise StepsError(f"no step '{unknown[0]}'; there are {', '.join(STEPS)}")
    return {name: step for name, step in STEPS.items() if not wanted or name in wanted}


def main() -> int:
    """Returns the exit code: 1 if a step failed, 2 for what cannot be begun."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("measurements"))
    parser.add_argument("--only", default="", metavar="NAMES", help="steps, with commas")
    parser.add_argument("--recording", type=Path, help="a real stack, for the step of that name")
    parser.add_argument("--list", action="store_true", help="print the steps and end")
    options = parser.parse_args()
    try:
        steps = chosen(options.only)
        if options.list:
            for name, step in steps.items():
                print(f"{name:14} {step.hours:4.1f} h  {step.command}")
            return 0
        begin(options.output, this_commit())
    except StepsError as error:
        print(f"measurements: {error}", file=sys.stderr)
        return 2
    recording = None if options.recording is None else options.recording.resolve()
    failed = make(steps, options.output.resolve(), RESULTS, recording)
    tables = subprocess.run([sys.executable, str(RESULTS.parent / "tables.py")]).returncode
    for name in failed:
        print(f"measurements: {name} failed; the same command tries it again", file=sys.stderr)
    return int(bool(failed) or tables != 0)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a run of `gdn denoise` writes besides the results of each file: its settings, a table of its
frames, a report. A file of that name that is another run's, or anyone else's, is left alone: the
new one is called NAME-2, NAME-3 and so on."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn import __version__
from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault
from gdn.cli.config import NAME
from gdn.storage import read_text, write_text

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.batch.settings import BatchRun
    from gdn.batch.tally import Tally
    from gdn.report.ledger import Ledger

SUMMARY = "gdn-summary.csv"
REPORT = "report.html"
COLUMNS = (
    "file",
    "frame",
    "result",
    "dose_per_px",
    "dose_per_A2",
    "p",
    "held_out_gain_db",
    "columns_present",
    "columns_uncertain",
    "columns_absent",
    "seconds",
    "warnings",
)


class RunFiles:
    """The names that the files of one run get, found before the work begins.

    `inputs` are the files of the run, or the folder that it watches: with `replacing` (--resume,
    --overwrite) its own files of an earlier run of nothing else are replaced.
    """

    def __init__(
        self, folder: Path, settings: str, inputs: Iterable[Path], replacing: bool, report: bool
    ) -> None:
        from gdn.batch.free_names import free_name

        self._settings, self._replacing = settings, replacing
        self._inputs = {str(path.resolve()) for path in inputs}
        # A page is for showing around: it holds no paths.
        self._marks = {hashlib.sha256(os.fsencode(name)).hexdigest()[:16] for name in self._inputs}
        self.settings = free_name(folder / NAME, self._same_settings)
        self.summary = free_name(folder / SUMMARY, self._own_summary)
        self.report = free_name(folder / REPORT, self._own_report) if report else None

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Write what repeats the run, if one of its inputs is there; not kept if the block ends in
        bad usage."""
        fresh = not self.settings.exists()
        if any(Path(name).exists() for name in self._inputs):
            write_text(self.settings, self._settings)
        try:
            yield
        except UsageFault:
            if fresh:
                self.settings.unlink(missing_ok=True)
            raise

    def write_summary(self, rows: list[dict[str, Any]]) -> None:
        """Write a line for every frame (rows as `--json` prints them); nothing where there is
        none."""
        if not rows:
            return
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows(_cells(row) for row in rows)
        write_text(self.summary, text.getvalue())

    def write_report(
        self, ledger: Ledger, run: BatchRun, tally: Tally, learned: bool = False
    ) -> None:
        """Write the page, and say where; not where no frame was denoised, as after --resume with
        nothing left to do: a former page stays. `learned`: networks that learned from a recording
        were among the candidates."""
        if self.report is None or not ledger.frames:
            return
        from gdn.report import html

        rows = tally.rows
        page = html.ReportedRun(
            title=f"gdn: {ledger.frames} frame{'s' if ledger.frames > 1 else ''}",
            facts=_facts(run, tally.skipped),
            commands=[
                shlex.join(["gdn", *sys.argv[1:]]),
                f"gdn denoise --config {shlex.quote(str(self.settings))}",
            ],
            inputs=sorted(self._marks),
            models={f"{Path(r['input']).name} [{r['frame']}]": r["model"] for r in rows},
            movies=_movies(rows),
            learned=learned,
        )
        html.write_report(self.report, page, ledger)
        note(f"report: {self.report}")

    def _same_settings(self, path: Path) -> bool:
        """Whether a settings file says what this run's does, or is of the same inputs and may be
        replaced."""
        try:
            text = read_text(path)
            if text == self._settings:
                return True
            there, ours = tomllib.loads(text), tomllib.loads(self._settings)
        except (OSError, ValueError, RecursionError):
            return False
        names = ("gdn", "FILES", "files", "watch")
        same = all(there.get(name) == ours.get(name) for name in names)
        return self._replacing and text.startswith("# gdn denoise --config") and same

    def _own_summary(self, path: Path) -> bool:
        try:
            lines = csv.DictReader(io.StringIO(read_text(path), newline=""))
            own = tuple(lines.fieldnames or ()) == COLUMNS
            files = {str(Path(line["file"]).resolve()) for line in lines} if own else {""}
        except (OSError, ValueError, csv.Error):
            return False
        return self._replacing and own and self._covers(files)

    def _own_report(self, path: Path) -> bool:
        from gdn.report.html import INPUTS

        try:
            text = read_text(path)
        except (OSError, ValueError):
            return False
        marks = re.search(INPUTS.format("([0-9a-f ]*)"), text)
        return self._replacing and marks is not None and set(marks[1].split()) <= self._marks

    def _covers(self, files: set[str]) -> bool:
        """Whether they are all inputs of this run, or in the folder that it watches."""
        return all(name in self._inputs or str(Path(name).parent) in self._inputs for name in files)


def _cells(row: dict[str, Any]) -> list[Any]:
    dose = None if row["noise"] is None else row["noise"]["dose"]
    atoms = row["atoms"] or {}
    return [
        _name(row["input"]),
        row["frame"],
        _name(row["output"]),
        _number(dose),
        _number(None if dose is None else dose / row["sampling_angstrom"] ** 2),
        _number(row["explained_p"]),
        _number(row["heldout_gain_db"]),
        *(atoms.get(name, "") for name in ("present", "cannot_tell", "absent")),
        "" if row["seconds"] is None else row["seconds"],
        "; ".join(row["warnings"]),
    ]


def _name(path: Any) -> str:
    """A path as a cell that no spreadsheet takes for a formula; it is still the same path."""
    text = "" if path is None else str(path)
    return f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _facts(run: BatchRun, skipped: int) -> list[tuple[str, str]]:
    """What a report says of its run."""
    options = run.options
    settings = (
        f"{options.bank_size} restarts, seed {options.seed}, noise {options.noise}, method "
        f"{options.method}, estimate {options.estimate}, movie {options.movie}"
    )
    facts = [
        ("made", f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"),
        ("models", "; ".join(f"{m.card.name}, sha256 {m.hash[:16]}" for m in run.models)),
        ("settings", settings),
        (
            "versions",
            f"gdn {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ),
    ]
    complete = f"{skipped} files whose results were already complete before this run (--resume)"
    return [("not on this page", complete), *facts] if skipped else facts


def _movies(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the records of stacks say of them as movies, by the files' names."""
    from gdn.pipeline.previous_results import read_record

    movies = {}
    for result in dict.fromkeys(row["output"] for row in rows if row["frame"] == 1):
        path = Path(result)
        stem = path.name.rpartition("_denoised")[0]
        record = read_record(path.with_name(f"{stem}_gdn.json")) or {}
        if "movie" in record:
            movies[Path(record["input"]["path"]).name] = record["movie"]
    return movies

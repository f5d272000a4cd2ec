"""What became of the files of a batch: counted, kept as rows, and printed line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdn.batch.printed import note, one_row
from gdn.storage import json_line


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a row for each frame, also where it was already complete; or what was
    wrong with it, with the number of the system's error if it was one."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: bool = False
    failure: str | None = None
    errno: int | None = None


@dataclass(kw_only=True)
class Tally:
    """What became of a batch.

    - `files`: how many were done, with `skipped` and `refused` ones.
    - `skipped`: files whose results were complete.
    - `refused`: files whose results could not be written.
    - `failures`: a message for each file that failed.
    - `rows`: one for each frame.
    """

    files: int = 0
    skipped: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    _failed: dict[Path, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Files without results."""
        return len(self.failures) + self.refused

    def refuse(self, files: int) -> None:
        """Count files that were not begun, of which it was said why."""
        self.files += files
        self.refused += files

    def withdraw(self, path: Path) -> None:
        """Forget what became of a file that is denoised again: it has changed."""
        self.files -= 1
        self.rows = [row for row in self.rows if row["input"] != str(path)]
        failure = self._failed.pop(path, None)
        if failure is not None:
            self.failures.remove(failure)

    def add(self, outcome: Outcome, as_json: bool, path: Path | None = None) -> None:
        """Count a file, keep its rows and print those of its frames that were denoised now."""
        self.files += 1
        self.skipped += outcome.skipped
        if outcome.failure is not None:
            self.failures.append(outcome.failure)
            if path is not None:
                self._failed[path] = outcome.failure
        self.rows += outcome.rows
        for row in () if outcome.skipped else outcome.rows:
            print(json_line(row) if as_json else one_row(_line(row)), flush=True)
        if not (as_json or outcome.skipped):
            for words in warnings_of(outcome.rows):
                note(words)


def warnings_of(rows: list[dict[str, Any]]) -> list[str]:
    """The warnings of a file's frames, why frames could not be denoised, and what they say of its
    pixel size, each once, with the number of frames that have it. Those that differ in their
    numbers only are one, in the words of the first frame."""
    frames: dict[str, list[int]] = {}
    words: dict[str, str] = {}
    for row in rows:
        file = f"{row['input']}: "  # named by why a frame could not be denoised, and here before it
        texts = [*row["warnings"], *_size_words(row)]
        for warning in dict.fromkeys(text.replace(file, "") for text in texts):
            kind = re.sub(r"[0-9.]+", "0", warning)
            frames.setdefault(kind, []).append(row["frame"])
            words.setdefault(kind, warning)
    said = []
    for kind, those in frames.items():
        name, several = rows[0]["input"], len(rows) > 1
        where = f"{len(those)} of {len(rows)} frames" if len(those) > 1 else f"frame {those[0]}"
        said.append(f"{name}: {where}: {words[kind]}" if several else f"{name}: {words[kind]}")
    return said


def _line(row: dict[str, Any]) -> str:
    noise = row["noise"]
    head = f"{row['input']} [{row['frame']}] -> {row['output']}"
    if noise is None:
        return f"{head} (not denoised)"
    level = (
        f"read noise {noise['read_noise']:.3g}"
        if noise["kind"] == "gaussian"
        else f"{noise['dose']:.3g} e/px in vacuum"
    )
    return f"{head} ({noise['kind']}, {level}, {row['seconds']} s)"


def _size_words(row: dict[str, Any]) -> list[str]:
    """What a frame says of its pixel size; one that contradicts the given one is among the
    warnings."""
    size = row.get("pixel_size")
    return [] if size is None or size["contradicts"] else [size["words"]]

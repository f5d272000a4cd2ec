"""Rows of a benchmark: printed as they are made, and written when all are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gdn.storage import json_line

Row = dict[str, Any]


def printed(made: Iterable[Row], at: Path | None) -> list[Row]:
    """All rows, each printed at once; written to `at`, a file of lines (None: nowhere)."""
    rows: list[Row] = []
    for row in made:
        rows.append(row)
        print(json.dumps(row), flush=True)
    if at:
        at.write_text("".join(json_line(row) + "\n" for row in rows), encoding="utf-8")
    return rows

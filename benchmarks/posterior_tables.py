"""The table of posterior_restarts.py, from its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

Row = dict[str, Any]
COLUMNS = (
    "search",
    "mean",
    "weighted",
    "importance",
    "effective",
    "ratio",
    "within",
    "seconds",
)


def table(rows: list[Row], width: float = 1.0) -> str:
    """The means of the rows of one `width`, as Markdown."""
    lines = [f"| model | frames | poisson | N | n | {' | '.join(COLUMNS)} |"]
    lines.append("|---|---|--:|--:|--:|" + "--:|" * len(COLUMNS))
    mine = [row for row in rows if row["n"] and row["width"] == width]
    for key in dict.fromkeys((r["model"], r["group"], r["level"], r["n"]) for r in mine):
        here = [r for r in mine if (r["model"], r["group"], r["level"], r["n"]) == key]
        cells = " | ".join(f"{np.mean([r[name] for r in here]):.2f}" for name in COLUMNS)
        model, group, level, n = key
        lines.append(f"| `{model}` | {group} | {level:g} | {n:,} | {len(here)} | {cells} |")
    return "\n".join([*lines[:2], *sorted(lines[2:], key=_order)])


def _order(line: str) -> tuple[str, str, float, int]:
    cells = [cell.strip() for cell in line.split("|")[1:5]]
    return cells[0], cells[1], float(cells[2]), int(cells[3].replace(",", ""))

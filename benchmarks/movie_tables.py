"""The table of what `movies.py` measured."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from movie_measures import Row


def movie_table(rows: Iterable[Row]) -> str:
    """Markdown: for each dose and method one line over all movies; the last row of a movie counts.
    Of the truth it says what the detector does with clean frames."""
    latest = {(r["movie"], r["dose"], r["method"]): r for r in rows}
    groups: dict[tuple[float, str], list[Row]] = {}
    for (_, dose, method), row in latest.items():
        groups.setdefault((dose, method), []).append(row)
    lines = [
        "| dose | method | movies | frames | PSNR (sd) | 3 before | 3 after | n | found | invented"
        " | told: found | invented | lag (sd) |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (dose, method), group in sorted(groups.items(), key=lambda item: item[0][0]):
        frames = [v for r in group for v in r["psnr"]]
        before, after = (
            [v for r in group for v in r["event_psnr"][name]] for name in ("before", "after")
        )
        watched = [r["detected"] for r in group if r["detected"]]
        events, hits, invented = (
            sum(d[name] for d in watched) for name in ("events", "found", "invented")
        )
        lags = [lag for d in watched for lag in d["lags"]]
        plain = method == "truth"
        cells = [
            f"{dose:g}",
            method,
            str(len(group)),
            str(len(frames)),
            "" if plain else _spread(frames),
            "" if plain else _mean(before),
            "" if plain else _mean(after),
            str(len(before)),
            f"{hits} of {events}",
            str(invented),
            *_told(watched, events),
            _spread(lags),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(watched: list[Row], events: int) -> tuple[str, str]:
    """The cells of what the counts tell; rows of before it was measured have none."""
    if any("told_found" not in d for d in watched):
        return "-", "-"
    hits, invented = (sum(d[name] for d in watched) for name in ("told_found", "told_invented"))
    return f"{hits} of {events}", str(invented)


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "-"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.2f} ({np.std(values, ddof=1) if len(values) > 1 else 0:.2f})"

"""What a report shows of a stack: its values frame by frame, the drift, and the mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.report.charts import Line, lines
from gdn.report.ledger import Entry
from gdn.report.shares import PALETTE

Values = NDArray[np.float64]


def stacks_of(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The frames of each file of several."""
    groups = [list(group) for _, group in groupby(entries, key=lambda entry: entry.file)]
    return [group for group in groups if len(group) > 1]


def stack_section(entries: Sequence[Entry], movie: Mapping[str, Any] | None) -> str:
    """The section of a stack; `movie` is what its record says of it as a movie."""
    charts = [*_values(entries), *_mixture(entries), *_drift(movie)]
    words = _movie_words(movie)
    return (
        f"<section><h2>{escape(entries[0].file)}: {len(entries)} frames</h2>{words}"
        f'<div class="p">{"".join(charts)}</div></section>'
    )


def _values(entries: Sequence[Entry]) -> list[str]:
    frames = np.array([entry.frame for entry in entries], float)
    columns: list[tuple[str, list[float | None]]] = [
        ("dose, e/Å²", [e.row["dose"] / e.row["sampling_angstrom"] ** 2 for e in entries]),
        ("p of the generator", [e.row["explained_p"] for e in entries]),
        ("error expected, % of vacuum", [100 * e.expected_rms for e in entries]),
    ]
    charts = []
    for title, numbers in columns:
        values = np.array([np.nan if n is None else n for n in numbers], float)
        if np.isfinite(values).any():
            charts.append(lines([Line("", frames, values, "#0072b2")], title, "frame"))
    return charts


def _mixture(entries: Sequence[Entry]) -> list[str]:
    """Shares of the candidates, frame by frame."""
    mixed = [entry for entry in entries if entry.candidates]
    names = dict.fromkeys(line.name for entry in mixed for line in entry.candidates)
    if not names:
        return []
    frames = np.array([entry.frame for entry in mixed], float)
    drawn, colours = [], list(PALETTE.values())
    for number, name in enumerate(names):
        shares = [
            next((line.share for line in entry.candidates if line.name == name), 0.0)
            for entry in mixed
        ]
        known = PALETTE.get(name.rpartition(" ")[2], colours[number % len(colours)])
        colour = "#{:02x}{:02x}{:02x}".format(*known)
        drawn.append(Line(name, frames, 100 * np.array(shares), colour))
    return [lines(drawn, "contrast by candidate, %", "frame")]


def _drift(movie: Mapping[str, Any] | None) -> list[str]:
    if not movie or not movie.get("drift_angstrom"):
        return []
    drift: Values = np.array(movie["drift_angstrom"], float)
    frames = np.arange(len(drift), dtype=float)
    both = [
        Line("down", frames, drift[:, 0], "#0072b2"),
        Line("right", frames, drift[:, 1], "#d55e00"),
    ]
    return [lines(both, "drift, Å", "frame")]


def _movie_words(movie: Mapping[str, Any] | None) -> str:
    if movie is None:
        return "<p>Each frame was denoised by itself.</p>"
    if not movie.get("used"):
        return "<p>The frames say nothing of each other: each was denoised by itself.</p>"
    changes = sum(len(block.get("changes", ())) for block in movie.get("blocks", ()))
    return (
        f"<p>Each frame was denoised with its neighbours (up to {movie['window_frames']} frames). "
        f"Places in time where columns change: {changes}.</p>"
    )

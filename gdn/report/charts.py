"""Small charts as inline SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WIDTH, HEIGHT = 300, 170
LEFT, BOTTOM, TOP = 46, 30, 22
LEGEND = 14  # height of its line


@dataclass(frozen=True)
class Line:
    """A line of a chart: its `name` ('' for the only one), x and y (NaN: a gap), and colour."""

    name: str
    x: Values
    y: Values
    colour: str


def _frame(
    title: str,
    x_label: str,
    x: tuple[float, float],
    y: tuple[float, float],
    body: str,
    extra: int = 0,
) -> str:
    ticks = []
    for value in np.linspace(*x, 3):
        at = LEFT + (value - x[0]) / (x[1] - x[0]) * (WIDTH - LEFT - 8)
        ticks.append(
            f'<text x="{at:.0f}" y="{HEIGHT - 16}" text-anchor="middle">{value:.3g}</text>'
        )
    for value in np.linspace(*y, 3):
        at = HEIGHT - BOTTOM - (value - y[0]) / (y[1] - y[0]) * (HEIGHT - BOTTOM - TOP)
        ticks.append(f'<text x="{LEFT - 4}" y="{at + 4:.0f}" text-anchor="end">{value:.3g}</text>')
    axes = f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 8}" class="axis"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + extra}" width="{WIDTH}" height="{HEIGHT + extra}" '
        f'role="img" aria-label="{escape(title)}">'
        f'<text x="{LEFT}" y="13" class="t">{escape(title)}</text>{body}{axes}{"".join(ticks)}'
        f'<text x="{(WIDTH + LEFT) // 2}" y="{HEIGHT - 3}" '
        f'text-anchor="middle">{escape(x_label)}</text></svg>'
    )


def _path(x: Values, y: Values, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    px = LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - 8)
    py = (
        HEIGHT
        - BOTTOM
        - np.clip((y - y_range[0]) / (y_range[1] - y_range[0]), 0, 1) * (HEIGHT - BOTTOM - TOP)
    )
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(px, py, strict=True))


def histogram(values: Values, title: str, x_label: str) -> str:
    """Density of `values` from -5 to 5, with the normal law of variance 1."""
    edges = np.linspace(-5, 5, 51)
    density = np.histogram(values, edges, density=True)[0] if len(values) else np.zeros(50)
    middle = 0.5 * (edges[1:] + edges[:-1])
    normal = np.exp(-0.5 * middle**2) / np.sqrt(2 * np.pi)
    x_range, y_range = (-5.0, 5.0), (0.0, max(0.45, float(density.max()) * 1.05))
    steps = _path(np.repeat(edges, 2)[1:-1], np.repeat(density, 2), x_range, y_range)
    body = f'<path d="{steps}" fill="none" stroke="#0072b2" stroke-width="1.5"/>'
    body += (
        f'<path d="{_path(middle, normal, x_range, y_range)}" fill="none" '
        'stroke="#d55e00" stroke-dasharray="4 3"/>'
    )
    return _frame(title, x_label, x_range, y_range, body)


def ranked(values: Values, title: str, x_label: str) -> str:
    """`values` in order of their rank, from 1."""
    if len(values) < 2:
        return _frame(title, x_label, (1.0, 2.0), (0.0, 1.0), "")
    x = np.arange(1.0, len(values) + 1)
    y_range = (0.0, max(float(values.max()) * 1.05, 1e-6))
    x_range = (1.0, float(len(values)))
    line = (
        f'<path d="{_path(x, values, x_range, y_range)}" fill="none" stroke="#0072b2" '
        'stroke-width="1.5"/>'
    )
    return _frame(title, x_label, x_range, y_range, line)


def lines(drawn: Sequence[Line], title: str, x_label: str) -> str:
    """Lines over one axis, with a legend where there are several."""
    y = np.concatenate([line.y for line in drawn])
    x = np.concatenate([line.x for line in drawn])
    least, most = min(0.0, float(np.nanmin(y))), float(np.nanmax(y))
    y_range = (least, most if most > least else least + 1)
    x_range = (float(x.min()), max(float(x.max()), float(x.min()) + 1))
    body = []
    for number, line in enumerate(drawn):
        known = np.isfinite(line.y)
        path = _path(line.x[known], line.y[known], x_range, y_range)
        body.append(
            f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="1.5"/>'
            if known.sum() > 1
            else ""
        )
        if line.name:
            body.append(
                f'<text x="{LEFT}" y="{HEIGHT + LEGEND * (number + 1) - 4}" '
                f'style="fill:{line.colour}">{escape(line.name)}</text>'
            )
    named = sum(bool(line.name) for line in drawn)
    return _frame(title, x_label, x_range, y_range, "".join(body), LEGEND * named)

"""The tables of `mixture_error.py` and `planted.py`, from their rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Row = dict[str, Any]


def against_best_table(rows: Iterable[Row]) -> str:
    """The mixture against the candidate that is best by the truth: how much better in the mean, and
    how many frames are behind it, at all and by more than one and two standard errors."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for group in (row["group"], "all"):
            groups.setdefault((row["noise"], group), []).append(row)
    lines = [
        "| noise | frames | n | dB over the best: mean (worst) | behind | by one s.e. | by two |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (noise, group), group_rows in sorted(
        groups.items(), key=lambda item: (float(item[0][0].partition(":")[2]), item[0][1] == "all")
    ):
        best = np.array([min(row["candidates"].values()) for row in group_rows])
        mine = np.array([row["mixture"] for row in group_rows])
        behind = (mine - best) / np.array([max(row["standard_error"], 1e-30) for row in group_rows])
        gain = 10 * np.log10(best / mine)
        counts = " | ".join(str(int((behind > limit).sum())) for limit in (0, 1, 2))
        lines.append(
            f"| {noise} | {group} | {len(group_rows)} | {gain.mean():+.2f} ({gain.min():+.2f})"
            f" | {counts} |"
        )
    return "\n".join(lines)


PLANTED = ("vacancy", "adatom", "dopant")
SEEN = 3.0  # standard deviations of the noise: what is less, nobody can see


def planted_table(rows: Iterable[Row]) -> str:
    """Of defects that the counts can show: the part that is kept in the mean, with what the same
    measure gives at places without a defect; how many are lost; and how many are invented at all
    those places."""
    groups: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        key = float(row["noise"].partition(":")[2]), row["mode"]
        groups.setdefault(key, []).append(row)
    lines = [
        "| noise | mode | image | vacancies: kept | filled | adatoms: kept | lost"
        " | dopants: kept | lost | invented |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (level, mode), group_rows in sorted(groups.items()):
        for method in ("generator", "filter", "collaborative", "lattice", "restore", "mixture"):
            seen = {kind: _visible(group_rows, method, kind) for kind in PLANTED}
            cells = [cell for kind in PLANTED for cell in _kept_cells(seen[kind])]
            its = [field for kind in PLANTED for _, field in seen[kind]]
            invented, peers = (sum(field[name] for field in its) for name in ("invented", "peers"))
            lines.append(
                f"| poisson:{level:g} | {mode} | {method} | {' | '.join(cells)}"
                f" | {invented} of {peers} |"
            )
    return "\n".join(lines)


def _visible(rows: list[Row], method: str, kind: str) -> list[tuple[list[float], Row]]:
    """What each field has of a kind, where its defects can be seen; the parts kept first."""
    fields = [
        row["methods"][method][kind]
        for row in rows
        if kind in row["methods"][method] and np.mean(row["snr"][kind]) >= SEEN
    ]
    return [(field["kept"], field) for field in fields]


def _kept_cells(seen: list[tuple[list[float], Row]]) -> tuple[str, str]:
    """The mean part kept (at places without a defect), and how many are below a half."""
    if not seen:
        return "-", "-"
    kept = np.concatenate([parts for parts, _ in seen])
    elsewhere = np.mean([field["at_peers"] for _, field in seen])
    return f"{kept.mean():.2f} ({elsewhere:+.2f})", f"{(kept < 0.5).sum()} of {len(kept)}"


def blocks_table(rows: Iterable[Row]) -> str:
    """The collaborative filter under other settings (`blocks.py`): dB over the first variant, in
    the mean and the least, and its time, for each noise."""
    by_noise: dict[str, list[Row]] = {}
    for row in rows:
        by_noise.setdefault(row["noise"], []).append(row)
    lines = [
        "| filter alone | "
        + " | ".join(f"{noise}, n = {len(its)}" for noise, its in by_noise.items())
        + " | s/frame |",
        "|---|" + "--:|" * (len(by_noise) + 1),
    ]
    groups = list(by_noise.values())
    names = list(groups[0][0]["variants"])
    for name in names:
        cells = []
        for its in groups:
            first, own = ([row["variants"][key]["db"] for row in its] for key in (names[0], name))
            gain = np.subtract(own, first)
            cells.append(
                f"{np.mean(own):.2f} dB"
                if name == names[0]
                else f"{gain.mean():+.2f} ({gain.min():+.2f})"
            )
        seconds = np.mean([row["variants"][name]["seconds"] for its in groups for row in its])
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |")
    return "\n".join(lines)

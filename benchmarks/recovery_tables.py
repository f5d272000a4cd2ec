"""The tables of recovery_search.py, from its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

Row = dict[str, Any]
RECOVERED = 60.0  # dB


def decibels(loss: float, size: int) -> float:
    """PSNR of a picture of `size` values whose summed squared error is `loss`; range 2."""
    return float(-10 * np.log10(max(loss, 1e-20) / size / 4))


def recovery_table(rows: list[Row]) -> str:
    """Loss, PSNR, share recovered and time of each test and search."""
    lines = [
        "| pictures | trained on | test | search | n | loss of the best start | loss, mean |"
        " median | PSNR dB, median | least | recovered | s a target, median |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key in sorted({(r["set"], r["test"], r["method"], r["images"]) for r in rows}):
        here = [r for r in rows if (r["set"], r["test"], r["method"], r["images"]) == key]
        loss, psnr, before, seconds = (
            np.array([r[k] for r in here]) for k in ("loss", "psnr_db", "before", "seconds")
        )
        name, test, method, images = key
        lines.append(
            f"| {name} | {images:,} | {test} | {method} | {len(here)} | {before.mean():.0f} | "
            f"{loss.mean():.2g} | {np.median(loss):.2g} | {np.median(psnr):.1f} | "
            f"{psnr.min():.1f} | {(psnr > RECOVERED).mean():.0%} | {np.median(seconds):.1f} |"
        )
    return "\n".join(lines)


def speed_table(rows: list[Row]) -> str:
    """gdn against the study's search on the targets that both have done."""
    lines = [
        "| pictures | test | n | gdn no worse | lead dB: mean | least | times faster, median |"
        " least |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, test in sorted({(r["set"], r["test"]) for r in rows}):
        here = [r for r in rows if (r["set"], r["test"]) == (name, test)]
        mine, theirs = (
            {r["target"]: r for r in here if r["method"] == method} for method in ("gdn", "study")
        )
        if both := sorted(set(mine) & set(theirs)):
            # What both recover is equal: beyond 60 dB only rounding differs.
            lead = np.array(
                [
                    min(mine[t]["psnr_db"], RECOVERED) - min(theirs[t]["psnr_db"], RECOVERED)
                    for t in both
                ]
            )
            faster = np.array([theirs[t]["seconds"] / mine[t]["seconds"] for t in both])
            lines.append(
                f"| {name} | {test} | {len(both)} | {(lead > -0.01).mean():.0%} | "
                f"{lead.mean():.2f} | {lead.min():.2f} | {np.median(faster):.0f} | "
                f"{faster.min():.0f} |"
            )
    return "\n".join(lines)

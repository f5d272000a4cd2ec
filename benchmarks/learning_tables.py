"""The tables of learning_curve.py, adapting.py and learning_starts.py from their rows; without
torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def curve_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: for each measure and class one line, a column for each point of the curve."""
    lines = ["| | class | n | " + " | ".join(_title(r) for r in rows) + " |"]
    lines.append("|---|---|--:|" + "--:|" * len(rows))
    for measured, groups in rows[0]["db"].items():
        for group in sorted(groups):
            cells = [
                f"{np.mean(r['db'][measured][group]):.2f}"
                if group in r["db"].get(measured, {})
                else "-"
                for r in rows
            ]
            head = f"| {measured} | {group} | {len(groups[group])} | "
            lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def _title(row: dict[str, Any]) -> str:
    return f"{row['name']}, {row['patches'] or 0:,}"


def adapting_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each frame, and the mean."""
    budgets = [name for name in rows[0] if name.endswith(" s")]
    head = "| frame | noise | gdn | " + " | ".join(f"{b} | share" for b in budgets) + " |"
    lines = [head, "|---|---|--:|" + "--:|--:|" * len(budgets)]
    for row in rows:
        cells = [f"{row[b]['db']:.2f} | {row[b]['share']:.0%}" for b in budgets]
        start = f"| {row['name']} | {row['noise']} | {row['alone']:.2f} | "
        lines.append(start + " | ".join(cells) + " |")
    means = [f"{np.mean([r[b]['db'] for r in rows]):.2f} | " for b in budgets]
    alone = np.mean([r["alone"] for r in rows])
    return "\n".join([*lines, f"| mean | | {alone:.2f} | " + " | ".join(means) + " |"])


def starts_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each start and time: PSNR alone less gdn's, that of the mixture less
    gdn's, the mean and the least of the frames."""
    lines = [
        "| start | s of a core | steps | n | alone, dB over gdn: mean (least) "
        "| mixed: mean (least) |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for start, seconds in dict.fromkeys((r["start"], r["seconds"]) for r in rows):
        same = [r for r in rows if (r["start"], r["seconds"]) == (start, seconds)]
        steps = round(float(np.mean([r["steps"] for r in same])))
        cells = []
        for key in ("alone", "mixed"):
            gain = [r[key] - r["gdn"] for r in same]
            cells.append(f"{np.mean(gain):+.2f} ({min(gain):+.2f})")
        lines.append(
            f"| {start} | {seconds:g} | {steps} | {len(same)} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def held_out_table(rows: list[dict[str, Any]]) -> str:
    """Markdown of recording_held_out.py: squared errors in per cent of the contrast's, each with
    its standard error."""

    def db(share: float) -> str:
        return f"{-10 * np.log10(share):.1f}" if share > 0 else "∞"

    against = rows[0]["against"]
    lines = [
        "| parts divided by | method | squared error, % of the contrast's | dB over constant "
        f"(one s.e.) | better than {against} by, % | by the other frames, % |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        error, spread = row["error"], row["error_se"]
        gains = [
            "{:+.2f} ± {:.2f}".format(*(100 * v for v in row[key])) if key in row else ""
            for key in ("gain", "gain_by_others")
        ]
        lines.append(
            f"| {row['split']} | {row['method']} | {100 * error:.2f} ± {100 * spread:.2f} | "
            f"{db(error)} ({db(error + spread)} to {db(error - spread)}) | {' | '.join(gains)} |"
        )
    return "\n".join(lines)

"""The tables of learning_curve.py, one_more.py, adapting.py and learning_starts.py from their rows;
without torch."""

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
    """Markdown: a line for each frame and time of learning, and the mean of each noise."""
    lines = [
        "| frame | noise | learned for | gdn | with learning | gain | tuned | anew |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    gains: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        for budget, result in row.items():
            if not isinstance(result, dict) or "db" not in result:
                continue
            shares = " | ".join(f"{share:.0%}" for share in result["shares"].values())
            alone, learned = row["alone"], result["db"]
            lines.append(
                f"| {row['name']} | {row['noise']} | {budget} | {alone:.2f} | {learned:.2f} | "
                f"{learned - alone:+.2f} | {shares} |"
            )
            gains.setdefault((row["noise"], budget), []).append((alone, learned))
    for (noise, budget), pairs in gains.items():
        alone, learned = np.mean(pairs, 0)
        lines.append(
            f"| mean of {len(pairs)} | {noise} | {budget} | {alone:.2f} | {learned:.2f} | "
            f"{learned - alone:+.2f} | | |"
        )
    return "\n".join(lines)


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


def one_more_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: for each noise and class the mean PSNR with either generator, with the one that
    auto chooses, and with the better one; how often auto takes the second; auto's time."""
    first, second = rows[0]["models"]
    lines = [
        f"| noise | class | n | {first} | {second} | auto | chosen by truth "
        f"| auto takes the second | auto's time / that of its generator alone |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for noise in dict.fromkeys(row["noise"] for row in rows):
        of_noise = [row for row in rows if row["noise"] == noise]
        for group in [*sorted({row["group"] for row in of_noise}), "all"]:
            some = [row for row in of_noise if group in ("all", row["group"])]
            values = [
                *([row["db"][i] for row in some] for i in (0, 1)),
                [row["db"][row["chosen"]] for row in some],
                [max(row["db"]) for row in some],
            ]
            alone = sum(row["seconds"][row["chosen"]] for row in some)
            ratio = 1 + sum(row["choosing"] for row in some) / alone
            means = " | ".join(f"{np.mean(v):.2f}" for v in values)
            taken = sum(row["chosen"] for row in some)
            lines.append(f"| {noise} | {group} | {len(some)} | {means} | {taken} | {ratio:.2f} |")
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

"""The tables and the plot of what `cost.py` measured. The last line of a measurement counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, int, int, str, int]

PARTS = {  # of the record, and how the page calls them
    "start": "start, files",
    "prepare": "noise",
    "score": "bank",
    "refine": "refine",
    "beyond": "beyond",
    "mixture": "mixture",
    "judge": "judge",
}
RIVALS = {
    "gdn": "gdn",
    "bm3d": "BM3D, binned",
    "bmnd": "bmnd",
    "topaz": "Topaz",
    "tk_r_em": "tk_r_em",
}
WIDTH, HEIGHT, DPI = 9.0, 3.8, 90  # of the plot, inches


def key_of(row: Row) -> Key:
    """What tells a measurement from the others."""
    return row["method"], row["frames"], row["side"], row["options"], row["seed"]


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last line of each measurement, in order of frames, pixels and options."""
    kept = {key_of(row): row for row in rows}
    return sorted(kept.values(), key=lambda row: (row["frames"], row["side"], row["options"]))


def frames_table(rows: Iterable[Row]) -> str:
    """Markdown: gdn on one frame of each size, and the share of each part in the clock's time."""
    lines = [
        "| frame, px | options | CPU s | CPU s a Mpx | clock s | peak MiB | "
        + " | ".join(f"{words} %" for words in PARTS.values())
        + " |",
        "|--:|---|" + "--:|" * (4 + len(PARTS)),
    ]
    for row in latest(rows):
        if row["method"] != "gdn" or row["frames"] > 1:
            continue
        shares = [f"{100 * share:.0f}" for share in shares_of(row)]
        million = row["side"] ** 2 / 1e6
        cells = [
            f"{row['side']}x{row['side']}",
            code(row["options"]),
            f"{row['cpu_seconds']:.1f}",
            f"{row['cpu_seconds'] / million:.1f}",
            f"{row['wall_seconds']:.1f}",
            f"{row['peak_mib']:,}",
            *(shares or [row["failed"], *[""] * (len(PARTS) - 1)]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shares_of(row: Row) -> list[float]:
    """The share of each of PARTS in the clock's time; nothing where the command failed."""
    if "failed" in row:
        return []
    parts = row["parts"]
    outside = row["wall_seconds"] - sum(parts.values())
    seconds = {"start": outside, **parts}
    return [seconds.get(name, 0.0) / row["wall_seconds"] for name in PARTS]


def stacks_table(rows: Iterable[Row]) -> str:
    """Markdown: gdn on stacks."""
    lines = [
        "| frames | px | options | CPU s | CPU s a frame | clock s | peak MiB | |",
        "|--:|--:|---|--:|--:|--:|--:|---|",
    ]
    for row in latest(rows):
        if row["method"] != "gdn" or "--movie" not in row["options"]:
            continue
        cells = [
            f"{row['frames']:,}",
            f"{row['side']}x{row['side']}",
            code(row["options"]),
            f"{row['cpu_seconds']:.1f}",
            f"{row['cpu_seconds'] / row['frames']:.2f}",
            f"{row['wall_seconds']:.1f}",
            f"{row['peak_mib']:,}",
            row.get("failed", ""),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rivals_table(rows: Iterable[Row]) -> str:
    """Markdown: gdn and the rivals at the sizes that the rivals were given."""
    some = [row for row in latest(rows) if row["frames"] == 1 and not row["options"]]
    sides = sorted({row["side"] for row in some if row["method"] != "gdn"})
    lines = [
        "| CPU s / peak MiB | Å a pixel | " + " | ".join(f"{n}x{n}" for n in sides) + " |",
        "|---|--:|" + "--:|" * len(sides),
    ]
    for method, words in RIVALS.items():
        of_method = {row["side"]: row for row in some if row["method"] == method}
        if not of_method:
            continue
        angstrom = [f"{row['angstrom']:.2f}" for row in of_method.values() if "angstrom" in row]
        cells = [rival_cell(of_method[side]) if side in of_method else "" for side in sides]
        lines.append("| " + " | ".join([words, *(angstrom[:1] or [""]), *cells]) + " |")
    return "\n".join(lines)


def rival_cell(row: Row) -> str:
    """Seconds and memory, and why it failed."""
    cell = f"{row['cpu_seconds']:.1f} / {row['peak_mib']:,}"
    return f"{cell}: {row['failed']}" if "failed" in row else cell


def code(options: str) -> str:
    """Options as code; nothing where there are none."""
    return f"`{options}`" if options else ""


def lines_of_plot(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Measurements that ended, by the label of their line."""
    lines: dict[str, list[Row]] = {}
    for row in latest(rows):
        label = RIVALS[row["method"]]
        if "--movie" in row["options"]:
            label += f", stack, {row['options']}"
        elif row["options"]:
            label += f" {row['options']}"
        if "failed" not in row:
            lines.setdefault(label, []).append(row)
    return lines


def plot(rows: Iterable[Row], path: Path) -> None:
    """Processor seconds and peak memory against pixels, both axes logarithmic. Writes PNG or SVG,
    as the name of `path` ends."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    from PIL import Image

    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained")
    for axis, name in zip(axes, ("cpu_seconds", "peak_mib"), strict=True):
        for label, some in lines_of_plot(rows).items():
            pixels = [row["frames"] * row["side"] ** 2 for row in some]
            style = "o-" if label == "gdn" else ("s--" if label.startswith("gdn") else ".:")
            axis.loglog(pixels, [row[name] for row in some], style, markersize=4, label=label)
        axis.set_xlabel("pixels, of all frames")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("processor seconds")
    axes[1].set_ylabel("peak memory, MiB")
    axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    if path.suffix == ".png":  # lines of a few colours: a third of the bytes
        with Image.open(path) as picture:
            few = picture.convert("RGB").quantize(64)
        few.save(path, optimize=True)

"""The tables of benchmarks/rivals.py from its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
METHODS = (
    "constant",
    "blur",
    "bm3d-binned",
    "bmnd",
    "topaz",
    "zs-n2n",
    "noise2self",
    "n2v2",
    "tk_r_em",
    "gdn",
)
GROUPS = {
    "pt-ceo2": "far: Pt/CeO2",
    "other": "far: other crystals",
    "own": "validation: own conditions",
    "bright": "validation: bright columns",
    "crystals": "validation: other crystals",
}


def rows_of(path: Path) -> list[Row]:
    """The last line of each frame, noise and method that gave an image."""
    return [row for row in last_lines(path) if "failed" not in row]


def last_lines(path: Path) -> list[Row]:
    """The last line of each frame, noise and method; failures too."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return list({(r["frame"], r["noise"], r["method"]): r for r in map(json.loads, lines)}.values())


def failures(rows: list[Row]) -> Iterator[str]:
    """A line for each method that failed, with what it said first."""
    for method in dict.fromkeys(r["method"] for r in rows if "failed" in r):
        mine = [r for r in rows if r["method"] == method and "failed" in r]
        yield f"{method} failed on {len(mine)} frames: {mine[0]['failed']}"


def mean_of(rows: list[Row], key: str) -> str:
    """Mean of one of the column scores over the frames that have it."""
    values = [r["columns"][key] for r in rows if r["columns"][key] is not None]
    return f"{np.mean(values):.{2 if key == 'f1' else 1}f}" if values else "-"


def invented(rows: list[Row]) -> str:
    """Mean share of the columns drawn that the clean image has not, in periodic fields, per
    cent."""
    values = [
        1 - r["columns"]["precision"] for r in rows if r["periodic"] and r["columns"]["recall"]
    ]
    return f"{100 * np.mean(values):.1f}" if values else "-"


def vacuum(rows: list[Row]) -> str:
    """Mean rms error of the vacuum, per cent of it, over the frames that have one."""
    values = [r["vacuum_percent"] for r in rows if r.get("vacuum_percent") is not None]
    return f"{np.mean(values):.2f}" if values else "-"


def defect_count(rows: list[Row], kind: str, lost: bool) -> str:
    """'3/16': defects lost or made, of those there or of the like sites, summed over frames."""
    counts = [r["defects"][kind] for r in rows if kind in r["defects"]]
    part, whole = ("lost", "there") if lost else ("made", "like")
    return f"{sum(f[part] for f in counts)}/{sum(f[whole] for f in counts)}" if counts else "-"


def halves(rows: list[Row]) -> Iterator[str]:
    """One table for each noise and half."""
    for noise, group in dict.fromkeys((r["noise"], r["group"]) for r in rows):
        here = [r for r in rows if (r["noise"], r["group"]) == (noise, group)]
        count = len({r["frame"] for r in here})
        yield (
            f"| {GROUPS[group]}, {noise}, n = {count} | PSNR dB (sd) | worst | SSIM | "
            "column F1 | bias pm | rms pm | invented % | vacuum rms %"
            " | vacancies filled | made | adatoms lost | made | s/frame |\n|---|" + "--:|" * 13
        )
        for method in dict.fromkeys(r["method"] for r in here):
            mine = [r for r in here if r["method"] == method]
            db = np.array([r["psnr_db"] for r in mine])
            cells = [
                f"{method}{f' ({len(mine)} frames)' if len(mine) < count else ''}",
                f"{db.mean():.2f} ({db.std(ddof=1) if len(db) > 1 else 0:.2f})",
                f"{db.min():.2f}",
                f"{np.mean([r['ssim'] for r in mine]):.3f}",
                *(mean_of(mine, key) for key in ("f1", "bias_pm", "rms_pm")),
                invented(mine),
                vacuum(mine),
                *(
                    defect_count(mine, kind, lost)
                    for kind in ("vacancies", "adatoms")
                    for lost in (True, False)
                ),
                f"{np.mean([r['seconds'] for r in mine]):.1f}",
            ]
            yield f"| {' | '.join(cells)} |"
        yield ""


def leads(rows: list[Row], methods: list[str]) -> Iterator[str]:
    """The last method's gain over each of the others on the same frames, by half."""
    last = methods[-1]
    by = {(r["noise"], r["group"], r["frame"], r["method"]): r["psnr_db"] for r in rows}
    yield (
        f"| {last} minus, dB: mean (least), ahead on | "
        + " | ".join(methods[:-1])
        + " |\n|---|"
        + "--:|" * (len(methods) - 1)
    )
    for noise, group in dict.fromkeys((r["noise"], r["group"]) for r in rows):
        cells = []
        for method in methods[:-1]:
            frames = [
                k[2]
                for k in by
                if k[:2] == (noise, group) and k[3] == last and (noise, group, k[2], method) in by
            ]
            gain = np.array(
                [by[noise, group, f, last] - by[noise, group, f, method] for f in frames]
            )
            cells.append(
                f"{gain.mean():+.2f} ({gain.min():+.2f}), {(gain > 0).sum()} of {len(gain)}"
                if len(gain)
                else "-"
            )
        yield f"| {GROUPS[group]}, {noise} | {' | '.join(cells)} |"
    yield ""


def classes(rows: list[Row], methods: list[str]) -> Iterator[str]:
    """Mean PSNR by kind of image: contrast class of Pt/CeO2, mode of the others."""
    yield "| PSNR dB, SSIM | n | " + " | ".join(methods) + " |\n|---|" + "--:|" * (1 + len(methods))
    kinds = dict.fromkeys(
        (r["noise"], r["group"], r["contrast" if r["group"] == "pt-ceo2" else "mode"]) for r in rows
    )
    for noise, group, kind in kinds:
        mine = [
            r
            for r in rows
            if (r["noise"], r["group"]) == (noise, group) and kind in (r["contrast"], r["mode"])
        ]
        mine = [r for r in mine if r["contrast" if group == "pt-ceo2" else "mode"] == kind]
        cells = [
            f"{np.mean([r['psnr_db'] for r in m]):.2f}, {np.mean([r['ssim'] for r in m]):.3f}"
            if m
            else "-"
            for m in ([r for r in mine if r["method"] == name] for name in methods)
        ]
        yield (
            f"| {GROUPS[group]}, {kind}, {noise} | {len({r['frame'] for r in mine})} | "
            f"{' | '.join(cells)} |"
        )
    yield ""


def single_frames(rows: list[Row], methods: list[str]) -> Iterator[str]:
    """PSNR of every frame."""
    by = {(r["frame"], r["noise"], r["method"]): r["psnr_db"] for r in rows}
    yield "| PSNR dB | " + " | ".join(methods) + " |\n|---|" + "--:|" * len(methods)
    for frame, noise in dict.fromkeys((r["frame"], r["noise"]) for r in rows):
        cells = [f"{by[frame, noise, m]:.2f}" if (frame, noise, m) in by else "-" for m in methods]
        yield f"| {frame}, {noise} | {' | '.join(cells)} |"


LOSSES = ((-np.inf, 0.0), (0.0, 1.0), (1.0, 3.0), (3.0, np.inf))  # dB


def judged(rows: list[Row]) -> list[Row]:
    """gdn's rows that have a p, with `behind`, dB to the best rival of the frame, and `over_blur`,
    dB gained over the best blur."""
    by: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        by.setdefault((row["frame"], row["noise"]), {})[row["method"]] = row["psnr_db"]
    chosen = []
    for row in rows:
        if row["method"] == "gdn" and row.get("explained_p") is not None:
            there = by[row["frame"], row["noise"]]
            rivals = [there[m] for m in METHODS if m in there and m != "gdn"]
            own = row["psnr_db"]
            if "blur" in there:  # one of the rivals
                chosen.append(row | {"behind": max(rivals) - own, "over_blur": own - there["blur"]})
    return chosen


def alarms(rows: list[Row]) -> Iterator[str]:
    """How far gdn is behind the best rival of a frame, against gdn's p."""
    mine = judged(rows)
    yield "| gdn behind the best rival by, dB | frames | median p | p < 0.05 | p < 0.01 |"
    yield "|---|--:|--:|--:|--:|"
    for low, high in LOSSES:
        p = np.array([r["explained_p"] for r in mine if low <= r["behind"] < high])
        if len(p):
            words = "not behind" if np.isinf(low) else f"{low:g} to {high:g}"
            words = f"more than {low:g}" if np.isinf(high) else words
            cells = f"{np.median(p):.3f} | {np.mean(p < 0.05):.0%} | {np.mean(p < 0.01):.0%}"
            yield f"| {words} | {len(p)} | {cells} |"
    yield ""


def standings(rows: list[Row]) -> Iterator[str]:
    """What images of each standing were worth, by the truth."""
    yield (
        "| standing | frames | dB over the best blur, mean | least | dB behind the best rival, mean"
        " | most |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    whole = judged(rows)
    for name in ("explained", "filtered", "unsupported"):
        mine = [r for r in whole if r.get("standing") == name]
        if mine:
            over, behind = (np.array([r[key] for r in mine]) for key in ("over_blur", "behind"))
            yield (
                f"| {name} | {len(mine)} | {over.mean():.2f} | {over.min():.2f} | "
                f"{behind.mean():.2f} | {behind.max():.2f} |"
            )
    yield ""


def in_order(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows by group and method, and the methods: models that have a label of their own come before
    gdn, which comes last."""
    names = list(dict.fromkeys(r["method"] for r in rows))
    methods = sorted(
        names,
        key=lambda name: METHODS.index(name) if name in METHODS else METHODS.index("gdn") - 0.5,
    )
    return sorted(
        rows, key=lambda r: (r["group"] != "pt-ceo2", methods.index(r["method"]))
    ), methods


def tables(path: Path) -> dict[str, str]:
    """Every table of the rows in a file, by name."""
    rows, methods = in_order(rows_of(path))
    parts = {
        "halves": halves(rows),
        "leads": leads(rows, methods),
        "classes": classes(rows, methods),
        "single": single_frames(rows, methods),
        "alarms": alarms(rows),
        "standings": standings(rows),
        "failures": failures(last_lines(path)),
    }
    return {name: "\n".join(lines).strip() for name, lines in parts.items()}


BEFORE = "gdn before"  # with the collaborative filter as it was first


def kin_table(rows: list[Row]) -> str:
    """Frames of the far set's kind (`kin.py`): mean PSNR of each method, and gdn's lead over it:
    mean, least, and on how many frames."""
    methods = ("bm3d-binned", "bmnd", "tk_r_em", BEFORE, "gdn")
    lines = ["| PSNR dB: gdn minus it, mean (least), ahead on | " + " | ".join(methods) + " |"]
    lines.append("|---|" + "--:|" * len(methods))
    for noise in dict.fromkeys(row["noise"] for row in rows):
        for group, words in (("pt-ceo2", "Pt/CeO2"), ("other", "other crystals")):
            by: dict[str, dict[str, float]] = {}
            for row in rows:
                if (row["noise"], row["group"]) == (noise, group):
                    by.setdefault(row["method"], {})[row["frame"]] = row["psnr_db"]
            own = by["gdn"]
            cells = []
            for method in methods:
                if method not in by:
                    cells.append("-")
                    continue
                mean = f"{np.mean([by[method][f] for f in own]):.2f}"
                lead = np.array([own[f] - by[method][f] for f in own])
                words_of_lead = f": {lead.mean():+.2f} ({lead.min():+.2f}), {int((lead > 0).sum())}"
                cells.append(mean + ("" if method == "gdn" else words_of_lead))
            lines.append(f"| {words}, {noise}, n = {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)

"""Write the tables of the pages from the rows in docs/results, or check that they are current
(--check).

A page holds `<!-- table: NAME -->`, an empty line, the table, an empty line, `<!-- end of table
-->`. What lies between is written here. Nothing is denoised, and neither torch nor abTEM is needed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
sys.path.insert(0, str(HERE.parent / "benchmarks"))

import camera  # noqa: E402 - benchmarks are no package
import cost_tables  # noqa: E402
import generator_table  # noqa: E402
import ghosts  # noqa: E402
import handled  # noqa: E402
import learning_tables  # noqa: E402
import mixture_tables  # noqa: E402
import movie_tables  # noqa: E402
import numpy as np  # noqa: E402
import own_specimen  # noqa: E402
import pixel_size  # noqa: E402
import posterior_tables  # noqa: E402
import recovery_tables  # noqa: E402
import rivals_tables  # noqa: E402
import small_fields  # noqa: E402
import suite  # noqa: E402
import trust_tables  # noqa: E402
from experiments import kept_runs  # noqa: E402

from gdn.evaluation.evaluate import table  # noqa: E402

Row = dict[str, Any]
PLACE = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def rows(name: str) -> list[Row]:
    """The rows of a file in docs/results."""
    return [
        json.loads(line)
        for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def suite_rows() -> list[Row]:
    """Of the comparison on whole frames: one for each frame, noise and method."""
    return [row for row in rows("suite") if "pair" not in row]


def alike_rows() -> list[Row]:
    """Of the comparison on whole frames: one for each frame, method and pair of doses."""
    return [row for row in rows("suite") if "pair" in row]


def original() -> str:
    """The original method, shortened, beside gdn."""
    lines = [
        "| poisson:1, n = 20 | PSNR dB (sd) | worst | SSIM | column F1 | s/frame |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for line in table(rows("original")).splitlines()[2:]:
        _, method, _, *cells = line.split(" | ")
        lines.append(
            f"| {'original, 300 passes a tile' if method == 'original' else method} | "
            f"{' | '.join(cells)}"
        )
    return "\n".join(lines)


def class_spread() -> str:
    """How far the mean PSNR of the contrast classes is apart, at every dose."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in [*rows("contrast"), *rows("contrast-curve")]:
        found.setdefault((row["method"], row["noise"], row["contrast"]), []).append(row["psnr_db"])
    noises = sorted({key[1] for key in found}, key=lambda noise: float(noise.partition(":")[2]))
    lines = [
        "| spread over the classes, dB | " + " | ".join(noises) + " |",
        "|---|" + "--:|" * len(noises),
    ]
    for method in ("gdn", "blur"):
        means = [
            [float(np.mean(v)) for key, v in found.items() if key[:2] == (method, noise)]
            for noise in noises
        ]
        lines.append(f"| {method} | " + " | ".join(f"{max(m) - min(m):.2f}" for m in means) + " |")
    return "\n".join(lines)


def far(name: str) -> str:
    """One of the tables of the far set."""
    return rivals_tables.tables(RESULTS / "rivals.jsonl")[name]


def far_short() -> str:
    """The far set in two lines."""
    names = {"bm3d-binned": "BM3D at its best"}
    lines = {
        "pt-ceo2": "twelve of Pt/CeO2: bright, dark, intermediate columns",
        "other": "twenty of sixteen other specimens, HRTEM, HAADF, ABF",
    }
    found = [
        row
        for row in rivals_tables.rows_of(RESULTS / "rivals.jsonl")
        if row["noise"] == "poisson:1"
    ]
    frames = {row["frame"] for row in found}
    methods = [  # those that were given every frame
        method
        for method in rivals_tables.METHODS
        if {row["frame"] for row in found if row["method"] == method} == frames
    ]
    text = [
        "| mean (worst) | " + " | ".join(names.get(m, m) for m in methods) + " |",
        "|---|" + "--:|" * len(methods),
    ]
    for group, words in lines.items():
        values = [
            [row["psnr_db"] for row in found if (row["group"], row["method"]) == (group, m)]
            for m in methods
        ]
        text.append(
            f"| {words} | "
            + " | ".join(f"{np.mean(v):.1f} ({np.min(v):.1f})" for v in values)
            + " |"
        )
    return "\n".join(text)


def generators() -> str:
    """The shipped generators."""
    return generator_table.table(rows("generators"))


def experiments() -> str:
    """The experiments on the generator."""
    return generator_table.table(
        [kept["row"] for kept in kept_runs(RESULTS / "experiments.jsonl").values()]
    )


def without_noises(text: str) -> str:
    """A table of coverage without its lines for each noise."""
    kept = [line for line in text.splitlines() if not re.match(r"\| (poisson|gaussian):", line)]
    return "\n".join(kept).replace(
        "| truth inside, % (s.e.) |", "| truth inside, % (s.e.), six noises |"
    )


def far_coverage() -> str:
    """Coverage on the far set, for each of its two parts."""
    names = {"far pt-ceo2": "far: Pt/CeO2", "far other": "far: other crystals"}
    lines = trust_tables.coverage_table(rows("trust-far")).splitlines()
    kept = [
        line.replace(old, new)
        for line in lines
        for old, new in names.items()
        if line.startswith(f"| {old} |")
    ]
    return "\n".join([*lines[:2], *kept])


def adapted_coverage() -> str:
    """Coverage of results of which something was learned, for test structures and the far set, each
    noise; and the false columns among those called present."""
    lines = [
        "| frames | noise | n | 68 %: inside (s.e.) | 90 % | true / expected error, median "
        "| false among present, % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, is_far in (("test structures", False), ("far set", True)):
        for noise in ("poisson:0.1", "poisson:1", "poisson:10"):
            some = [
                row
                for row in rows("trust-adapted")
                if row["noise"] == noise and is_far == any("far" in kind for kind in row["inside"])
            ]
            share, error, n = trust_tables.coverage(some, None)
            ratio = sorted(row["rms"] / row["expected_rms"] for row in some)[len(some) // 2]
            called = [row["columns"]["drawn"]["present"] for row in some if row["columns"]]
            present, true = (sum(counts[i] for counts in called) for i in (0, 1))
            lines.append(
                f"| {name} | {noise} | {n} | {share[1]:.1f} ({error[1]:.1f}) "
                f"| {share[2]:.1f} ({error[2]:.1f}) | {ratio:.2f} "
                f"| {100 * (1 - true / max(present, 1)):.1f} |"
            )
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "suite-short": lambda: suite.short_table(suite_rows()),
    "suite-lead": lambda: suite.lead_table(suite_rows()),
    "suite-all": lambda: table(suite_rows()),
    "suite-doses": lambda: suite.alike_table(alike_rows()),
    "suite-classes": lambda: suite.class_table(suite_rows()),
    "contrast": lambda: suite.class_table(rows("contrast")),
    "contrast-spread": class_spread,
    "original": original,
    "far-short": far_short,
    "learning-curve": lambda: learning_tables.curve_table(rows("learning_curve")),
    "learning-curve-small": lambda: learning_tables.curve_table(rows("learning_curve_small")),
    "one-more": lambda: learning_tables.one_more_table(rows("one-more")),
    "recording-held-out": lambda: learning_tables.held_out_table(rows("recording-held-out")),
    "learning-starts": lambda: learning_tables.starts_table(rows("learning-starts")),
    "adapting-near": lambda: learning_tables.adapting_table(rows("adapting-near")),
    "movies": lambda: movie_tables.movie_table(rows("movies")),
    "movies-far": lambda: movie_tables.movie_table(rows("movies-far")),
    "planted": lambda: mixture_tables.planted_table(rows("planted")),
    "blocks": lambda: mixture_tables.blocks_table(rows("blocks")),
    "kin": lambda: rivals_tables.kin_table(rows("kin")),
    "mixture-best": lambda: mixture_tables.against_best_table(rows("mixture-best")),
    "adapting": lambda: learning_tables.adapting_table(rows("adapting")),
    "far-halves": lambda: far("halves"),
    "far-leads": lambda: far("leads"),
    "far-classes": lambda: far("classes"),
    "far-frames": lambda: far("single"),
    "far-alarms": lambda: far("alarms"),
    "far-standings": lambda: far("standings"),
    "generators": generators,
    "experiments": experiments,
    "trust-intervals": lambda: trust_tables.coverage_table(rows("trust")),
    "trust-errors": lambda: trust_tables.error_table(rows("trust")),
    "trust-columns": lambda: trust_tables.columns_table(rows("trust")),
    "trust-fit": lambda: trust_tables.fit_table(rows("trust")),
    "trust-scores": lambda: trust_tables.scores_table(rows("trust")),
    "trust-mixture": lambda: without_noises(trust_tables.coverage_table(rows("trust-mixture"))),
    "ghosts": lambda: ghosts.comparison(rows("ghosts-before"), rows("ghosts-after")),
    "own-specimen": lambda: own_specimen.table(rows("own-specimen")),
    "small-fields": lambda: small_fields.table(
        rows("small-fields-after"), rows("small-fields-before")
    ),
    "pixel-size": lambda: pixel_size.table(rows("pixel-size")),
    "recovery": lambda: recovery_tables.recovery_table(rows("recovery")),
    "recovery-speed": lambda: recovery_tables.speed_table(rows("recovery")),
    "posterior": lambda: posterior_tables.table(rows("posterior")),
    "cost-frames": lambda: cost_tables.frames_table(rows("cost")),
    "cost-stacks": lambda: cost_tables.stacks_table(rows("cost")),
    "cost-rivals": lambda: cost_tables.rivals_table(rows("cost")),
    "camera": lambda: camera.table(rows("camera")),
    "handled": lambda: handled.table(rows("handled")),
    "straighten": lambda: handled.straightening_table(rows("straighten")),
    "trust-far": far_coverage,
    "trust-adapted": adapted_coverage,
}


def main() -> int:
    """Write or check; returns the exit code."""
    check, faults, shown = "--check" in sys.argv, [], set()
    for page in [HERE.parent / "README.md", *sorted(HERE.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        unknown = [name for _, name, _, _ in PLACE.findall(text) if name not in TABLES]
        faults += [
            f"{page}: no table '{name}'; docs/tables.py has {', '.join(TABLES)}" for name in unknown
        ]
        if unknown:
            continue
        shown |= {name for _, name, _, _ in PLACE.findall(text)}
        found = PLACE.sub(
            lambda place: f"{place[1]}\n{TABLES[place[2]]().strip()}\n\n{place[4]}", text
        )
        if found != text and check:
            faults.append(
                f"{page}: a table is not what docs/results says; run 'python docs/tables.py'"
            )
        elif found != text:
            page.write_text(found, encoding="utf-8")
    faults += [
        f"docs/tables.py: no page shows the table '{name}'" for name in TABLES if name not in shown
    ]
    print("\n".join(faults) or "tables: current")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

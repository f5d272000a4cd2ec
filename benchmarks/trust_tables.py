"""The tables of benchmarks/trust.py from its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
KINDS = ("particle", "support", "edge", "vacuum", "far pt-ceo2", "far other")
VERDICTS = ("present", "cannot tell", "absent")


def _noises(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(r["noise"] for r in rows))


def coverage(
    rows: list[Row], kind: str | None, noise: str | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Share of pixels inside each interval in per cent, its standard error over structures, and how
    many structures."""
    by: dict[str, np.ndarray] = {}
    for r in rows:
        if noise is None or r["noise"] == noise:
            for name, counts in r["inside"].items():
                if kind in (None, name):
                    by[r["structure"]] = by.get(r["structure"], np.zeros(5)) + np.array(counts)
    counts = np.array(list(by.values()))
    if not len(counts):
        return np.full(4, np.nan), np.full(4, np.nan), 0
    total = counts.sum(0)
    share = 100 * total[:4] / total[4]
    # Of a ratio of sums: structures are the independent units.
    residual = 100 * counts[:, :4] - share * counts[:, 4:]
    return share, np.sqrt((residual**2).sum(0)) / total[4], len(counts)


def coverage_table(rows: list[Row]) -> str:
    """A line for each kind of content, and for each noise."""
    lines = [
        "| truth inside, % (s.e.) | n | " + " | ".join(f"{v} %" for v in rows[0]["levels"]) + " |",
        "|---|--:|" + "--:|" * 4,
    ]
    groups = (
        [(k, k, None) for k in KINDS if any(k in r["inside"] for r in rows)]
        + [("all", None, None)]
        + [(n, None, n) for n in _noises(rows)]
    )
    for name, kind, noise in groups:
        share, error, n = coverage(rows, kind, noise)
        lines.append(
            f"| {name} | {n} | "
            + " | ".join(f"{s:.1f} ({e:.1f})" for s, e in zip(share, error, strict=True))
            + " |"
        )
    return "\n".join(lines)


def error_table(rows: list[Row]) -> str:
    """Expected against true rms error of whole frames."""
    lines = ["| noise | true / expected rms error: median (5 %, 95 %) |", "|---|--:|"]
    for noise in _noises(rows):
        ratio = [r["rms"] / r["expected_rms"] for r in rows if r["noise"] == noise]
        low, middle, high = np.percentile(ratio, [5, 50, 95])
        lines.append(f"| {noise} | {middle:.2f} ({low:.2f}, {high:.2f}) |")
    return "\n".join(lines)


def _add(rows: list[Row], *keys: str) -> np.ndarray:
    total: Any = 0
    for r in rows:
        value: Any = r["columns"]
        for key in keys:
            value = value[key]
        total = total + np.array(value)
    return np.asarray(total)


def columns_table(rows: list[Row]) -> str:
    """Verdicts on columns, planted ones, and vacancies, by noise."""
    lines = [
        "| noise | drawn | true | present / cannot tell / absent, % | false among present, % (s.e.)"
        " | precision / recall / F1 / Jaccard | present within 0.5 Å of a column of "
        "the structure, %"
        " | planted: present / cannot tell / absent, %"
        " | vacancies: present / cannot tell / absent, % | positions within 1 sigma, % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for noise in _noises(rows):
        mine = [r for r in rows if r["noise"] == noise and r["columns"]]
        tally = {v: _add(mine, "drawn", v) for v in VERDICTS}
        total, true = sum(t[0] for t in tally.values()), sum(t[1] for t in tally.values())
        present = tally["present"]
        false = 100 * (1 - present[1] / max(present[0], 1))
        matched = _add(mine, "matched", "image")
        precision, recall = matched[0] / max(matched[1], 1), matched[0] / max(matched[2], 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        jaccard = matched[0] / max(matched[1] + matched[2] - matched[0], 1)
        real = _add(mine, "matched", "structure")
        planted, holes = (
            {v: int(_add(mine, key, v)) for v in VERDICTS} for key in ("planted", "vacancies")
        )
        near, of = _add(mine, "position_within_1_sigma_radius")
        shares = " / ".join(f"{100 * tally[v][0] / max(total, 1):.0f}" for v in VERDICTS)
        lines.append(
            f"| {noise} | {total} | {100 * true / max(total, 1):.1f} % | {shares} | "
            f"{false:.1f} ({_clustered(mine):.1f})"
            f" | {precision:.2f} / {recall:.2f} / {f1:.2f} / {jaccard:.2f} | "
            f"{100 * real[0] / max(real[1], 1):.0f}"
            f" | {_shares(planted)} | {_shares(holes)} | {100 * near / max(of, 1):.0f} |"
        )
    return "\n".join(lines)


def _shares(counts: dict[str, int]) -> str:
    total = max(sum(counts.values()), 1)
    return " / ".join(f"{100 * counts[v] / total:.0f}" for v in VERDICTS)


def _clustered(rows: list[Row]) -> float:
    """Standard error over frames of the share of false columns among those present, in per cent."""
    pairs = np.array([r["columns"]["drawn"]["present"] for r in rows], dtype=float).reshape(-1, 2)
    n = pairs[:, 0].sum()
    false = pairs[:, 0] - pairs[:, 1]
    return float(
        100 * np.sqrt(((false - false.sum() / max(n, 1) * pairs[:, 0]) ** 2).sum()) / max(n, 1)
    )


def fit_table(rows: list[Row]) -> str:
    """Shares of p-values below thresholds, frames of the right kind and of wrong sampling;
    Kolmogorov-Smirnov distance."""
    names = [key for key in rows[0] if key == "p" or key.startswith("p at")]
    lines = [
        "| frames | noise | n | p < 0.01 | p < 0.05 | p < 0.1 | p < 0.5 | KS "
        "distance from uniform (5 % limit) |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|")
    for name in names:
        for noise in [*_noises(rows), "all"]:
            p = np.sort([r[name] for r in rows if noise in ("all", r["noise"]) and name in r])
            shares = " | ".join(f"{100 * (p < t).mean():.0f} %" for t in (0.01, 0.05, 0.1, 0.5))
            steps = np.arange(len(p) + 1) / len(p)
            distance = max(float((steps[1:] - p).max()), float((p - steps[:-1]).max()))
            kind = "right kind" if name == "p" else f"sampling times {name[5:]}"
            ks = (
                f"{distance:.2f} ({1.36 / np.sqrt(len(p)):.2f})"
                if name == "p" and noise != "all"
                else "–"
            )
            lines.append(f"| {kind} | {noise} | {len(p)} | {shares} | {ks} |")
    return "\n".join(lines)


def scores_table(rows: list[Row]) -> str:
    """Held-out differences against the true ones: errors in units of the stated one, verdicts,
    pooled."""
    lines = [
        "| noise | against | n | (estimate - truth) / s.e.: mean, sd | better / "
        "worse / not resolved | wrong verdicts"
        " | pooled dB, estimate ± s.e. | pooled dB, truth |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for noise in _noises(rows):
        scored = [s for r in rows if r["noise"] == noise for s in r.get("scores", [])]
        for name in dict.fromkeys(s["against"] for s in scored):
            mine = [s for s in scored if s["against"] == name]
            z = np.array([(s["difference"] - s["true"]) / s["error"] for s in mine])
            said = [s["verdict"] for s in mine]
            wrong = sum(
                s["verdict"] != "not resolved" and (s["verdict"] == "better") != (s["true"] > 0)
                for s in mine
            )
            verdicts = " / ".join(str(said.count(v)) for v in ("better", "worse", "not resolved"))
            gain, error, truth = _pooled_db(mine)
            lines.append(
                f"| {noise} | {name} | {len(mine)} | {z.mean():+.2f}, {z.std(ddof=1):.2f} | "
                f"{verdicts} | {wrong}"
                f" | {gain:+.2f} ± {error:.2f} | {truth:+.2f} |"
            )
    return "\n".join(lines)


def _pooled_db(scores: list[Row]) -> tuple[float, float, float]:
    """Pooled gain, its error, and the true one, dB, as `gdn.trust.comparison.Pool` has it: of mean
    squared errors over all frames, the error of the difference and that of gdn's own expected
    error, which a frame's `gain_error_db` contains."""
    decibel = 10 / np.log(10)
    difference, error, own, total = (
        np.array([s[key] for s in scores])
        for key in ("difference", "error", "own", "gain_error_db")
    )
    ratio = difference / own
    own_error = np.sqrt(
        np.maximum((total / decibel * (own + difference)) ** 2 - error**2, 0)
    ) / np.maximum(np.abs(ratio), 1e-9)
    n = len(scores)
    mean, mean_own = difference.mean(), own.mean()
    spread = np.hypot(
        np.sqrt((error**2).sum()) / n, mean / mean_own * np.sqrt((own_error**2).sum()) / n
    )
    true, true_own = (float(np.mean([s[key] for s in scores])) for key in ("true", "true_own"))
    return (
        float(decibel * np.log(1 + mean / mean_own)),
        float(decibel * spread / (mean_own + mean)),
        float(decibel * np.log(1 + true / true_own)),
    )


def reliability_plot(rows: list[Row], path: Path) -> None:
    """Coverage against level for each kind of content."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    levels = rows[0]["levels"]
    axes.plot([45, 100], [45, 100], color="0.6", lw=1)
    axes.fill_between([45, 100], [42, 97], [48, 103], color="0.93", label="within 3 points")
    for kind in KINDS:
        share, error, n = coverage(rows, kind)
        axes.errorbar(levels, share, error, marker="o", ms=4, capsize=2, label=f"{kind} (n = {n})")
    axes.set(
        xlabel="interval, %",
        ylabel="truth inside, %",
        xlim=(45, 101),
        ylim=(40, 102),
        title="Test structures, six noises",
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def show(rows: list[Row], plot: Path | None = None) -> None:
    """Print every table."""
    frames = len({r["structure"] for r in rows})
    print(f"{frames} structures, {len(rows)} frames of {rows[0]['side']} px\n")
    print(
        coverage_table(rows),
        error_table(rows),
        columns_table(rows),
        fit_table(rows),
        scores_table(rows),
        sep="\n\n",
    )
    if plot:
        reliability_plot(rows, plot)

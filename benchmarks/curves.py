"""The experiments as curves, from what is kept of them: docs/experiments.png.

Held-out reconstruction against images seen; the ceiling against latents; the GANs' diversity, with
the warnings of collapse that were given.

    python benchmarks/curves.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
from experiments import GANS, KEPT, LATENTS, kept_runs
from matplotlib.axes import Axes

Runs = dict[str, dict[str, Any]]


def statistics(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The statistics of a run after the first, which are those of its start."""
    return list(run["statistics"][1:])


def learning(axes: Axes, runs: Runs) -> None:
    """Held-out PSNR of reconstructions of clean patches, by images of 64x64 px."""
    for number, (name, run) in enumerate(runs.items()):
        lines, scale = statistics(run), (run["row"]["patch"] / 64) ** 2
        style = ("-", "--", ":")[number // 10]
        axes.plot(
            [scale * r["images"] for r in lines],
            [r["psnr_clean_db"] for r in lines],
            style,
            lw=1,
            label=name,
        )
    axes.set(
        xlabel="images of 64x64 px seen",
        ylabel="dB, held-out clean patches",
        title="encoder and generator",
    )
    axes.legend(fontsize=6, ncols=2)


def ceilings(axes: Axes, runs: Runs) -> None:
    """Test 2 against latents in each cell of 64x64 px."""
    for name, row in ((name, run["row"]) for name, run in runs.items()):
        latents = row["latent"] * (64 / row["patch"]) ** 2
        everything = row["test_2"]["all"]
        mark = "o" if name in LATENTS or name == "grid-128" else "x"
        (line,) = axes.plot(latents, everything["psnr"], mark, ms=4)
        axes.plot(latents, everything["psnr_p5"], mark, ms=4, color=line.get_color(), alpha=0.4)
        axes.annotate(
            name,
            (latents, everything["psnr"]),
            fontsize=5,
            xytext=(3, 2),
            textcoords="offset points",
        )
    axes.set(
        xscale="log",
        xlabel="latents for 64x64 px",
        ylabel="Test 2, dB (pale: 5th percentile)",
        title="ceiling",
    )


def diversity(axes: Axes, runs: Runs) -> None:
    """Diversity of samples relative to the data, and the warnings."""
    for name, lines in ((name, statistics(run)) for name, run in runs.items()):
        (line,) = axes.plot(
            [r["images"] for r in lines], [r["diversity"] for r in lines], lw=1, label=name
        )
        warned = [r for r in lines if r["warnings"]]
        axes.plot(
            [r["images"] for r in warned],
            [r["diversity"] for r in warned],
            "x",
            color=line.get_color(),
        )
    axes.axhline(1, color="gray", lw=0.5)
    axes.set(
        xlabel="images seen",
        ylabel="diversity of samples / of data",
        title="GANs; x: a warning was given",
    )
    axes.legend(fontsize=6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument("--out", type=Path, default=Path("docs/experiments.png"))
    options = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    done = kept_runs(options.kept)
    encoded = {name: run for name, run in done.items() if name not in GANS}
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    learning(axes[0], encoded)
    ceilings(axes[1], encoded)
    diversity(axes[2], {name: run for name, run in done.items() if name in GANS})
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()

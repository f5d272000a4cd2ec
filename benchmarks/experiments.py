"""The experiments on the generator: many recipes at one small budget, each trained, measured, and
kept.

Every run leaves a line in one file: its settings, the statistics of its training and its row. What
is there is not done again, so that the table can be rebuilt from it (`--table`), and a longer
budget goes to another file (`--kept`).

    python benchmarks/experiments.py --budget 16000 --only latent-16 latent-32
    python benchmarks/experiments.py --table
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from generator_table import table

from gdn.recipes import Recipe, load_recipe

Changes = dict[str, dict[str, Any]]
KEPT = Path("docs/results/experiments.jsonl")
# Not the last recipe's own schedule: all learn from nothing in one short run.
SHORT: Changes = {
    "optimiser": {
        "lr_generator": 1e-3,
        "lr_encoder": 1e-3,
        "decay_from": 0.3,
        "ema_images": 1_000,
        "batch": 16,
        "freeze_norm_from": 0.85,
    },
    "stream": {"reservoir": 4096, "patches_per_image": 16, "fresh_share": 0.1},
}


def network(**changes: Any) -> Changes:
    """Changes of the section [network]."""
    return {"network": changes}


LATENTS = {f"latent-{n}": network(latent=n) for n in (16, 32, 48, 96, 144, 256)}
# At equal latents per cell, and at equal latents.
FIELDS = {
    "field-96": network(latent=288, patch=96, coarse=6),
    "field-128": network(latent=512, patch=128, coarse=8),
    "field-128-128": network(latent=128, patch=128, coarse=8),
    "sampling-0.3": network(sampling_angstrom=0.3),
    "sampling-0.5": network(sampling_angstrom=0.5),
}
STEMS = {
    "linear-50": network(latent=50, stem="linear"),
    "linear-100": network(latent=100, stem="linear"),
    "linear-150": network(latent=150, stem="linear"),
    "mlp-100": network(latent=100, stem="mlp"),
}
PARTS: dict[str, Changes] = {
    "grid-128": {},
    "rungs-4": network(latent=384, rungs=(4,)),
    "rungs-4-1": network(latent=640, rungs=(4, 1)),
    "flow": network(flow=8),
    "style": network(body="style"),
    "waves": network(body="waves"),
    "waves-linear-100": network(body="waves", latent=100, stem="linear", waves=32),
    "conditioned": {
        "network": {"latent": 100, "stem": "linear"},
        "loss": {"condition_weight": 50.0},
    },
    "adversarial": {"loss": {"adversarial_weight": 0.02}},
    "adversarial-relativistic": {
        "network": {"discriminator_norm": False},
        "loss": {"adversarial_weight": 0.02, "adversary": "relativistic", "gradient_penalty": 1.0},
    },
    "not-augmented": {"stream": {"augment": False}},
    "one-dose": {"loss": {"log10_dose": (1.284, 1.284)}},
}
# Without an encoder: the study's, its failures made on purpose, and a modern adversary.
GANS: dict[str, Changes] = {
    "dcgan-50": network(latent=50),
    "dcgan-100": network(latent=100),
    "dcgan-sure-discriminator": {"optimiser": {"lr_discriminator": 4e-3, "lr_generator": 2e-5}},
    "dcgan-collapsed": {"optimiser": {"lr_generator": 2e-2, "lr_discriminator": 1e-5}},
    "relativistic": {
        "network": {"discriminator_norm": False, "initialisation": "he"},
        "loss": {"adversary": "relativistic", "gradient_penalty": 1.0},
        "optimiser": {
            "lr_generator": 5e-4,
            "lr_discriminator": 5e-4,
            "beta1": 0.0,
            "ema_images": 1_000,
        },
    },
}
EXPERIMENTS = LATENTS | FIELDS | STEMS | PARTS | GANS


def recipe_of(name: str, budget: int) -> Recipe:
    """The recipe of an experiment, `budget` images of 64x64 px long (as many pixels for another
    patch)."""
    base = load_recipe("dcgan" if name in GANS else "range").model_dump()
    if name in GANS:
        base["network"] |= {"base_channels": 32, "channel_cap": 256}
        base["stream"] |= SHORT["stream"]
    else:
        for section, changes in SHORT.items():
            base[section] |= changes
    for section, changes in EXPERIMENTS[name].items():
        base[section] |= changes
    base["name"] = name
    base["optimiser"]["images"] = budget * 64**2 // base["network"]["patch"] ** 2
    return Recipe.model_validate(base)


def kept_runs(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of a file of runs (`settings`, `statistics`, `row`) by name, in the order of
    EXPERIMENTS."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    runs = {line["name"]: line for line in lines}
    return {name: runs[name] for name in EXPERIMENTS if name in runs}


def run(name: str, options: argparse.Namespace) -> None:
    """Train and measure one experiment, unless that is done."""
    if name in kept_runs(options.kept):
        return
    folder: Path = options.runs / name
    recipe = recipe_of(name, options.budget)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{name}.json")
    path.write_text(recipe.model_dump_json())
    every = max(1, recipe.optimiser.images // 6)
    train = [
        sys.executable,
        __file__,
        "--train",
        str(path),
        "--runs",
        str(folder),
        "--data",
        str(options.data),
        "--every",
        str(every),
    ]
    subprocess.run(train, check=True)
    rows = folder / "rows.jsonl"
    measure = [
        sys.executable,
        str(Path(__file__).with_name("generators.py")),
        str(folder),
        "--rows",
        str(rows),
        "--threads",
        "1",
    ]
    subprocess.run([*measure, "--data", str(options.data), *options.measure.split()], check=True)
    line = {
        "name": name,
        "settings": json.loads((folder / "recipe.json").read_text()),
        "statistics": [
            json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()
        ],
        "row": json.loads(rows.read_text()),
    }
    with options.kept.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def train_one(path: Path, folder: Path, data: Path, every: int) -> None:
    """In a process of its own: torch's threads are set once."""
    from gdn.training.loop import RunOptions, train

    train(
        Recipe.model_validate_json(path.read_text()),
        RunOptions(run=folder, data=data, threads=1, status_every=every),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=16_000, help="images of 64x64 px")
    parser.add_argument("--only", nargs="*", help=f"some of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument(
        "--measure", default="--tiles 48 --targets 8 --samples 128 --steps 100 --frames 2"
    )
    parser.add_argument("--table", action="store_true", help="only print the table of what is kept")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=4000, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_one(options.train, options.runs, options.data, options.every)
        return
    if not options.table:
        for name in options.only or EXPERIMENTS:
            run(name, options)
    print(table([run_kept["row"] for run_kept in kept_runs(options.kept).values()]))


if __name__ == "__main__":
    main()

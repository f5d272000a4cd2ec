"""What a recipe's images look like, and how fast they are made: shares of bright and dark columns,
rates of patches.

    OMP_NUM_THREADS=1 python benchmarks/images.py --recipe pt-ceo2-wide-128 --data data/pt-ceo2
    --sheet images.png python benchmarks/images.py --rates --threads 1,2 [--device cuda]

The shares are over frames of training structures, three views of each under the recipe's imaging;
the class is that of the frame's heavy columns (`content.py`). Rates are of clean patches alone and
of whole steps, with the share of a step's time that goes into images.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from near import sheet as draw
from suite import contrast_of

from gdn.evaluation.noise_suite import STUDY_VACUUM
from gdn.recipes import load_recipe
from gdn.simulation.breadth import any_structure
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, read_wave, render
from gdn.simulation.simulate import frame_optics, seed_of_path
from gdn.simulation.structures import split_of
from gdn.training.restoring import RestorerRecipe, RestorerRun
from gdn.training.shared_randomness import Shards, StepDraws
from gdn.training.timed_run import ResidentRun
from gdn.training.training_step import step

STRUCTURES = 16  # in the pool while rates are taken


def shares(recipe: str, data: Path, structures: int, views: int, sheet: Path | None) -> None:
    """Print the share of each contrast class, and draw the frames."""
    imaging, classes = load_recipe(recipe).imaging, Counter[str]()
    pictures: list[Any] = []
    stored = [
        p for p in sorted((data / "waves").glob("*.npz")) if split_of(seed_of_path(p)) == "train"
    ]
    for path in stored[:structures]:  # of whichever scenes the data set is
        wave = read_wave(path)
        for view in range(views):
            image = render(
                wave, frame_optics(seed_of_path(path), view, imaging), FRAME_SAMPLING, FRAME_SHAPE
            )
            classes[contrast_of(wave, np.maximum(image, 0) * np.float32(STUDY_VACUUM))] += 1
            if view == 0 and len(pictures) < 40:
                pictures.append(image)
    total = sum(n for name, n in classes.items() if name != "none")
    cells = ", ".join(
        f"{name} {100 * classes[name] / total:.0f} %" for name in ("white", "black", "intermediate")
    )
    print(f"{recipe}: {cells} of {total} frames with heavy columns ({classes['none']} without)")
    if sheet is not None:
        draw(pictures, sheet)


def seconds(work: Callable[[], object], device: str, times: int) -> float:
    """Of one call, after one to warm up."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def generator_rates(recipe: str, device: str, times: int) -> tuple[float, float, int]:
    """Seconds of a batch's images and of the step on them, and the batch."""
    run = ResidentRun(recipe, None, device)
    for seed in range(STRUCTURES):
        structure = run.source.make(10 * seed + 5)
        if len(structure.numbers):
            run.source.add(structure)
    batch = run.recipe.optimiser.batch
    real = run.source.draw(batch).contiguous(memory_format=torch.channels_last)
    drawn = seconds(lambda: run.source.draw(batch), device, times)
    draws = StepDraws((1, 1), Shards(1), device)
    return (
        drawn,
        seconds(
            lambda: step(run.state, run.recipe, real, real.new_zeros(batch, 2), device, draws),
            device,
            times,
        ),
        batch,
    )


def restorer_rates(device: str, times: int) -> tuple[float, float, int]:
    """As `generator_rates`, of as many patches as a set of clean ones is trained on."""
    small = {"patch": 96, "images": 4, "batch": 12} if device == "cpu" else {}
    run = RestorerRun(RestorerRecipe(pool=STRUCTURES, **small), device, compiled=device == "cuda")  # type: ignore[arg-type]
    for seed in range(STRUCTURES):
        structure = any_structure(10 * seed + 5)
        if len(structure.numbers):
            run.pool.add(structure, 300e3, 0.05)
    clean = next(run.batches(run.clean()))
    drawn = seconds(run.clean, device, max(4, times))  # half of the sets are of lattices
    recipe = run.recipe
    count = recipe.images * recipe.per_image * recipe.reuse
    return drawn, seconds(lambda: run.step(clean, 0.0), device, times) * count / len(clean), count


def rates(recipes: list[str], threads: list[int], device: str, times: int) -> None:
    """The table of rates."""
    print(
        "| | threads | batch | images, patches/s | training, patches/s | time in "
        "images, % |\n|---|--:|--:|--:|--:|--:|"
    )
    for name in recipes:
        for count in threads:
            torch.set_num_threads(count)
            drawn, trained, n = (
                restorer_rates(device, times)
                if name == "restore"
                else generator_rates(name, device, times)
            )
            used = (
                RestorerRecipe.reuse if name == "restore" else 1
            )  # times that a clean patch is trained on
            rate, share = n / (drawn + trained), drawn / (drawn + trained)
            print(
                f"| {name} | {count} | {n} | {n / used / drawn:.0f} | {rate:.0f} | "
                f"{100 * share:.0f} |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="pt-ceo2-wide-128")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--structures", type=int, default=100)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--sheet", type=Path, metavar="PNG")
    parser.add_argument("--rates", action="store_true", help="rates instead of shares")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    if options.rates:
        threads = (
            [int(n) for n in options.threads.split(",")]
            if options.device == "cpu"
            else [torch.get_num_threads()]
        )
        rates([options.recipe, "restore"], threads, options.device, options.times)
    else:
        shares(options.recipe, options.data, options.structures, options.views, options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

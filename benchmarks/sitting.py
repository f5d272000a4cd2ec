"""One sitting at a borrowed device: structures on its CPU cores, waves and images on the device
while it trains there.

    python benchmarks/sitting.py --seconds 480 --recipe restore -o OUT
    python benchmarks/sitting.py --seconds 200 --recipe pt-ceo2-wide-128 --from MODEL -o OUT
    python benchmarks/sitting.py --seconds 20 --recipe restore --toy -o OUT  (any CPU: a trial)

Needs torch, numpy, scipy, safetensors, pillow and pydantic. It keeps to its clock, and leaves whole
files whenever it is
stopped: restore.safetensors and restore.json, or of a generator weights.safetensors and
recipe.json, which `gdn export OUT -o MODEL` makes a model of and `--from OUT` goes on from;
stats.jsonl, a sheet of patches and, on the last line, its throughput.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gdn.generator.restorer_network import RestorerShape
from gdn.simulation.breadth import WavePool, any_structure
from gdn.simulation.structures import seeds_of
from gdn.simulation.workers import StructureWorkers
from gdn.training.restoring import RestorerRecipe, RestorerRun, train_restorer


def training_seeds(seed: int) -> Iterator[int]:
    """Seeds of the train split, without end; another sequence for every `seed`."""
    return seeds_of("train", np.random.default_rng([seed, 0x517]))


def matrix_rate(device: str, n: int = 8192) -> float:
    """Measured rate of a bf16 matrix product on random data, TFLOP/s."""
    if device == "cpu":
        return float("nan")
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 10 * 2 * n**3 / (time.perf_counter() - begun) / 1e12


def feeder(workers: StructureWorkers, seed: int, every: int) -> Callable[[WavePool], None]:
    """Adds finished structures to a pool, many at the start and later one every so many calls:
    waves take their time from training."""
    rng = np.random.default_rng([seed, 0xFEED])
    calls = itertools.count()

    def feed(pool: WavePool) -> None:
        if next(calls) % every and pool.count >= 16:
            return
        for structure in workers.ready(16 if pool.count < 160 else 1):
            if len(structure.numbers):
                pool.add_randomly(structure, rng)

    return feed


def restorer_recipe(options: argparse.Namespace, device: str) -> RestorerRecipe:
    """A card's settings, or, where there is none, those of a small batch: a CPU has few steps to
    spend."""
    if options.toy:
        return RestorerRecipe(
            shape=RestorerShape((8, 16), (1, 1)),
            patch=48,
            images=4,
            pool=4,
            warmup_steps=5,
            seed=options.seed,
        )
    if device == "cpu":
        return RestorerRecipe(
            patch=96, images=4, batch=12, pool=400, rate=1e-3, average=0.996, seed=options.seed
        )
    given = {"rate": options.rate, "decay_from": options.decay_from}
    return RestorerRecipe(
        seed=options.seed, **{name: value for name, value in given.items() if value is not None}
    )


def time_left(options: argparse.Namespace) -> float:
    """Seconds for training: what the start has left of the clock, but at least one, so that there
    is something to write."""
    left: float = options.seconds - (time.monotonic() - options.begun) - options.reserve
    return max(1.0, left)


def restore(options: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """A sitting for the general restoring network."""
    from safetensors.torch import load_file

    recipe = restorer_recipe(options, device)
    start = None
    if options.start is not None:
        path = options.start / "weights.safetensors"
        start = load_file(str(path if path.is_file() else options.start / "restore.safetensors"))
    workers = StructureWorkers(
        any_structure, training_seeds(options.seed), 0 if options.toy else options.workers
    )
    try:
        run = RestorerRun(recipe, device, start, compiled=not options.eager)
        left = time_left(options)
        yield from train_restorer(
            run,
            options.out,
            left,
            feeder(workers, options.seed, 1 if device == "cuda" or options.toy else 25),
            options.status,
            options.span,
        )
        print(
            json.dumps(throughput(run.patches, run.patches / run.recipe.reuse, run.drawing, left)),
            flush=True,
        )
    finally:
        workers.close()


def generator(options: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """A sitting for a generator: `gdn train` with waves that stay on the device."""
    from gdn.training.timed_run import ResidentRun

    workers = None
    try:
        run = ResidentRun(options.recipe, options.start, device, options.seed, options.toy)
        workers = StructureWorkers(
            run.source.make, training_seeds(options.seed), 0 if options.toy else options.workers
        )
        left = time_left(options)
        yield from run.train(options.out, left, workers, options.status)
        print(json.dumps(throughput(run.patches, run.patches, run.drawing, left)), flush=True)
    finally:
        if workers is not None:
            workers.close()


def throughput(trained: float, drawn: float, drawing: float, seconds: float) -> dict[str, float]:
    """Patches a second of training as a whole and of the drawing alone, and the share of the time
    that goes into images."""
    return {
        "patches_a_second": round(trained / seconds, 1),
        "drawn_a_second": round(drawn / max(drawing, 1e-9), 1),
        "drawing_share": round(drawing / seconds, 3),
    }


def share_pair(text: str) -> tuple[float, float]:
    """Two shares in order, from "0,0.7"."""
    try:
        begin, end = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"two shares, as 0,0.7, not {text!r}") from None
    if not 0 <= begin < end <= 1:
        raise argparse.ArgumentTypeError(f"shares from 0 to 1, the smaller first, not {text!r}")
    return begin, end


def main() -> int:
    """Parse, train until the time is up, print what came."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, required=True, help="of the clock, start included")
    parser.add_argument(
        "--recipe", default="restore", help="restore, or a recipe of gdn train for a generator"
    )
    parser.add_argument(
        "--from", dest="start", type=Path, help="model folder, or what a sitting left"
    )
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=14, help="processes that make structures")
    parser.add_argument("--status", type=float, default=40.0, help="seconds between snapshots")
    parser.add_argument("--rate", type=float, help="of a restorer on a card, at its highest")
    parser.add_argument(
        "--decay-from", type=float, help="share of the schedule after which that rate falls"
    )
    parser.add_argument(
        "--span",
        type=share_pair,
        default=(0.0, 1.0),
        metavar="FROM,TO",
        help="the part of a restorer's schedule that this sitting covers, where a device is lent "
        "for less than the whole (0,0.7 and then, from what that left, 0.7,1)",
    )
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--toy", action="store_true", help="small networks and pools")
    options = parser.parse_args()
    options.begun, options.reserve = time.monotonic(), 0.0 if options.toy else 6.0
    options.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
            f"{matrix_rate(device):.0f} TFLOP/s bf16",
            flush=True,
        )
    try:
        for row in (restore if options.recipe == "restore" else generator)(options, device):
            print(json.dumps(row), flush=True)
    except ValueError as error:  # an unknown recipe, weights of another shape
        print(f"sitting: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

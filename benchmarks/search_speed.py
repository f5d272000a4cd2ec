"""Speed of the search, side by side in one run; ends with one JSON line.

    python benchmarks/search_speed.py            (short form: under ten minutes on two cores)
    python benchmarks/search_speed.py --tiles 3 --stack 40      (twenty minutes)

Most of the time is the original method's: five minutes a tile.

1. Against the original method on the same generator and tiles: wall time, and the objective on
every tile.
2. The whole command, in a process of its own, on a 1200x1200 frame and on a stack of such frames.
3. Against filters on the same frame: seconds per megapixel.
4. Where the time goes, and the generator's rate as a share of this CPU's matrix rate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from flops import graphs_of, operations
from suite import clean_frames
from tiles import TileSet, tile_set

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.evaluation.comparators import Case, available, bm3d_at
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.models import DEFAULT_MODEL, find_model
from gdn.restarts import restart_latents
from gdn.search.bank import Bank, bank_for
from gdn.search.candidates import best_of_each, evaluate, propose, start
from gdn.search.objective import PRECISION, Objective, conjugate_gradients
from gdn.search.original import search_original
from gdn.search.refine import refine_candidates
from gdn.search.settings import OriginalSettings, SearchSettings, settings_for

FRAME = 1200


@dataclass(frozen=True)
class Searched:
    """A way to search some tiles: seconds a tile, mean objective (nats) of the best candidates, the
    share of tiles on which it is no worse than the original method's, mean dB."""

    method: str
    seconds: float
    objective: float
    no_worse: float
    decibels: float


def against_original(
    engine: Engine, bank: Bank, tiles: TileSet, steps: OriginalSettings
) -> dict[str, Searched]:
    """The original method, and both estimates of gdn, on the same tiles by the same engine."""
    n = len(tiles.clean)
    begun = time.perf_counter()
    latents = [
        search_original(
            engine,
            tiles.data.counts[i : i + 1] / np.float32(tiles.dose),
            tiles.data.weights[i : i + 1],
            steps,
        )[0]
        for i in range(n)
    ]
    theirs_seconds = time.perf_counter() - begun
    # Their latent under our objective, with the dose of least objective.
    at = start(
        np.concatenate(latents), np.arange(n), np.zeros(n, np.int64), tiles.dose, np.ones(n, bool)
    )
    theirs = evaluate(engine, tiles.data, at)
    decibels = float(tiles.psnr(theirs.mean).mean())
    searched = {
        "original": Searched(
            "original", theirs_seconds / n, float(theirs.objective.mean()), 1.0, decibels
        )
    }
    for estimate in ("mean", "map"):
        settings = settings_for(estimate)
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            candidates = refine_candidates(
                engine,
                tiles.data,
                propose(engine, bank, tiles.data, tiles.dose, settings),
                settings,
            )
            seconds.append(time.perf_counter() - begun)
        best = best_of_each(candidates)
        objective = candidates.objective[best]
        searched[estimate] = Searched(
            f"gdn, --estimate {estimate}",
            float(np.median(seconds)) / n,
            float(objective.mean()),
            float((objective <= theirs.objective).mean()),
            float(tiles.psnr(candidates.mean[best]).mean()),
        )
    return searched


def show(searched: dict[str, Searched]) -> None:
    """The table of `against_original`."""
    print(f"{'method':28s} {'s/tile':>8s} {'objective':>12s} {'no worse':>9s} {'dB':>6s}")
    for search_ in searched.values():
        times = searched["original"].seconds / search_.seconds
        own = search_ is searched["original"]
        share, faster = (
            ("", "") if own else (f"{search_.no_worse:.0%}", f"   {times:.0f} times faster")
        )
        print(
            f"{search_.method:28s} {search_.seconds:8.3f} {search_.objective:12.1f} {share:>9s} "
            f"{search_.decibels:6.2f}{faster}"
        )


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MiB of a process.

    The peak is the kernel's high-water mark of the program itself, read until it ends: the one that
    wait4 reports would count this process, from which it was forked, too.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration, IndexError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - begun, peak / 1024


def whole_command(
    folder: Path, clean: np.ndarray, sampling: float, frames: int, model: str
) -> dict[str, float]:
    """Median of three runs on one frame, and one run on a stack; the bank is cached before."""
    rng = np.random.default_rng(0)
    wide = np.tile(clean, (2, 2))[:FRAME, :FRAME]
    scale = (10 / sampling, 10 / sampling)
    for name, count in (("one", 1), ("stack", frames)):
        counts = rng.poisson(np.broadcast_to(wide, (count, *wide.shape))).astype(np.uint8)
        meta = {"unit": "nm", "axes": "TYX" if count > 1 else "YX"}
        tifffile.imwrite(
            folder / f"{name}.tif",
            counts if count > 1 else counts[0],
            imagej=True,
            resolution=scale,
            metadata=meta,
        )
    command = [
        sys.executable,
        "-m",
        "gdn",
        "denoise",
        "--model",
        model,
        "--overwrite",
        "-o",
        str(folder / "out"),
    ]
    run([*command, str(folder / "one.tif")])
    single = [run([*command, str(folder / "one.tif")]) for _ in range(3)]
    stack = run([*command, str(folder / "stack.tif")])
    stages = json.loads((folder / "out" / "one_gdn.json").read_text())["frames"][0]["stages"]
    seconds = float(np.median([s for s, _ in single]))
    print(
        f"\n{FRAME}x{FRAME} at {sampling:.3g} Å/px, whole command: {seconds:.2f} s, "
        f"{single[0][1]:.0f} MiB"
    )
    print(f"stack of {frames}: {stack[0] / frames:.2f} s a frame, {stack[1]:.0f} MiB")
    outside = seconds - sum(stages.values())
    shares = {**stages, "start, files, bank": round(outside, 3)}
    print(
        "where one frame's time goes: "
        + ", ".join(f"{k} {v / seconds:.0%}" for k, v in shares.items())
    )
    return {
        "frame": seconds,
        "stack": stack[0] / frames,
        "rss": max(stack[1], *(m for _, m in single)),
    }


def step_in_one_graph(engine: Engine, whole: TileSet) -> None:
    """The Gauss-Newton step's graph against a graph for each product of the Jacobian, eight tiles
    in turn."""
    index = np.arange(min(8, len(whole.clean)))
    data = whole.data.take(index)
    dose = float(data.counts.mean())
    starts = start(
        restart_latents(0, index, engine.model.card.latent), index, 0 * index, dose, index >= 0
    )
    objective, theta = Objective(engine, data), np.concatenate([starts.z, starts.nuisance], 1)
    settings = SearchSettings()
    prior = np.tile(PRECISION, (len(index), 1))

    def by_products() -> object:
        return conjugate_gradients(
            objective, theta, objective.at(theta), settings.iterations, settings.damping
        )

    def by_graph() -> object:
        return engine.step(starts.z, starts.nuisance, data, settings.damping, prior)

    seconds: dict[Callable[[], object], list[float]] = {by_products: [], by_graph: []}
    for repeat in range(12):
        for call, taken in seconds.items():
            begun = time.perf_counter()
            call()
            taken += [time.perf_counter() - begun] if repeat >= 2 else []
    ratios = np.array(seconds[by_graph]) / np.array(seconds[by_products])
    low, middle, high = np.quantile(ratios, [0, 0.5, 1])
    print(
        f"\na Gauss-Newton step in one graph takes {middle:.2f} ({low:.2f} to "
        f"{high:.2f}) of the time of one by products"
    )


def filters(clean: np.ndarray, sampling: float) -> None:
    """Seconds per megapixel of filters on the same noisy frame, poisson:1 of the study."""
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    wide = np.tile(clean, (2, 2))[:FRAME, :FRAME]
    noise = Noise("poisson", 1.0)
    case = Case(wide, noise.apply(wide, 0), noise, sampling)
    tried: dict[str, Callable[[], object]] = {
        "TV (Chambolle)": lambda: denoise_tv_chambolle(case.noisy, weight=2.0),
        "non-local means": lambda: denoise_nl_means(
            case.noisy, patch_size=5, patch_distance=6, h=0.5, fast_mode=True
        ),
    }
    if available("bm3d-binned"):
        tried["BM3D, binned 8x8"] = lambda: bm3d_at(
            case, 8
        )  # one binning: the comparator tries several
    print("\nseconds per megapixel: ", end="")
    for name, call in tried.items():
        begun = time.perf_counter()
        call()
        print(f"{name} {(time.perf_counter() - begun) / FRAME**2 * 1e6:.2f}; ", end="", flush=True)
    print()


def rates(engine: Engine) -> None:
    """Generator passes against this CPU's matrix product, float32, all threads, in this run."""
    flops = operations(
        graphs_of(engine.model)["generator"], torch.zeros((1, engine.model.card.latent))
    )
    z = np.random.default_rng(0).standard_normal((64, engine.model.card.latent)).astype(np.float32)
    a = np.random.default_rng(1).standard_normal((2048, 2048)).astype(np.float32)

    def best(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(7):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        return min(seconds)

    matrix, passes = (
        2 * 2048**3 / best(lambda: a @ a),
        64 * flops / best(lambda: engine.generate(z)),
    )
    print(
        f"\none pass is {flops / 1e6:.0f} Mflop; generator {passes / 1e9:.0f} "
        f"Gflop/s, matrix product {matrix / 1e9:.0f} Gflop/s:"
        f" {passes / matrix:.0%}"
    )


def original_settings(steps: tuple[int, int, int]) -> OriginalSettings:
    """Of restarts, steps of each, and steps of the best."""
    restarts, each, final = steps
    return OriginalSettings(restarts=restarts, restart_steps=each, final_steps=final)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tiles", type=int, default=1, help="tiles for the original method; five minutes each"
    )
    parser.add_argument("--stack", type=int, default=10, help="frames of the stack")
    parser.add_argument("--level", type=float, default=1.0, help="poisson:s of the study")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--original-steps", type=int, nargs=3, default=(10, 1500, 10000))
    options = parser.parse_args()
    frame = clean_frames(options.data, 1, "validation")[0]
    with open_engine(find_model(options.model)) as engine:
        card = engine.model.card
        bank = bank_for(engine, 0, 256)
        whole = tile_set(options.data, 1, options.level, card.sampling_angstrom, card.patch)
        index = np.arange(min(options.tiles, len(whole.clean)))
        tiles = replace(whole, data=whole.data.take(index), clean=whole.clean[index])
        searched = against_original(engine, bank, tiles, original_settings(options.original_steps))
        show(searched)
        rates(engine)
        step_in_one_graph(engine, whole)
    with tempfile.TemporaryDirectory() as folder:
        level = np.float32(options.level)
        command = whole_command(
            Path(folder), frame.image * level, frame.sampling_angstrom, options.stack, options.model
        )
    filters(frame.image, frame.sampling_angstrom)
    print(f"(vacuum {STUDY_VACUUM * options.level:.3g} electrons per recorded px)\n")
    result = {
        "speedup_vs_original": round(searched["original"].seconds / searched["map"].seconds, 1),
        "objective_no_worse_share": round(searched["map"].no_worse, 3),
        "frame_seconds": round(command["frame"], 2),
        "stack_seconds_per_frame": round(command["stack"], 2),
        "peak_rss_mib": round(command["rss"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

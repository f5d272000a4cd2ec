"""Every engine of this machine: are its numbers those of the CPU in double precision, and how fast
is it?

One table, in under eight minutes on a machine with a card (`--seconds` bounds each timing). Without
one the sizes are small and the engines those of the CPU, so that the script itself is tested.
Speeds: after a warm-up, the median of repeats and their spread. Against the original method on one
tile: gdn as it is by default, which stops early on purpose, and `--estimate map`, which goes on to
an objective no worse. Needs torch (gdn[train]) for the reference and the card's matrix rate.

    python benchmarks/gpu.py --json gpu.jsonl
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flops import graphs_of, operations
from search_speed import against_original, original_settings
from tiles import frame_tiles

from gdn.engines.base import Engine, EngineError
from gdn.engines.choose import EngineChoice, _open, has_driver
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.evaluation.metrics import psnr
from gdn.likelihood import POISSON, NoiseLaw, TileData
from gdn.models import DEFAULT_MODEL, Model, find_model
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.restarts import restart_latents
from gdn.search.bank import BankPart, bank_for, bank_scores
from gdn.search.objective import PRECISION
from gdn.search.settings import OriginalSettings, SearchSettings

CHECKED = 8  # latents compared with double precision
STEPS = 64  # tiles refined at once, as in the search
ENGINES = (
    ("tensorrt", "cuda"),
    ("onnxruntime", "cuda"),
    ("onnxruntime", "tensorrt"),
    ("torch", "cuda"),
    ("onnxruntime", "cpu"),
    ("torch", "cpu"),
)
COLUMNS = (
    "engine",
    "images off by",
    "gradients off by",
    "steps off by",
    "images/s (spread; batch)",
    "share of matrix rate",
    "steps/s (share of matrix rate)",
    "scores/s",
    "s a frame (score, refine)",
    "original, s a tile (nats)",
    "gdn: times faster (nats)",
    "to an objective no worse (nats)",
)


def here(model: Model) -> Iterator[tuple[str, Engine | str]]:
    """Every engine, opened, or why it cannot be."""
    for name, device in ENGINES:
        try:
            yield f"{name}, {device}", _open(model, EngineChoice(name, device, "a benchmark"), None)
        except EngineError as error:
            yield f"{name}, {device}", " ".join(str(error).split())


def timed(work: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median seconds of a call and the spread of its repeats (half of the inner 80 %), as a share
    of it."""
    work()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < 3 or (time.perf_counter() - begun < seconds and len(taken) < 200):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    low, middle, high = np.percentile(taken, [10, 50, 90])
    return float(middle), float((high - low) / 2 / middle)


class Reference:
    """The model's graphs by torch on the CPU in double precision."""

    def __init__(self, model: Model) -> None:
        self.graphs = {name: graph.double() for name, graph in graphs_of(model).items()}
        z = torch.zeros((1, model.card.latent), dtype=torch.float64)
        tile, nothing, ones = (
            torch.ones((1, 1, *[model.card.patch] * 2)),
            torch.zeros((1, 4)),
            torch.tensor(1.0),
        )
        step = (z, *(t.double() for t in (nothing, tile, tile, ones, ones, ones, nothing)))
        self.operations = operations(self.graphs["generator"], z)  # of one image
        self.step_operations = operations(self.graphs["step"], *step)

    @torch.no_grad()
    def step(
        self, z: np.ndarray, nuisance: np.ndarray, data: TileData, damping: float, prior: np.ndarray
    ) -> np.ndarray:
        """Directions of Gauss-Newton steps."""
        arrays = (
            z,
            nuisance,
            data.counts[:, None],
            data.weights[:, None],
            data.law.alpha,
            data.law.beta,
            damping,
            prior,
        )
        direction: np.ndarray = self.graphs["step"](
            *(torch.from_numpy(np.array(a, np.float64)) for a in arrays)
        )[0].numpy()
        return direction

    @torch.no_grad()
    def of(
        self, z: np.ndarray, data: TileData, scale: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and gradients."""

        def wide(a: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.asarray(a, dtype=np.float64))

        x, dz = self.graphs["gradient"](
            wide(z),
            wide(data.counts)[:, None],
            wide(data.weights)[:, None],
            wide(scale),
            wide(shift)[:, None],
            wide(scale),
            torch.tensor(data.law.alpha, dtype=torch.float64),
            torch.tensor(data.law.beta, dtype=torch.float64),
        )
        return x[:, 0].numpy(), dz.numpy()


def matrix_rate(device: str, seconds: float, kind: torch.dtype) -> float:
    """Operations a second of a matrix product of `kind` on a device."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn((n, n), device=device).to(kind) for _ in range(2))

    def work() -> None:
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * n**3 / timed(work, seconds)[0]


def tiles_of(engine: Engine, count: int) -> tuple[Any, ...]:
    """What a Gauss-Newton step takes: latents, nuisances, counts of other latents, damping, the
    nuisances' precision."""
    z, other = (restart_latents(seed, range(count), engine.model.card.latent) for seed in (0, 1))
    images = engine.generate(other)
    data = TileData(
        np.random.default_rng(0).poisson(9 * images).astype(np.float32),
        np.ones_like(images),
        NoiseLaw(1.0, 0.5),
    )
    nuisance = np.tile(np.array([np.log(9), 0, 0, 0], np.float32), (count, 1))
    return z, nuisance, data, SearchSettings().damping, np.tile(PRECISION, (count, 1))


def correctness(engine: Engine, reference: Reference) -> dict[str, float]:
    """Largest difference of images, vacuum units, and of gradients and steps as a share of their
    length."""
    z = restart_latents(0, range(CHECKED), engine.model.card.latent)
    images = engine.generate(z)
    data = TileData(
        np.random.default_rng(0).poisson(9 * images).astype(np.float32),
        np.ones_like(images),
        NoiseLaw(1.0, 0.5),
    )
    scale, shift = np.full(CHECKED, 9, np.float32), np.zeros_like(images)
    x, dz = reference.of(z, data, scale, shift)
    evaluation = engine.value_and_gradient(z, data, scale, shift)
    length = np.linalg.norm(dz, axis=1)
    off = float((np.linalg.norm(evaluation.gradient - dz, axis=1) / length).max())
    tiles = tiles_of(engine, CHECKED)
    step, direction = engine.step(*tiles), reference.step(*tiles)
    assert step is not None
    apart = np.linalg.norm(step[0] - direction, axis=1) / np.linalg.norm(direction, axis=1)
    return {
        "image_error": float(np.abs(images - x).max()),
        "gradient_error": off,
        "step_error": float(apart.max()),
    }


def speeds(
    engine: Engine, reference: Reference, rate: float, seconds: float, batches: tuple[int, ...]
) -> dict[str, Any]:
    """The best batch of the bank's generation, Gauss-Newton steps, and the score product."""
    best: dict[str, Any] = {"images_per_s": 0.0}
    for batch in batches:
        z = restart_latents(0, range(batch), engine.model.card.latent)
        took, spread = timed(lambda z=z: engine.generate(z), seconds)  # type: ignore[misc]
        if batch / took > best["images_per_s"]:
            share = batch / took * reference.operations / rate
            best = {
                "images_per_s": batch / took,
                "spread": spread,
                "batch": batch,
                "share_of_matrix_rate": share,
            }
    z = restart_latents(0, range(max(batches)), engine.model.card.latent)
    images = engine.generate(z)
    part = BankPart(images.astype(np.float16))
    tiles = TileData(
        np.repeat(images[:4], 8, 0), np.ones((32, *images.shape[1:]), np.float32), POISSON
    )
    took, _ = timed(lambda: bank_scores(part, tiles, 1.0), seconds)
    best["scores_per_s"] = 32 * len(images) / took
    tile = tiles_of(engine, STEPS)
    took, _ = timed(lambda: engine.step(*tile), seconds)
    return best | {
        "steps_per_s": STEPS / took,
        "steps_share": STEPS / took * reference.step_operations / rate,
    }


def frames(engine: Engine, side: int, count: int, restarts: int) -> dict[str, Any]:
    """One frame, and a stack of `count`."""
    demo = demo_frames()[0]
    wide = np.pad(demo.image, [(0, max(0, side - n)) for n in demo.image.shape], mode="reflect")
    y, x = ((n - side) // 2 for n in wide.shape)
    clean = np.ascontiguousarray(wide[y : y + side, x : x + side])
    options = Options(restarts=restarts)
    recording = RecordingDenoiser(engine=engine, bank=options.open_bank(engine), options=options)
    noisy = [DEMO_NOISE.apply(clean, seed) for seed in range(count)]
    recording.search(noisy[0], demo.sampling_angstrom)
    begun = time.perf_counter()
    results = [recording.search(frame, demo.sampling_angstrom) for frame in noisy]
    return {
        "frame_s": (time.perf_counter() - begun) / count,
        "frames": count,
        "psnr_db": psnr(clean, results[0].image),
        "refine_s": results[0].seconds["refine"],
        "score_s": results[0].seconds["score"],
    }


def original(engine: Engine, restarts: int, steps: OriginalSettings) -> dict[str, Any]:
    """The original method and gdn on the most crowded tile of a frame, by the same engine: at an
    objective no worse?"""
    demo, card = demo_frames()[0], engine.model.card
    tiles = frame_tiles(
        demo.image, demo.sampling_angstrom, [0, 0x711E], 1.0, card.sampling_angstrom, card.patch
    )
    crowded = tiles.clean.std((1, 2)).argmax(keepdims=True)
    tiles = replace(tiles, data=tiles.data.take(crowded), clean=tiles.clean[crowded])
    timings = against_original(engine, bank_for(engine, 0, restarts), tiles, steps)
    theirs = timings["original"]
    row: dict[str, Any] = {
        "original_s": theirs.seconds,
        "original_objective": theirs.objective,
        "original_psnr_db": theirs.decibels,
    }
    for name in ("mean", "map"):
        timing = timings[name]
        row |= {
            f"{name}_s": timing.seconds,
            f"{name}_objective": timing.objective,
            f"{name}_psnr_db": timing.decibels,
        }
        row |= {
            f"{name}_times_faster": theirs.seconds / timing.seconds,
            f"{name}_no_worse": timing.no_worse == 1,
        }
    return row


def against(row: dict[str, Any]) -> str:
    """The last three columns of an engine's row."""
    if "original_s" not in row:
        return "not run | |"
    reached = f"{row['map_times_faster']:.3g}" if row["map_no_worse"] else "not reached"
    cells = [
        (f"{row['original_s']:.2f}", "original"),
        (f"{row['mean_times_faster']:.3g}", "mean"),
        (reached, "map"),
    ]
    return " | ".join(f"{text} ({row[f'{name}_objective']:.0f})" for text, name in cells)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    parser.add_argument("--side", type=int, help="px of the frame [1200 with a card, 400 without]")
    parser.add_argument("--stack", type=int, help="frames [40 with a card, 2 without]")
    parser.add_argument("--restarts", type=int, help="[4096 with a card, 64 without]")
    parser.add_argument(
        "--original",
        type=int,
        nargs=3,
        help="restarts, steps, final steps [10 1500 10000; 1 20 20]",
    )
    parser.add_argument("--json", type=Path, help="also write every engine's row as a JSON line")
    options = parser.parse_args()
    card = has_driver() and torch.cuda.is_available()
    side, stack = options.side or (1200 if card else 400), options.stack or (40 if card else 2)
    restarts = options.restarts or (4096 if card else 64)
    steps = original_settings(options.original or ((10, 1500, 10_000) if card else (1, 20, 20)))
    batches = (256, 1024, 4096) if card else (16, 64)
    model = find_model(options.model)
    reference = Reference(model)
    processor = torch.cuda.get_device_name() if card else platform.processor() or platform.machine()
    print(
        f"{processor}; torch {torch.__version__}; {model.card.name}: "
        f"{reference.operations / 1e6:.0f} Mflop an image\n"
    )
    rates = {"cpu": matrix_rate("cpu", options.seconds, torch.float32)}
    if card:
        rates["cuda"] = matrix_rate("cuda", options.seconds, torch.bfloat16)
    print(
        ", ".join(
            f"{device}: {rate / 1e12:.3g} Tflop/s of a matrix product"
            for device, rate in rates.items()
        )
        + "\n"
    )
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|---{'|--:' * (len(COLUMNS) - 1)}|")
    rows, good = [], True
    for label, engine in here(model):
        if isinstance(engine, str):
            print(f"| {label} | {engine} |")
            rows.append({"engine": label, "reason": engine})
            continue
        with engine:
            row: dict[str, Any] = {"engine": label} | correctness(engine, reference)
            row |= speeds(
                engine, reference, rates[engine.device.split(":")[0]], options.seconds, batches
            )
            row |= frames(engine, side, stack, restarts)
            if (
                not card or engine.device != "cpu"
            ):  # of a card's minutes none for the CPU's 25,000 passes
                row |= original(engine, restarts, steps)
        good &= row["image_error"] < 3e-2 and max(row["gradient_error"], row["step_error"]) < 0.1
        rows.append(row)
        print(
            f"| {label} | {row['image_error']:.1e} | {row['gradient_error']:.1e} | "
            f"{row['step_error']:.1e}"
            f" | {row['images_per_s']:.0f} ({row['spread']:.0%}; {row['batch']}) | "
            f"{row['share_of_matrix_rate']:.1%}"
            f" | {row['steps_per_s']:.0f} ({row['steps_share']:.1%}) | {row['scores_per_s']:.3g}"
            f" | {row['frame_s']:.2f} ({row['score_s']:.2f}, {row['refine_s']:.2f}) | "
            f"{against(row)} |",
            flush=True,
        )
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

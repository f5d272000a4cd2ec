"""The training loop: set up, restore, then (step, average, status, snapshot, checkpoint).

Progress is counted in images. The same command resumes. A run folder holds `recipe.json`,
`stats.jsonl`, `grids/`, `checkpoint.pt` (tensors and numbers only).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdn import __version__
from gdn.generator.networks import freeze_statistics
from gdn.generator.torch_globals import torch_threads
from gdn.recipes import Recipe
from gdn.storage import write_json
from gdn.training import distributed
from gdn.training import run_log as monitor
from gdn.training.held_out_status import status
from gdn.training.patch_stream import ArrayStream, WaveStream, open_stream
from gdn.training.shared_randomness import StepDraws
from gdn.training.state import State
from gdn.training.training_step import step

VALIDATION = 256  # patches


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how long to run. These options do not change what is learnt, only when the run
    stops and reports.

    - `run`: its folder.
    - `data`: the folder of a data set.
    - `device`: of torch.
    - `workers`: processes that make patches.
    - `threads`: of torch (None: all cores).
    - `minutes`: after which it stops (None: at the recipe's end).
    - `checkpoint_minutes`: between checkpoints.
    - `report`: is given each row of `stats.jsonl`.
    - `progress`: is given the number of images after every step.
    """

    run: Path
    data: Path
    device: str = "cpu"
    workers: int = 0
    threads: int | None = None
    minutes: float | None = None
    status_every: int = 20_000  # images
    checkpoint_minutes: float = 5.0
    start_from: Path | None = None  # model folder whose weights a new run starts from
    report: Callable[[dict[str, Any]], None] = field(default=lambda row: None)
    progress: Callable[[int], None] = field(default=lambda images: None)


def train(recipe: Recipe, options: RunOptions) -> State:
    """Run or resume until the recipe's images are seen or the minutes are over. Returns the state.
    Raises ValueError for a folder that holds another recipe's run, or for unusable data."""
    rank, world = distributed.start()
    device = (
        options.device
        if options.device != "cuda" or world == 1
        else f"cuda:{distributed.local_rank()}"
    )
    # First the data: what cannot be trained on leaves no folder of a run behind.
    stream = open_stream(options.data, recipe, options.workers, (rank, world))
    try:
        _prepare_folder(recipe, options.run, rank)
        with torch_threads(options.threads):
            state = State(recipe, device)
            if (options.run / "checkpoint.pt").exists():
                state.load(options.run / "checkpoint.pt", device)
                stream.skip(state.images)
                if rank == 0:
                    monitor.cut_stats(options.run, state.images)
            elif options.start_from is not None:
                state.start_from(options.start_from)
            distributed.same_weights(*state.modules().values())
            distributed.synchronise_norms(state.generator, state.discriminator, state.encoder)
            _run(state, recipe, options, stream, ComputePlace(device, rank, world))
            return state
    finally:
        stream.close()
        distributed.stop()


@dataclass(frozen=True)
class ComputePlace:
    """Where this process of a run computes: its `device`, and its number `rank` among `world`
    processes."""

    device: str
    rank: int
    world: int


def _run(
    state: State,
    recipe: Recipe,
    options: RunOptions,
    stream: WaveStream | ArrayStream,
    place: ComputePlace,
) -> None:
    device, rank = place.device, place.rank
    per_process = recipe.optimiser.batch // place.world
    held_out = torch.from_numpy(stream.validation(VALIDATION)).to(
        device, memory_format=torch.channels_last
    )
    fixed = torch.from_numpy(
        np.random.default_rng(7).standard_normal((256, recipe.network.latent), np.float32)
    ).to(device)
    started, before, last_save = time.monotonic(), state.seconds, time.monotonic()
    next_status = state.images + (0 if state.images == 0 else options.status_every)
    sums: dict[str, float] = {}
    steps = 0
    while state.images < recipe.optimiser.images:
        for module in state.modules().values():
            module.train()
        if state.images >= recipe.optimiser.freeze_norm_from * recipe.optimiser.images:
            freeze_statistics(state.generator)
            if state.encoder is not None:
                freeze_statistics(state.encoder)
        # Each step's noise follows from the seed and the place in the run, so that a resume repeats
        # it.
        draws = StepDraws((recipe.stream.seed, state.images), stream.shards, device)
        batch = stream.draw(per_process)
        real = torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last)
        row = step(state, recipe, real, torch.from_numpy(batch.labels).to(device), device, draws)
        state.images += per_process * place.world
        state.seconds = before + time.monotonic() - started
        steps += 1
        if rank == 0:
            options.progress(state.images)
        sums = {name: sums.get(name, 0.0) + value for name, value in row.items()}
        spent = distributed.any_true(
            options.minutes is not None and time.monotonic() - started > 60 * options.minutes
        )
        if state.images >= next_status or spent or state.images >= recipe.optimiser.images:
            means = distributed.mean_of({name: value / steps for name, value in sums.items()})
            _check_finite(means, state.images)
            if rank == 0:
                quality, samples = status(state, recipe, held_out, fixed, device)
                _report(state, options, means | quality, held_out, samples)
            next_status, sums, steps = state.images + options.status_every, {}, 0
        if rank == 0 and time.monotonic() - last_save > 60 * options.checkpoint_minutes:
            state.save(options.run / "checkpoint.pt")
            last_save = time.monotonic()
        if spent:
            break
    if rank == 0:
        state.save(options.run / "checkpoint.pt")


def _check_finite(sums: dict[str, float], images: int) -> None:
    if not all(math.isfinite(v) for v in sums.values()):
        raise FloatingPointError(
            f"training diverged at {images} images (a loss is not finite); resume with a "
            "lower learning rate"
        )


def _report(
    state: State, options: RunOptions, numbers: dict[str, Any], held_out: Tensor, samples: Tensor
) -> None:
    """Store the `numbers` of a status, and a grid of `held_out` patches and generated `samples`."""
    row = {"images": state.images, "seconds": round(state.seconds, 1)} | numbers
    row["warnings"] = monitor.collapse_warnings(row)
    row = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
    monitor.append_stats(options.run, row)
    grid = options.run / "grids" / f"{state.images:010d}.png"
    monitor.save_grid(grid, held_out[:64].cpu().numpy(), samples[:64].cpu().numpy())
    options.report(row)


def _prepare_folder(recipe: Recipe, run: Path, rank: int) -> None:
    """Write the recipe, or check that the run in the folder is this one (its length may differ)."""
    path = run / "recipe.json"
    if path.exists():
        # Read through the schema: a run of an earlier version lacks the settings that came later.
        theirs = Recipe.model_validate(json.loads(path.read_text())["recipe"]).model_dump(
            mode="json"
        )
        mine = recipe.model_dump(mode="json")
        for settings in (theirs, mine):
            settings["optimiser"].pop("images", None)
        if theirs != mine:
            raise ValueError(
                f"{run}: holds a run with other settings; choose another folder or the same recipe"
            )
    if rank == 0:
        (run / "grids").mkdir(parents=True, exist_ok=True)
        content = {
            "gdn": __version__,
            "torch": torch.__version__,
            "recipe": recipe.model_dump(mode="json"),
        }
        # Whole: another process of the run may be reading it.
        write_json(path, content)

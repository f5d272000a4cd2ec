"""Train a generator for a given time from exit waves that stay on the training device.

It does what `gdn.training.loop` does from stored waves. Progress is a share of the time, counted in
the recipe's images. So rates and lengths keep their meaning on a device of any speed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdn.generator.networks import freeze_statistics
from gdn.recipes import Recipe, load_recipe
from gdn.simulation.patch_sources import source_of
from gdn.simulation.structures import seeds_of
from gdn.simulation.workers import StructureWorkers
from gdn.storage import json_line, write_json
from gdn.training import run_log as monitor
from gdn.training.held_out_status import status
from gdn.training.shared_randomness import Shards, StepDraws
from gdn.training.state import State
from gdn.training.training_step import step

BATCH, RATE = 256, 1e-3  # a card's; the recipe's own where there is none
POOL, HELD_OUT_STRUCTURES, HELD_OUT = 3000, 24, 256
CPU_STEPS_A_STRUCTURE = 8


class ResidentRun:
    """One run of `recipe` (name or file) on `device`. It starts from the weights of the model
    folder `start`.

    Raises ValueError for an unknown recipe, and for weights of another shape.
    """

    def __init__(
        self, recipe: str, start: Path | None, device: str, seed: int = 0, toy: bool = False
    ) -> None:
        self.recipe, self.device, self.toy = (
            _on_device(load_recipe(recipe), device, toy),
            device,
            toy,
        )
        self.state = State(self.recipe, device)
        if start is not None:
            self.state.start_from(start)
        seeds = seeds_of("train", np.random.default_rng([seed, 0x5E]))
        self.source = source_of(self.recipe, 4 if toy else POOL, device, seeds, toy)
        self._held_out_seeds = seeds_of("validation", np.random.default_rng(0xE1))
        size = 2 if toy else HELD_OUT_STRUCTURES
        self._held_out_source = source_of(self.recipe, size, device, self._held_out_seeds, toy)
        self.patches, self.drawing, self._calls = 0, 0.0, 0

    @cached_property
    def held_out(self) -> Tensor:
        """Patches of validation structures, the same in every run."""
        source = self._held_out_source
        while source.pool.count < len(source.pool.waves):
            structure = source.make(next(self._held_out_seeds))
            if len(structure.numbers):
                source.add(structure)
        return source.draw(16 if self.toy else HELD_OUT)

    def _feed(self, workers: StructureWorkers) -> None:
        """Add finished structures to the pool, many at the start. Later a CPU adds only a few,
        because computing their waves takes time from training."""
        pool, self._calls = self.source.pool, self._calls + 1
        enough = 400 if self.device == "cuda" else 64
        if self.device != "cuda" and pool.count >= enough and self._calls % CPU_STEPS_A_STRUCTURE:
            return
        for structure in workers.ready(16 if pool.count < enough else 2):
            if len(structure.numbers):
                self.source.add(structure)

    def train(
        self, out: Path, seconds: float, workers: StructureWorkers, status_every: float = 60.0
    ) -> Iterator[dict[str, Any]]:
        """Train for `seconds`. Yields each status row once its files are written into `out`."""
        begun = last = time.monotonic()
        length, batch = self.recipe.optimiser.images, self.recipe.optimiser.batch
        fixed = torch.randn(
            64, self.recipe.network.latent, generator=torch.Generator().manual_seed(7)
        ).to(self.device)
        row: dict[str, float] = {}
        while (done := (time.monotonic() - begun) / seconds) < 1:
            self._feed(workers)
            if self.source.pool.filled < min(64, len(self.source.pool.waves)):
                time.sleep(0.01)  # the processes may share this core
                continue
            self.state.images = int(done * length)
            for module in self.state.modules().values():
                module.train()
                if done >= self.recipe.optimiser.freeze_norm_from:
                    freeze_statistics(module)
            drawing = time.monotonic()
            real = self.source.draw(batch).contiguous(memory_format=torch.channels_last)
            if self.device == "cuda":
                torch.cuda.synchronize()
            self.drawing += time.monotonic() - drawing
            draws = StepDraws((self.recipe.stream.seed, self.patches), Shards(1), self.device)
            row = step(
                self.state, self.recipe, real, real.new_zeros(len(real), 2), self.device, draws
            )
            self.patches += batch
            if time.monotonic() - last > status_every:
                last = time.monotonic()
                yield self._snapshot(out, fixed, row, last - begun)
        yield self._snapshot(out, fixed, row, time.monotonic() - begun)

    def _snapshot(
        self, out: Path, fixed: Tensor, row: dict[str, float], seconds: float
    ) -> dict[str, Any]:
        """Write averaged weights, recipe, statistics and a grid of held-out patches beside random
        samples."""
        quality, samples = status(self.state, self.recipe, self.held_out, fixed, self.device)
        row = (
            {"images": self.patches, "seconds": seconds, "structures": self.source.pool.count}
            | row
            | quality
        )
        row = {name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()}
        self.state.save_weights(out / "weights.safetensors")
        content = {"recipe": self.recipe.model_dump(mode="json"), "training": row}
        write_json(out / "recipe.json", content)
        with (out / "stats.jsonl").open("a") as stream:
            stream.write(json_line(row) + "\n")
        shown = self.held_out[:64].float().cpu().numpy()
        monitor.save_grid(out / "grid.png", shown, samples[: len(shown)].float().cpu().numpy())
        return row


def _on_device(recipe: Recipe, device: str, toy: bool) -> Recipe:
    """The recipe with the batch size and rates for a card, or with those of a small test."""
    content = recipe.model_dump()
    if device == "cuda":
        content["optimiser"] |= {
            "batch": BATCH,
            "lr_generator": RATE,
            "lr_encoder": RATE,
            "ema_images": 100_000,
        }
        content["optimiser"] |= {"images": 2_000_000, "warmup_images": 40_000}
    if toy:
        content["optimiser"] |= {"batch": 4}
    return Recipe.model_validate(content)

"""Train the restorer: squared error of the clean patch from noisy frames, which are made on the
training device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdn.generator.restorer_network import Restorer, RestorerShape, moments
from gdn.generator.torch_globals import own_random_numbers
from gdn.models import SLOTS
from gdn.simulation.breadth import AnyCrystal, WavePool
from gdn.simulation.conditions import Draws
from gdn.simulation.detectors import observe
from gdn.storage import json_line, write_json, writing
from gdn.training.muon import Muon

HELD_OUT_SEED = 2**40
HELD_OUT_DOSES = (5.0, 15.0, 100.0)  # electrons a pixel


@dataclass(frozen=True, kw_only=True)
class RestorerRecipe:
    """Settings of a run. Lengths are in seconds of the clock or in steps, because a borrowed device
    is lent for a time, not for a number of images."""

    shape: RestorerShape = field(default_factory=RestorerShape)  # of the network
    patch: int = 128  # px
    images: int = 64  # formed at a time
    per_image: int = 3  # patches cut from each
    batch: int = 96  # patches a step
    # passes over each set of clean patches, turned or reflected anew, with fresh noise
    reuse: int = 4
    rate: float = 1.5e-3  # Muon's; AdamW's, of entry, exit and biases, is half
    warmup_steps: int = 200  # in which the rate rises
    decay_from: float = 0.3  # share of the time after which the rate falls (cosine)
    average: float = 0.999  # of the weights, a step
    pool: int = 4000  # structures resident on the device
    seed: int = 0  # of all random numbers

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"shape": self.shape.record()}


def error_weight(clean: Tensor, noise: Tensor) -> Tensor:
    """The weight of each patch's squared error (n, 1, 1, 1). It makes every dose and contrast
    equally important (docs/restorer.md, "Making one").

    `clean` and `noise` (n, 1, h, w) are in standardised units. A restorer's error lies between the
    variances of noise and signal, near their geometric mean: over the study's noise suite it falls
    as dose^-1/2.
    """
    signal = clean.var((1, 2, 3), keepdim=True)
    return 1 / ((noise.var((1, 2, 3), keepdim=True) * signal).sqrt() + 0.02 * signal + 1e-4)


def loss(
    network: Callable[[Tensor, Tensor], Tensor], clean: Tensor, draws: Draws, device: str
) -> Tensor:
    """Weighted squared error (scalar) of one batch of `clean` patches (n, 1, p, p) with fresh noise
    (docs/restorer.md, "Making one")."""
    seen = observe(clean, draws)
    mean, deviation = moments(seen.frames, seen.mask)
    standard, target = (seen.frames - mean) / deviation, (clean - mean) / deviation
    with torch.autocast(device, torch.bfloat16):
        predicted = network(standard.contiguous(memory_format=torch.channels_last), seen.mask)
    weight = error_weight(target, standard[:, :1] - target).clamp(max=30)
    return (weight * ((predicted.float() - target) ** 2).mean((1, 2, 3), keepdim=True)).mean()


def rate_factor(recipe: RestorerRecipe, step: int, done: float) -> float:
    """Factor of the learning rate: it rises linearly over some steps, is constant, and falls as a
    cosine to 1 % over the last share of the time (Loshchilov & Hutter 2017, eq. 5)."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    through = min(1.0, max(0.0, (done - recipe.decay_from) / (1 - recipe.decay_from)))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * through)))


def split_weights(network: Restorer) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The convolutions between entry and exit, for Muon, and all other weights."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        (inner if weight.ndim == 4 and not name.startswith(("enter", "leave")) else outer).append(
            weight
        )
    return inner, outer


class RestorerRun:
    """Networks, optimiser and source of one run on one device."""

    def __init__(
        self,
        recipe: RestorerRecipe,
        device: str,
        start: dict[str, Tensor] | None = None,
        compiled: bool = True,
    ) -> None:
        self.recipe, self.device = recipe, device
        with own_random_numbers(recipe.seed):
            self.network, self.average = (
                Restorer(recipe.shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                for _ in range(2)
            )
        if start is not None:
            self.network.load_state_dict({name: value.float() for name, value in start.items()})
        self.average.load_state_dict(self.network.state_dict())
        self.average.requires_grad_(False)
        inner, outer = split_weights(self.network)
        self.optimisers: tuple[
            tuple[torch.optim.Optimizer, float], ...
        ] = (  # and the share of the rate that each takes
            (Muon(inner, recipe.rate), 1.0),
            (
                torch.optim.AdamW(
                    outer, recipe.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=device == "cuda"
                ),
                0.5,
            ),
        )
        self.draws = Draws.seeded(recipe.seed, device)
        self._turns = np.random.default_rng([recipe.seed, 0xD4])
        self.pool = WavePool(recipe.pool, device)
        self.source = AnyCrystal(
            draws=self.draws,
            batch=recipe.images,
            patch=recipe.patch,
            per_image=recipe.per_image,
            pool=self.pool,
        )
        self._standard = self.network.restore
        if (
            device == "cuda" and compiled
        ):  # launched as CUDA graphs: a card is faster than the CPU that feeds it
            self._standard = torch.compile(
                self.network.restore, mode="reduce-overhead", dynamic=False
            )
        self.steps, self.patches, self.drawing = 0, 0, 0.0

    def clean(self) -> Tensor:
        """A set of clean patches; the time that it takes is counted."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        begun = time.monotonic()
        images = self.source.draw()
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.drawing += time.monotonic() - begun
        return images

    def batches(self, clean: Tensor) -> Iterator[Tensor]:
        """The batches of all passes over a set of clean patches (n, 1, p, p), each turned and
        reflected as a whole."""
        for _ in range(self.recipe.reuse):
            order = torch.randperm(len(clean), generator=self.draws.generator, device=clean.device)
            for chosen in order.split(self.recipe.batch):
                turns = int(self._turns.integers(8))
                turned = torch.rot90(clean[chosen], turns % 4, (2, 3))
                yield (turned.flip(3) if turns >= 4 else turned).contiguous(
                    memory_format=torch.channels_last
                )

    def step(self, clean: Tensor, done: float) -> Tensor:
        """One update, at the share `done` of the run; returns its loss."""
        factor = self.recipe.rate * rate_factor(self.recipe, self.steps, done)
        value = loss(self._standard, clean, self.draws, self.device)
        self.network.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser, share in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = factor * share
            if (
                self.device == "cuda"
                # AdamW withholds the step itself, as under a gradient scaler: a look would hold the
                # CPU up
            ):
                optimiser.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
            elif not torch.isfinite(norm):
                continue
            optimiser.step()
        self.steps, self.patches = self.steps + 1, self.patches + len(clean)
        kept = min(self.recipe.average, 1 - 1 / (self.steps + 1))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - kept
            )
        return value.detach()

    @torch.no_grad()
    def held_out(self) -> tuple[dict[str, float], Tensor]:
        """dB gained over a constant at each dose, on images that training does not draw; and
        (clean, noisy, restored) patches."""
        draws = Draws.seeded(HELD_OUT_SEED, self.device)
        source = AnyCrystal(
            draws=draws,
            batch=min(64, self.recipe.images),
            patch=self.recipe.patch,
            per_image=1,
            pool=self.pool,
        )
        row: dict[str, float] = {}
        shown = torch.zeros(0)
        for dose in HELD_OUT_DOSES:
            clean = torch.cat([source.draw() for _ in range(4)])
            frames = torch.zeros(len(clean), SLOTS, *clean.shape[2:], device=self.device)
            mask = torch.zeros_like(frames)
            frames[:, :1], mask[:, 0] = (
                torch.poisson(clean * dose, generator=draws.generator) / dose,
                1,
            )
            patches = torch.cat(
                [self._apply(f, m) for f, m in zip(frames.split(64), mask.split(64), strict=True)]
            )
            error, contrast = (
                ((patches - clean) ** 2).mean((1, 2, 3)),
                clean.var((1, 2, 3), correction=0),
            )
            row[f"gain_db_{dose:.0f}"] = round(
                float((10 * torch.log10(contrast / error)).clamp(-5, 50).mean()), 3
            )
            if dose == HELD_OUT_DOSES[1]:
                shown = torch.stack([clean[:, 0], frames[:, 0], patches[:, 0]], 1)[
                    :: max(1, len(clean) // 24)
                ]
        return row, shown.cpu()

    def _apply(self, frames: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16):
            mean, deviation = moments(frames, mask)
            images: Tensor = (
                mean + deviation * self.average.restore((frames - mean) / deviation, mask).float()
            )
            return images


def train_restorer(
    run: RestorerRun,
    out: Path,
    seconds: float,
    feed: Callable[[WavePool], None],
    status_every: float = 60.0,
    span: tuple[float, float] = (0.0, 1.0),
) -> Iterator[dict[str, Any]]:
    """Train for `seconds`, over the part `span` of the rate's schedule. Yields each status row once
    its snapshot is written. `feed` adds structures."""
    begun = last = time.monotonic()
    mean = torch.zeros((), device=run.device)
    while (spent := time.monotonic() - begun) < seconds:
        feed(run.pool)
        for clean in run.batches(run.clean()):
            value = run.step(clean, span[0] + (span[1] - span[0]) * spent / seconds)
            mean = value if run.steps == 1 else 0.98 * mean + 0.02 * value
        if time.monotonic() - last > status_every:
            last = time.monotonic()
            yield snapshot(run, out, last - begun, float(mean))
    yield snapshot(run, out, time.monotonic() - begun, float(mean))


def snapshot(run: RestorerRun, out: Path, seconds: float, mean_loss: float) -> dict[str, Any]:
    """Write weights, settings and a sheet of patches under their names, each file complete. Returns
    the status row."""
    from safetensors.torch import save_file

    row, shown = run.held_out()
    row |= {
        "loss": round(mean_loss, 5),
        "seconds": round(seconds, 1),
        "steps": run.steps,
        "patches": run.patches,
    }
    row |= {
        "structures": run.pool.count,
        "drawing_share": round(run.drawing / max(seconds, 1e-9), 3),
    }
    weights = {name: value.half().contiguous() for name, value in run.average.state_dict().items()}
    with writing(out / "restore.safetensors") as part:
        save_file(weights, str(part))
    description = {
        "shape": run.recipe.shape.record(),
        "recipe": run.recipe.record(),
        "sampling_angstrom": 0.35,
        "slots": SLOTS,
        "statistics": row,
    }
    write_json(out / "restore.json", description)
    with (out / "stats.jsonl").open("a") as stream:
        stream.write(json_line(row) + "\n")
    save_sheet(out / "sheet.png", shown.numpy())
    return row


def save_sheet(path: Path, triples: Any) -> None:
    """Triples (n, 3, p, p) of clean, noisy and restored patches as a picture, eight triples a
    row."""
    from PIL import Image

    def gray(image: Any, low: float, high: float) -> Any:
        return (np.clip((image - low) / (high - low + 1e-9), 0, 1) * 255).astype(np.uint8)

    cells = []
    for clean, noisy, restored in np.asarray(triples, dtype=np.float32):
        low, high = np.percentile(clean, [0.5, 99.5])
        few, many = np.percentile(noisy, [0.5, 99.5])
        cells.append(
            np.vstack([gray(clean, low, high), gray(noisy, few, many), gray(restored, low, high)])
        )
    rows = [np.hstack(cells[i : i + 8]) for i in range(0, len(cells) - len(cells) % 8, 8)] or [
        np.hstack(cells)
    ]
    with writing(path) as part:
        Image.fromarray(np.vstack(rows)).save(part, format="PNG")

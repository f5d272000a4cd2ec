"""One step of learning on windows of a recording's counts, and the images that tell how far it has
come; on the processor or a card (docs/howto/adapt.md, "What happens")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdn.adaptation.lessons import Lesson
from gdn.engines.restorer import turn_stack
from gdn.generator.restorer_network import Restorer
from gdn.likelihood import Array
from gdn.models import SLOTS

CARD_BATCH = 16  # windows of a step on a card, where its memory allows
CARD_SHARE = 4  # a step takes at most one part in so many of the memory that is free
BYTES_PER_PIXEL = 2**14  # of a window, with all that the way back needs, of the shipped restorer


@dataclass(frozen=True)
class Batch:
    """Windows (n, SLOTS, side, side) of counts, their `mask`, the counts to be predicted (n, 1,
    side, side) and their `scale` (n, 1, 1, 1)."""

    frames: Tensor
    mask: Tensor
    target: Tensor
    scale: Tensor

    def first(self, count: int) -> Batch:
        """Some of the windows."""
        return Batch(
            self.frames[:count], self.mask[:count], self.target[:count], self.scale[:count]
        )


def draw_batch(
    lessons: Sequence[Lesson], window: int, count: int, multiple: int, rng: np.random.Generator
) -> Batch:
    """Random windows, each turned and reflected at random, of a side that is a `multiple`."""
    picked = [lessons[int(rng.integers(len(lessons)))] for _ in range(count)]
    sides = [min(window, *(n // multiple * multiple for n in p.counts.shape)) for p in picked]
    side = max(min(sides), multiple)
    frames = torch.zeros(count, SLOTS, side, side)
    mask, target = torch.zeros_like(frames), torch.zeros(count, 1, side, side)
    scale = torch.zeros(count, 1, 1, 1)
    for i, lesson in enumerate(picked):
        counts, others, share, valid = _window(lesson, side, rng)
        frames[i, 0], mask[i, 0] = torch.from_numpy(counts), torch.from_numpy(valid)
        # What the network returns is in units of what it is given.
        target[i, 0] = torch.from_numpy(others * np.float32(share / (1 - share)))
        mean = float(lesson.counts.mean()) * share
        # Every dose counts alike: the variance of such a target, signal aside.
        scale[i] = (1 - share) / float(lesson.law.of_part(share).variance(mean))
    return Batch(frames, mask, target, scale)


def take_step(
    network: Restorer, optimiser: torch.optim.Optimizer, batch: Batch, rate: float
) -> None:
    """Move the weights by one batch, where the network is."""
    device = next(network.parameters()).device
    frames, mask = batch.frames.to(device), batch.mask.to(device)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    halved = has_bfloat16() if device.type == "cpu" else True
    with torch.autocast(device.type, torch.bfloat16, enabled=halved):
        image = network(frames * mask, mask)
    error = (image.float() - batch.target.to(device)) ** 2 * batch.scale.to(device) * mask[:, :1]
    error.mean().backward()
    optimiser.step()


def device_for(words: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` stands for; for other engines' the same as
    for auto."""
    if words.startswith("cuda") or (words != "cpu" and torch.cuda.is_available()):
        return torch.device(words if words.startswith("cuda") else "cuda")
    return torch.device("cpu")


def batch_for(device: torch.device, window: int, count: int) -> int:
    """Windows of a step: `count` on the processor, more on a card with the memory for it."""
    if device.type == "cpu":
        return count
    free = torch.cuda.mem_get_info(device)[0]
    fits = free // CARD_SHARE // (BYTES_PER_PIXEL * window**2)
    return int(min(max(CARD_BATCH, count), max(1, fits)))


def has_bfloat16() -> bool:
    """Whether this processor multiplies numbers of half the length, which takes half the time;
    elsewhere they would be emulated, slowly."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


def _window(
    lesson: Lesson, side: int, rng: np.random.Generator
) -> tuple[Array, Array, float, Array]:
    """Counts, those to be predicted, the share of the former, and where they are valid, in a random
    window; a frame smaller than that is mirrored."""
    rows, columns = lesson.counts.shape
    y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in (rows, columns))
    at = slice(y, y + side), slice(x, x + side)
    first, rest, share = lesson.pair(at, rng)
    valid = np.ones_like(first) if lesson.valid is None else lesson.valid[at]
    turn = int(rng.integers(8))
    beyond = [(0, max(side - n, 0)) for n in first.shape]
    pieces = []
    for array in (first, rest, valid):
        whole = turn_stack(np.pad(array, beyond, mode="symmetric"), turn)
        pieces.append(np.ascontiguousarray(whole, np.float32))
    return pieces[0], pieces[1], share, pieces[2]


@torch.no_grad()
def move_average(average: Restorer, network: Restorer, keep: float) -> None:
    """Move the mean of the weights, of which the share `keep` stays, towards those of `network`
    (Polyak & Juditsky 1992; exponential: Karras et al. 2024, section 3)."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)


def weights_of(network: Restorer) -> dict[str, Tensor]:
    """A copy of its weights, in the memory of the processor."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def images(network: Restorer, lessons: Sequence[Lesson]) -> list[Array]:
    """The network's image of each lesson's counts, per electron of the frame."""
    device, restored = next(network.parameters()).device, []
    for lesson in lessons:
        rows, columns = lesson.counts.shape
        multiple = network.shape.multiple
        beyond = [(0, -n % multiple) for n in (rows, columns)]
        valid = np.ones_like(lesson.counts) if lesson.valid is None else lesson.valid
        frames = torch.zeros(2, 1, SLOTS, rows + beyond[0][1], columns + beyond[1][1])
        for i, array in enumerate((lesson.counts, valid)):
            frames[i, 0, 0] = torch.from_numpy(np.pad(array, beyond, mode="symmetric"))
        frames = frames.to(device)
        image = network(frames[0] * frames[1], frames[1])[0, 0, :rows, :columns].cpu().numpy()
        restored.append(np.asarray(image / lesson.share, dtype=np.float32))
    return restored

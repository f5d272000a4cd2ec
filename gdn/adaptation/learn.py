"""Trains the restorer's weights on a recording's own counts, as long as counts that are kept aside
are predicted better."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdn.adaptation.lessons import Lesson, error_nats, held_out_nats
from gdn.engines.restorer import turned
from gdn.generator.restorer_network import Restorer
from gdn.generator.torch_globals import torch_threads
from gdn.likelihood import Array
from gdn.models import SLOTS

JUDGED = 4  # frames at most by which it is told whether learning gains
# Looks at them without a gain, after which it ends, unless the last gain is younger than half of
# the steps: the kept counts are few, and what they say of each look is noisy.
PATIENCE = 10
GAIN = 0.5  # nats: less is no gain
RESOLVED = 4.0  # standard errors from which on the error that is left is known


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """For how long and how fast. `seconds` of the clock, or exactly so many `steps`, which repeats
    a run to the bit on the same machine with the same `threads`; `anew_steps` of a network that
    begins from nothing (None: ten times as many)."""

    seconds: float = 60.0
    steps: int | None = None
    anew_steps: int | None = None
    rate: float = 1e-4
    window: int = 128  # px of the network, of what is learned from at a time
    batch: int = 2
    look_every: int = 12  # steps
    average: float = 0.97  # of the weights, a step
    seed: int = 0
    threads: int | None = None


@dataclass
class Learned:
    """The `weights` by their names in torch, and how they came about: `steps`, and the `curve` of
    (step, seconds, nats gained on the kept counts); `best` of its steps."""

    weights: dict[str, Tensor]
    steps: int = 0
    best: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "steps": self.steps,
            "best_step": self.best,
            "gain_nats": round(max((nats for *_, nats in self.curve), default=0.0), 2),
            "curve": [[step, round(s, 1), round(nats, 2)] for step, s, nats in self.curve],
        }


class Learning:
    """A `network` while it learns from `lessons`; what is best so far is in `learned`."""

    def __init__(
        self, network: Restorer, lessons: Sequence[Lesson], settings: LearningSettings
    ) -> None:
        self._network, self._lessons, self._settings = network, lessons, settings
        self._rng = np.random.default_rng([settings.seed, 0xADA])
        numbers = np.linspace(0, len(lessons) - 1, min(JUDGED, len(lessons)))
        self._judged = [lessons[int(number)] for number in numbers]
        self._average = copy.deepcopy(network)
        self._optimiser = torch.optim.Adam(
            network.parameters(), lr=settings.rate, betas=(0.9, 0.99)
        )
        self._start = images(network, self._judged)
        flat = [
            np.full_like(lesson.counts, lesson.counts.mean() / lesson.share)
            for lesson in self._judged
        ]
        self._ahead = held_out_nats(self._judged, self._start, flat)
        self._error = error_nats(self._judged, self._start)
        self._without = 0  # looks without a gain
        self.learned, self.seconds = Learned(_weights(network)), 0.0

    @property
    def idle(self) -> bool:
        """Whether it has long gained nothing."""
        return self._without >= PATIENCE and self.learned.steps >= 2 * self.learned.best

    @property
    def nats(self) -> float:
        """Gained over the start on the kept counts."""
        return max((nats for *_, nats in self.learned.curve), default=0.0)

    @property
    def lead(self) -> float:
        """Nats by which it explains the kept counts better than a flat image does: networks of
        other pixel sizes compare by it."""
        return self._ahead + max(self.nats, 0.0)

    @property
    def gain_db(self) -> float | None:
        """Gained over the start, dB of the squared error; None where the kept counts do not tell
        how large that was."""
        error, doubt = self._error
        left = error - max(self.nats, 0.0)
        if left < RESOLVED * doubt:
            return None
        return float(10 * np.log10(error / left))

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        decibels = self.gain_db
        return self.learned.record() | {
            "lead_nats": round(self.lead, 2),
            "gain_db": None if decibels is None else round(decibels, 2),
        }

    @property
    def wanted(self) -> int | None:
        """How many steps it shall take, if it is said."""
        return self._settings.steps

    def until(
        self, seconds: float, steps: int | None, told: Callable[[], None] = lambda: None
    ) -> None:
        """Learn until it is idle, or has taken so many seconds of the clock in all; or so many
        `steps`, whatever the clock. `told` hears of every look at the kept counts."""
        begun, learned = time.monotonic() - self.seconds, self.learned
        while not self.idle and (
            self.seconds < seconds if steps is None else learned.steps < steps
        ):
            self._advance()
            self.seconds = time.monotonic() - begun
            if learned.steps % self._settings.look_every == 0:
                self._look()
                self.seconds = time.monotonic() - begun
                told()

    def _advance(self) -> None:
        learned, settings = self.learned, self._settings
        _step(self._network, self._optimiser, self._lessons, settings, learned.steps, self._rng)
        learned.steps += 1
        keep = min(settings.average, learned.steps / (learned.steps + 9))
        _average(self._average, self._network, keep)

    def _look(self) -> None:
        learned = self.learned
        nats = held_out_nats(self._judged, images(self._average, self._judged), self._start)
        gained = nats > max(self.nats, 0.0) + GAIN
        learned.curve.append((learned.steps, self.seconds, nats))
        self._without = 0 if gained else self._without + 1
        if gained:
            learned.best, learned.weights = learned.steps, _weights(self._average)


def learn(
    network: Restorer,
    lessons: Sequence[Lesson],
    settings: LearningSettings,
    progress: Callable[[float, float], None] = lambda share, nats: None,
) -> Learned:
    """Tune `network` on `lessons` and return the best weights met, those at the start where nothing
    gained. `progress` hears of the share that is done and the nats gained so far. Ctrl-C ends it
    with the best so far."""
    with torch_threads(settings.threads):
        learning = Learning(network, lessons, settings)

        def tell() -> None:
            steps, seconds = learning.learned.steps, learning.seconds
            done = seconds / settings.seconds if settings.steps is None else steps / settings.steps
            progress(min(1.0, done), max(learning.nats, 0.0))

        with suppress(KeyboardInterrupt):  # the best so far is a result
            learning.until(settings.seconds, settings.steps, tell)
    return learning.learned


def has_bfloat16() -> bool:
    """Whether this processor multiplies numbers of half the length, which takes half the time;
    elsewhere they would be emulated, slowly."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


def _step(
    network: Restorer,
    optimiser: torch.optim.Optimizer,
    lessons: Sequence[Lesson],
    settings: LearningSettings,
    number: int,
    rng: np.random.Generator,
) -> None:
    """One step on a batch of windows, each turned and reflected at random."""
    multiple = network.shape.multiple
    picked = [lessons[int(rng.integers(len(lessons)))] for _ in range(settings.batch)]
    sides = [
        min(settings.window, *(n // multiple * multiple for n in p.counts.shape)) for p in picked
    ]
    side = max(min(sides), multiple)
    frames = torch.zeros(settings.batch, SLOTS, side, side)
    mask, target = torch.zeros_like(frames), torch.zeros(settings.batch, 1, side, side)
    scale = torch.zeros(settings.batch, 1, 1, 1)
    for i, lesson in enumerate(picked):
        counts, others, share, valid = _window(lesson, side, rng)
        frames[i, 0], mask[i, 0] = torch.from_numpy(counts), torch.from_numpy(valid)
        # What the network returns is in units of what it is given.
        target[i, 0] = torch.from_numpy(others * np.float32(share / (1 - share)))
        mean = float(lesson.counts.mean()) * share
        # Every dose counts alike: the variance of such a target, signal aside.
        scale[i] = (1 - share) / float(lesson.law.of_part(share).variance(mean))
    for group in optimiser.param_groups:
        group["lr"] = settings.rate * min(1.0, (number + 1) / 10)
    optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        image = network(frames * mask, mask)
    error = (image.float() - target) ** 2 * scale * mask[:, :1]
    error.mean().backward()
    optimiser.step()


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
        whole = turned(np.pad(array, beyond, mode="symmetric"), turn)
        pieces.append(np.ascontiguousarray(whole, np.float32))
    return pieces[0], pieces[1], share, pieces[2]


@torch.no_grad()
def _average(average: Restorer, network: Restorer, keep: float) -> None:
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)


def _weights(network: Restorer) -> dict[str, Tensor]:
    """A copy of its weights."""
    return {name: value.clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def images(network: Restorer, lessons: Sequence[Lesson]) -> list[Array]:
    """The network's image of each lesson's counts, per electron of the frame."""
    restored = []
    for lesson in lessons:
        rows, columns = lesson.counts.shape
        multiple = network.shape.multiple
        beyond = [(0, -n % multiple) for n in (rows, columns)]
        valid = np.ones_like(lesson.counts) if lesson.valid is None else lesson.valid
        frames = torch.zeros(2, 1, SLOTS, rows + beyond[0][1], columns + beyond[1][1])
        for i, array in enumerate((lesson.counts, valid)):
            frames[i, 0, 0] = torch.from_numpy(np.pad(array, beyond, mode="symmetric"))
        image = network(frames[0] * frames[1], frames[1])[0, 0, :rows, :columns].numpy()
        restored.append(np.asarray(image / lesson.share, dtype=np.float32))
    return restored

"""Trains the restorer's weights on a recording's own counts, as long as counts that are kept aside
are predicted better (docs/howto/adapt.md, "What happens")."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdn.adaptation.lessons import Lesson, error_nats, held_out_nats
from gdn.adaptation.steps import (
    batch_for,
    device_for,
    draw_batch,
    images,
    move_average,
    take_step,
    weights_of,
)
from gdn.engines.base import is_out_of_memory
from gdn.generator.restorer_network import Restorer
from gdn.likelihood import Array

JUDGED = 4  # frames at most by which it is told whether learning gains
# Looks at them without a gain, after which it ends, unless the last gain is younger than half of
# the steps: the kept counts are few, and what they say of each look is noisy.
PATIENCE = 10
GAIN = 0.5  # nats: less is no gain
WARMING = 10  # steps in which the rate grows to what it is: Adam's first ones know no scale
RESOLVED = 4.0  # standard errors from which on the error that is left is known


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """For how long and how fast.

    - `seconds`: of the clock.
    - `steps`: exactly so many instead, which repeats a run to the bit on the same machine with the
      same `threads`.
    - `anew_steps`: those of a network that begins from nothing (None: ten times as many).
    - `rate`: Adam's.
    - `batch`: windows a step.
    - `seed`: of what is learned from.
    - `threads`: of torch (None: all cores).
    """

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
    device: str = "cpu"  # or cuda, cuda:N, auto


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
        self.device, self.notes = device_for(settings.device), list[str]()
        self.batch = settings.batch
        try:
            self._move(self.device)
            self.batch = batch_for(self.device, settings.window, settings.batch)
        except Exception as error:
            self._make_way(error)
        self._start = self._images()
        flat = [
            np.full_like(lesson.counts, lesson.counts.mean() / lesson.share)
            for lesson in self._judged
        ]
        self._ahead = held_out_nats(self._judged, self._start, flat)
        self._error = error_nats(self._judged, self._start)
        self._without = 0  # looks without a gain
        self.learned, self.seconds = Learned(weights_of(network)), 0.0

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
        how large that was (docs/howto/adapt.md, "What happens")."""
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
            "device": str(self.device),
            "windows_a_step": self.batch,
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
        multiple = self._network.shape.multiple
        batch = draw_batch(self._lessons, settings.window, self.batch, multiple, self._rng)
        rate = settings.rate * min(1.0, (learned.steps + 1) / WARMING)
        while True:
            try:
                take_step(self._network, self._optimiser, batch.first(self.batch), rate)
                break
            except Exception as error:
                self._make_way(error)
        learned.steps += 1
        keep = min(settings.average, learned.steps / (learned.steps + 9))
        move_average(self._average, self._network, keep)

    def _make_way(self, error: Exception) -> None:
        """Go on with half the batch where memory ran out, and on the processor where a card fails;
        else raise the error."""
        if is_out_of_memory(error) and self.batch > 1:
            self.batch //= 2
            self.notes.append(f"memory ran out on {self.device}: {self.batch} windows a step")
        else:
            self._leave_card(error)

    def _leave_card(self, error: Exception) -> None:
        """Go on on the processor after an `error` of a card; raise one of the processor's."""
        if self.device.type == "cpu":
            raise error
        words = " ".join(str(error).split())[:120]
        self.notes.append(f"{self.device} failed ({words}): learning goes on on the processor")
        self.batch = min(self.batch, self._settings.batch)
        self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        """Take networks and optimiser to a device; the optimiser begins anew."""
        self.device = device
        self._network.to(device)
        self._average.to(device)
        self._optimiser = torch.optim.Adam(
            self._network.parameters(), lr=self._settings.rate, betas=(0.9, 0.99)
        )

    def _images(self) -> list[Array]:
        """Those of the averaged network, by which it is judged."""
        try:
            return images(self._average, self._judged)
        except Exception as error:
            self._leave_card(error)
            return images(self._average, self._judged)

    def _look(self) -> None:
        learned = self.learned
        nats = held_out_nats(self._judged, self._images(), self._start)
        gained = nats > max(self.nats, 0.0) + GAIN
        learned.curve.append((learned.steps, self.seconds, nats))
        self._without = 0 if gained else self._without + 1
        if gained:
            learned.best, learned.weights = learned.steps, weights_of(self._average)

"""Random draws of a step that do not depend on how many processes share its batch.

A batch consists of shards. Each shard has its own structures, reservoir and generator of random
numbers. A process has some of the shards, or all if it is alone. The draws of a row are those of
its shard, on any process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST = 8  # shards: as many processes can share a batch


def shard_count(batch: int, structures: int) -> int:
    """Number of shards of a batch: a power of two that divides it, with at least one structure for
    each."""
    count = math.gcd(batch, MOST)
    while count > max(1, structures):
        count //= 2
    return count


@dataclass(frozen=True)
class Shards:
    """The shards that process `rank` of `world` has, of a batch's `count`. They are neighbours in
    the batch."""

    count: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.count % self.world:
            allowed = [n for n in range(1, self.count + 1) if self.count % n == 0]
            raise ValueError(
                f"{self.world} processes cannot share this batch evenly; start "
                f"{' or '.join(map(str, allowed))}"
            )

    @property
    def mine(self) -> range:
        """Numbers of this process's shards."""
        each = self.count // self.world
        return range(self.rank * each, (self.rank + 1) * each)

    def parts(self, n: int) -> list[int]:
        """How many of this process's `n` rows of a batch belong to each of its shards, in their
        order."""
        each = len(self.mine)
        return [b - a for a, b in itertools.pairwise(n * i // each for i in range(each + 1))]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, none negative. It is the same for every interpreter; `hash` of
    a tuple need not be."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class StepDraws:
    """The random numbers of one step on `device`, for the shards `numbers` among `count`. `key`
    identifies the step."""

    def __init__(self, key: tuple[int, ...], shards: Shards, device: str) -> None:
        self.device, self.shards = device, shards
        self._generators = [
            torch.Generator(device).manual_seed(seed_of(*key, number)) for number in shards.mine
        ]

    @staticmethod
    def single(seed: int, device: str) -> StepDraws:
        """The draws of one generator."""
        draws = StepDraws((), Shards(1), device)
        draws._generators = [torch.Generator(device).manual_seed(seed)]
        return draws

    def _joined(self, n: int, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        parts = zip(self.shards.parts(n), self._generators, strict=True)
        return torch.cat([draw(rows, generator) for rows, generator in parts])

    def normal(self, n: int, *shape: int) -> Tensor:
        """Standard normal (n, *shape)."""
        return self._joined(
            n, lambda rows, g: torch.randn(rows, *shape, generator=g, device=self.device)
        )

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Uniform in [0, 1), (n, *shape)."""
        return self._joined(
            n, lambda rows, g: torch.rand(rows, *shape, generator=g, device=self.device)
        )

    def poisson(self, mean: Tensor) -> Tensor:
        """Poisson counts of `mean` (n, ...)."""
        pieces = zip(mean.split(self.shards.parts(len(mean))), self._generators, strict=True)
        return torch.cat([torch.poisson(piece, generator=g) for piece, g in pieces])

    def first(self, n: int, share: float) -> Tensor:
        """Which of `n` rows (bool) belong to the `share` of the batch. They are evenly spaced,
        wherever the batch is cut."""
        offset = self.shards.rank * n
        place = torch.arange(offset, offset + n + 1, dtype=torch.float64)
        steps = (place * share + 1e-9).floor()
        return (steps[1:] > steps[:-1]).to(self.device)

"""Set torch's random numbers and number of threads, which hold for the whole process, and restore
them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_numbers(seed: int = 0) -> Iterator[None]:
    """New weights on the CPU are drawn from `seed`. Afterwards the caller's random numbers continue
    as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the cards too
        yield


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Use `count` threads on the CPU while the block runs; None: all of the current ones."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)

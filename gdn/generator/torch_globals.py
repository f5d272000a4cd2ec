"""Sets torch's random numbers and number of threads, which hold for the whole process, and restores
them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_numbers(seed: int = 0) -> Iterator[None]:
    """New weights on the CPU are drawn from `seed`; the caller's random numbers go on afterwards as
    if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the cards too
        yield


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """`count` threads on the CPU while the block runs; None: as many as there are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)

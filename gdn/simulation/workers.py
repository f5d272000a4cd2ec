"""Processes that make structures while a device trains: a rolling window of jobs, never more than
are asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from gdn.simulation.structures import Structure


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


class StructureWorkers:
    """Calls `make` (seed -> Structure) for one seed after another in `workers` processes; with no
    processes, here and when asked.

    The order in which structures arrive depends on the processes. The seeds do not.
    """

    def __init__(
        self, make: Callable[[int], Structure], seeds: Iterator[int], workers: int
    ) -> None:
        self._make, self._seeds = make, seeds
        self._pool = (
            ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) if workers else None
        )
        self._jobs: deque[Future[Structure]] = deque()
        self._ahead = 4 * workers

    def ready(self, most: int) -> list[Structure]:
        """Up to `most` finished structures, without waiting for any (without processes: one)."""
        if self._pool is None:
            return [self._make(next(self._seeds)) for _ in range(min(most, 1))]
        while len(self._jobs) < self._ahead:
            self._jobs.append(self._pool.submit(self._make, next(self._seeds)))
        structures: list[Structure] = []
        waiting: deque[Future[Structure]] = deque()
        for job in self._jobs:
            if job.done() and len(structures) < most:
                structures.append(job.result())
            else:
                waiting.append(job)
        self._jobs = waiting
        return structures

    def close(self) -> None:
        """Stop the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

"""Runs BLAS on one thread. With several threads BLAS divides a sum among them, and then the last
bits of a product depend on the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from gdn.likelihood import Array

BLOCK = 64  # rows of the second factor that one thread multiplies


class OneThread:
    """Holds BLAS to one thread while any thread of this process is inside `held`. The limit is the
    process's: the first one in sets it, and the last one out gives every library the threads that
    it had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._had: list[tuple[Any, int]] = []  # libraries, and the threads of each

    @contextmanager
    def held(self) -> Iterator[None]:
        """Also a decorator. Entered first it takes two milliseconds: once for a frame, not for a
        product."""
        with self._lock:
            if (
                not self._inside
            ):  # looked for each time: what is imported later may bring a BLAS of its own
                libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._had = [(library, library.num_threads) for library in libraries]
            self._inside += 1
            self.limit_here()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    for library, threads in self._had:
                        _set(library, threads)
                    self._had = []

    def limit_here(self) -> None:
        """Again in each thread: the limit of a BLAS on OpenMP is the thread's."""
        for library, _ in self._had:
            _set(library, 1)

    @property
    def before(self) -> int:
        """Threads that BLAS had; 1 where it is not held and divides products itself."""
        return max((threads for _, threads in self._had), default=1)


def _set(library: Any, threads: int) -> None:
    """From any thread: a newer threadpoolctl does nothing, without a word, for any but the first
    that asked, until that one is done."""
    release = getattr(library, "clear_controlling_thread", lambda force: None)
    release(force=True)
    library.set_num_threads(threads)
    release(force=True)


_ONE = OneThread()
one_blas_thread = _ONE.held


def product(a: Array, b: Array) -> Array:
    """a b^T (n, m) of `a` (n, k) and `b` (m, k): rows of `b` in blocks of fixed size, on as many
    threads as BLAS had before it was held to one. The same bits for any number of them."""
    firsts = range(0, len(b), BLOCK)
    out = np.empty((len(a), len(b)), np.float32)

    def work(first: int) -> None:
        out[:, first : first + BLOCK] = a @ b[first : first + BLOCK].T

    threads = min(_ONE.before, len(firsts))
    if threads < 2:
        for first in firsts:
            work(first)
    else:
        with ThreadPoolExecutor(threads, initializer=_ONE.limit_here) as pool:
            list(pool.map(work, firsts))
    return out

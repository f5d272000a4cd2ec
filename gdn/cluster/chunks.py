"""Items that a worker gets together, and the answers that it returns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cloudpickle
from distributed import get_worker

Item = TypeVar("Item")
Value = TypeVar("Value")


class Unfit(RuntimeError):
    """A worker that cannot do this kind of work, for any item; it says why. `perhaps_item`: if
    another worker cannot do this item either, the item is at fault."""

    def __init__(self, reason: str, perhaps_item: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_item = perhaps_item


@dataclass(frozen=True)
class Part(Generic[Value]):
    """A worker's results for a chunk: values of its first items, in order; the seconds they took;
    and why it did not do the rest."""

    values: list[Value]
    seconds: float
    worker: str
    unfit: Unfit | None = None


@dataclass(frozen=True)
class Lost:
    """An item that no worker could do."""

    reason: str


@dataclass(frozen=True)
class Chunk(Generic[Item]):
    """Items and the number of attempts made. `allowed`: the only workers that may get it (None:
    all). `alone`: a single item, on a worker that has no other, to see whether this item kills
    workers."""

    items: list[tuple[Item, int]]
    allowed: frozenset[str] | None = None
    alone: bool = False


def run_chunk(packed: bytes) -> Part[Any]:
    """On a worker: process every item in turn. Work and items come as bytes, because Dask would
    search lists for futures, and its scheduler would keep every object in them for good."""
    work, items = cloudpickle.loads(packed)
    begun, values = time.perf_counter(), []
    worker = get_worker().address
    for item in items:
        try:
            values.append(work(item))
        except Unfit as error:
            return Part(values, time.perf_counter() - begun, worker, error)
    return Part(values, time.perf_counter() - begun, worker)

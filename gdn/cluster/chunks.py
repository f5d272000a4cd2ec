"""Items that a worker gets together, and the answers that come back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cloudpickle
from distributed import get_worker

Item = TypeVar("Item")
Value = TypeVar("Value")


class Unfit(RuntimeError):
    """A worker that cannot do this work, whatever the item; says why. `perhaps_item`: if another
    cannot do this item either, it is the item's fault."""

    def __init__(self, reason: str, perhaps_item: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_item = perhaps_item


@dataclass(frozen=True)
class Part(Generic[Value]):
    """What a worker made of a chunk: values of its first items, in order, and the seconds they
    took; why it did not do the rest."""

    values: list[Value]
    seconds: float
    worker: str
    unfit: Unfit | None = None


@dataclass(frozen=True)
class Lost:
    """An item that nobody could do."""

    reason: str


@dataclass(frozen=True)
class Chunk(Generic[Item]):
    """Items with the attempts made; `allowed`: the only workers that may have it (None: all);
    `alone`: one item, on a worker that has nothing else, to see whether it is what kills."""

    items: list[tuple[Item, int]]
    allowed: frozenset[str] | None = None
    alone: bool = False


def run_chunk(packed: bytes) -> Part[Any]:
    """On a worker: every item in turn. Work and items come as bytes: Dask would look into lists for
    futures, and its scheduler keeps every object of them for good."""
    work, items = cloudpickle.loads(packed)
    begun, values = time.perf_counter(), []
    worker = get_worker().address
    for item in items:
        try:
            values.append(work(item))
        except Unfit as error:
            return Part(values, time.perf_counter() - begun, worker, error)
    return Part(values, time.perf_counter() - begun, worker)

"""Work shared out in chunks sized by what it costs, a bounded number of them in flight.

Neither client nor scheduler holds more than the chunks in flight, however many items there are. What fails without an item's
own fault (a worker that died, that lacks a package, whose disk is full) is done again elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import cloudpickle
from distributed import CancelledError, Client, Future, KilledWorker, get_worker, wait

from gdn.cluster.connect import ClusterError, workers_of

TARGET_SECONDS = 20.0  # of a chunk
MOST = 256  # items of a chunk
IN_FLIGHT = 2  # chunks for each worker: one at work and one that waits
ATTEMPTS = 3  # of an item
LOST_SECONDS = float(os.environ.get("GDN_CLUSTER_LOST_SECONDS", "60"))  # without a scheduler
LOOK_SECONDS = 1.0  # between looks at which workers there are

Item = TypeVar("Item")
Value = TypeVar("Value")


def say(words: str) -> None:
    """A line for the user."""
    print(f"gdn: {words}", file=sys.stderr, flush=True)


class Unfit(RuntimeError):
    """A worker that cannot do this work, whatever the item; says why. `perhaps_item`: if another cannot do this item either,
    it is the item's fault."""

    def __init__(self, reason: str, perhaps_item: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_item = perhaps_item


@dataclass(frozen=True)
class Part(Generic[Value]):
    """What a worker made of a chunk: values of its first items, in order, and the seconds they took; why it did not do the
    rest."""

    values: list[Value]
    seconds: float
    worker: str
    unfit: Unfit | None = None


@dataclass(frozen=True)
class Lost:
    """An item that nobody could do."""

    reason: str


@dataclass(frozen=True)
class _Chunk(Generic[Item]):
    """Items with the attempts made; `allowed`: the only workers that may have it (None: all)."""

    items: list[tuple[Item, int]]
    allowed: frozenset[str] | None = None


def run_chunk(packed: bytes) -> Part[Any]:
    """On a worker: every item in turn. Work and items come as bytes: Dask would look into lists for futures, and its scheduler
    keeps every object of them for good."""
    work, items = cloudpickle.loads(packed)
    begun, values = time.perf_counter(), []
    worker = get_worker().address
    for item in items:
        try:
            values.append(work(item))
        except Unfit as error:
            return Part(values, time.perf_counter() - begun, worker, error)
    return Part(values, time.perf_counter() - begun, worker)


class Flow(Generic[Item, Value]):
    """Shares items out and yields (item, value or Lost) as they are done. `unfit`: workers that get nothing more, and why."""

    def __init__(
        self, client: Client, work: Callable[[Item], Value], total: int, target: float = TARGET_SECONDS, most: int | None = None,
    ) -> None:  # fmt: skip
        self._client, self._work, self._total, self._target, self._most = client, work, total, target, most or MOST
        self._again: deque[tuple[Item, int]] = deque()  # with the attempts made
        self._running: dict[Future[Any], _Chunk[Item]] = {}
        self._cost: float | None = None  # seconds an item
        self._done = 0
        self._known: tuple[float, list[str]] = (-math.inf, [])
        self._fit_seen: float | None = None  # when a worker last was there that can do this
        self._alone = False
        self.unfit: dict[str, str] = {}
        self.peak = 0  # chunks in flight at once

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Value | Lost]]:
        """Raises ClusterError where no worker can do the work, or the scheduler is gone."""
        source = iter(items)
        try:
            while True:
                self._submit(source)
                if not self._running and not self._again:
                    return
                for future in self._finished():
                    yield from self._gathered(future, self._running.pop(future).items)
        finally:
            if self._running:
                self._client.cancel(list(self._running), force=True)

    def _submit(self, source: Iterator[Item]) -> None:
        """Fill up what is in flight."""
        fit = [address for address in self._workers() if address not in self.unfit]
        if fit and self._done:
            self._fit_seen = time.monotonic()
        if not fit and self.unfit and self._running:
            return  # what is under way may come back yet, from nobody else
        if not fit and self.unfit:
            if self._fit_seen is None or time.monotonic() - self._fit_seen > LOST_SECONDS:
                raise ClusterError(f"no worker can do this ({'; '.join(dict.fromkeys(self.unfit.values()))})")
            time.sleep(LOOK_SECONDS)  # one that could has died: its nanny, or the batch system, may bring another
            self._known = (-math.inf, [])
            return
        while len(self._running) < IN_FLIGHT * max(1, len(fit)):
            items = self._chunk(source, len(fit))
            if not items:
                return
            allowed = frozenset(fit) if self.unfit else None
            where = {} if allowed is None else {"workers": list(allowed)}
            # Not pure: the same file may be asked for twice, and is then to be done twice.
            packed = cloudpickle.dumps((self._work, [item for item, _ in items]))
            future = self._client.submit(run_chunk, packed, pure=False, **where)
            self._running[future] = _Chunk(items, allowed)
            self.peak = max(self.peak, len(self._running))

    def _stranded(self) -> None:
        """Queue again what only workers may have that are no more; say so if there is none at all."""
        here = set(self._workers())
        for future, chunk in list(self._running.items()):
            if chunk.allowed is not None and not chunk.allowed & here:
                del self._running[future]
                self._client.cancel([future], force=True)
                self._again.extend(chunk.items)
        if not here and not self._alone:
            say("there is no worker just now: waiting for one")
        self._alone = not here

    def _workers(self) -> list[str]:
        """Addresses, asked for now and then: others may have come."""
        now = time.monotonic()
        if now - self._known[0] > LOOK_SECONDS:
            self._known = now, list(workers_of(self._client))
        return self._known[1]

    def _chunk(self, source: Iterator[Item], workers: int) -> list[tuple[Item, int]]:
        """The next items: what was lost first, and alone, since it may be what kills."""
        if self._again:
            return [self._again.popleft()]
        left = max(1, (self._total - self._done) // (2 * max(1, workers)))  # the last chunks are to end together
        size = 1 if self._cost is None else max(1, min(int(self._target / max(self._cost, 1e-6)), self._most, left))
        return [(item, 0) for item in islice(source, size)]

    def _finished(self) -> list[Future[Any]]:
        """Futures that have ended; waits for one."""
        last = time.monotonic()
        while self._running:
            try:
                done = wait(list(self._running), timeout=1.0, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            except CancelledError:
                done = {f for f in self._running if f.status == "cancelled"}
            if self._client.status == "running":
                last = time.monotonic()
                if done:
                    return list(done)
                self._stranded()
            elif self._client.status == "closed" or time.monotonic() - last > LOST_SECONDS:
                raise ClusterError("the scheduler is gone; the same command with --resume goes on once it is back")
        return []

    def _gathered(self, future: Future[Any], chunk: list[tuple[Item, int]]) -> Iterator[tuple[Item, Value | Lost]]:
        """What a chunk came to; what it did not do is queued again."""
        try:
            part: Part[Value] = future.result()
        except (KilledWorker, CancelledError) as error:
            words = "the workers that had it died" if isinstance(error, KilledWorker) else "it was cancelled"
            yield from self._repeat(chunk, words)
            return
        except Exception as error:  # of another machine: gdn or a package missing there, or a fault of ours
            yield from self._repeat(chunk, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return
        finally:
            future.release()
        for (item, _), value in zip(chunk, part.values, strict=False):
            self._done += 1
            yield item, value
        if part.values:
            each = part.seconds / len(part.values)
            self._cost = each if self._cost is None else 0.7 * self._cost + 0.3 * each
        if part.unfit is not None:
            yield from self._left(chunk[len(part.values) :], part.unfit, part.worker)

    def _left(self, rest: list[tuple[Item, int]], unfit: Unfit, worker: str) -> Iterator[tuple[Item, Value | Lost]]:
        """What a worker left of its chunk, because it cannot do it, or the first item cannot be done."""
        item, attempts = rest[0]
        if unfit.perhaps_item and attempts:
            self._done += 1
            yield item, Lost(str(unfit))
            self._again.extend(rest[1:])
            return
        if worker not in self.unfit:
            self.unfit[worker] = str(unfit)
            say(f"worker {worker} is left out ({unfit})")
        self._again.append((item, attempts + unfit.perhaps_item))
        self._again.extend(rest[1:])

    def _repeat(self, chunk: list[tuple[Item, int]], reason: str) -> Iterator[tuple[Item, Value | Lost]]:
        """Queue again; an item that was tried often enough, or that alone killed its workers, is lost."""
        for item, attempts in chunk:
            alone_killed = len(chunk) == 1 and "died" in reason
            if alone_killed or attempts + 1 >= ATTEMPTS:
                self._done += 1
                yield item, Lost(reason)
            else:
                self._again.append((item, attempts + 1))


@contextlib.contextmanager
def deaths_noted(client: Client) -> Iterator[None]:
    """Say when a worker dies with work in hand; the scheduler gives it to another by itself."""

    def seen(event: tuple[Any, Any]) -> None:
        about = event[1]
        if isinstance(about, dict) and about.get("action") == "remove-worker" and not about.get("expected"):
            count = len(about.get("processing-tasks") or ())
            say(f"worker {about.get('worker')} died; what it had in hand is done again ({count} chunk{'s' * (count != 1)})")

    client.subscribe_topic("all", seen)
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic("all")

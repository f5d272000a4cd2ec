"""Distribute work in chunks. Their size depends on the cost of the work; a limited number of chunks
is in flight.

Client and scheduler hold only the chunks in flight, however many items there are. Work that fails
without the item's fault (the worker died, lacks a package, or its disk is full) is repeated
elsewhere. If a worker dies with more than one item, any of them may be the cause. All of them are
suspects, and each is then given to a worker that has no other item.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic

import cloudpickle
from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.client import ClosedClientError

from gdn.batch.printed import note
from gdn.cluster.chunks import Chunk, Item, Lost, Part, Unfit, Value, run_chunk
from gdn.cluster.connect import ClusterError, workers_of

TARGET_SECONDS = 20.0  # of a chunk
MOST = 256  # items of a chunk
IN_FLIGHT = 2  # chunks for each worker: one at work and one that waits
ATTEMPTS = 3  # of an item
LOST_SECONDS = float(os.environ.get("GDN_CLUSTER_LOST_SECONDS", "60"))  # without a scheduler
LOOK_SECONDS = 1.0  # between looks at which workers there are
DIED = "the workers that had it died"
GONE = (
    "the scheduler no longer answers; when it runs again, the same command with --resume continues"
)


class WorkSharing(Generic[Item, Value]):
    """Distributes items and yields (item, value or Lost) as they are done. `unfit` maps workers
    that get no more work to the reason."""

    def __init__(
        self,
        client: Client,
        work: Callable[[Item], Value],
        total: int,
        target: float = TARGET_SECONDS,
        most: int | None = None,
    ) -> None:
        self._client, self._work, self._total, self._target, self._most = (
            client,
            work,
            total,
            target,
            most or MOST,
        )
        self._again: deque[tuple[Item, int]] = deque()  # with the attempts made
        self._suspects: deque[tuple[Item, int]] = deque()  # in hand as workers died
        self._running: dict[Future[Any], Chunk[Item]] = {}
        self._cost: float | None = None  # seconds an item
        self._done = 0
        self._known: tuple[float, list[str]] = (-math.inf, [])
        self._fit_seen: float | None = None  # when a worker last was there that can do this
        self._heard = time.monotonic()  # when the scheduler last was there
        self._deserted = False
        self.unfit: dict[str, str] = {}
        self.peak = 0  # chunks in flight at once

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Value | Lost]]:
        """Run all items. Raises ClusterError if no worker can do the work, or if the scheduler is
        gone."""
        source = iter(items)
        try:
            while True:
                self._submit(source)
                if not self._running and not self._again and not self._suspects:
                    return
                for future in self._finished():
                    yield from self._gathered(future, self._running.pop(future))
        except ClosedClientError:  # between two looks at whether the scheduler is there
            raise ClusterError(GONE) from None
        finally:
            if (
                self._running and self._client.status == "running"
            ):  # else there is nothing left to cancel
                with contextlib.suppress(ClosedClientError):  # it may close at this very moment
                    self._client.cancel(list(self._running), force=True)

    def _submit(self, source: Iterator[Item]) -> None:
        """Submit chunks until enough are in flight."""
        fit = [address for address in self._workers() if address not in self.unfit]
        if fit and self._done:
            self._fit_seen = time.monotonic()
        if not fit and self.unfit and self._running:
            return  # what is under way may come back yet, from nobody else
        if not fit and self.unfit:
            if self._fit_seen is None or time.monotonic() - self._fit_seen > LOST_SECONDS:
                raise ClusterError(
                    f"no worker can do this ({'; '.join(dict.fromkeys(self.unfit.values()))})"
                )
            time.sleep(
                LOOK_SECONDS
            )  # one that could has died: its nanny, or the batch system, may bring another
            self._known = (-math.inf, [])
            return
        if self._suspects or any(chunk.alone for chunk in self._running.values()):
            self._examine()
            return
        while len(self._running) < IN_FLIGHT * max(1, len(fit)):
            items = self._chunk(source, len(fit))
            if not items:
                return
            self._start(Chunk(items, frozenset(fit) if self.unfit else None))

    def _examine(self) -> None:
        """Give one suspect to each worker that has no other item. Other work waits until all
        suspects are done."""
        if any(not chunk.alone for chunk in self._running.values()):
            return
        self._known = (-math.inf, [])  # not one that has just died
        busy = frozenset[str]().union(*(chunk.allowed or () for chunk in self._running.values()))
        for address in self._workers():
            if self._suspects and address not in busy and address not in self.unfit:
                self._start(Chunk([self._suspects.popleft()], frozenset([address]), alone=True))
        if not self._running:
            self._scheduler_there()
            self._stranded()
            time.sleep(LOOK_SECONDS)

    def _start(self, chunk: Chunk[Item]) -> None:
        where = {} if chunk.allowed is None else {"workers": list(chunk.allowed)}
        packed = cloudpickle.dumps((self._work, [item for item, _ in chunk.items]))
        # Not pure: the same file may be asked for twice, and is then to be done twice.
        self._running[self._client.submit(run_chunk, packed, pure=False, **where)] = chunk
        self.peak = max(self.peak, len(self._running))

    def _stranded(self) -> None:
        """Queue items again whose only allowed workers have disappeared. Report it if there is no
        worker at all."""
        here = set(self._workers())
        for future, chunk in list(self._running.items()):
            if chunk.allowed is not None and not chunk.allowed & here:
                self._client.cancel([future], force=True)
                if not chunk.alone:  # that ends as cancelled, and is judged
                    del self._running[future]
                    self._again.extend(chunk.items)
        if not here and not self._deserted:
            note("no worker is connected: waiting for one")
        self._deserted = not here

    def _workers(self) -> list[str]:
        """Addresses of the workers, requested now and then, because others may have joined."""
        now = time.monotonic()
        if now - self._known[0] > LOOK_SECONDS:
            self._known = now, list(workers_of(self._client))
        return self._known[1]

    def _chunk(self, source: Iterator[Item], workers: int) -> list[tuple[Item, int]]:
        """The next items. An item that was lost comes first and alone, since it may be the one that
        kills workers."""
        if self._again:
            return [self._again.popleft()]
        left = max(
            1, (self._total - self._done) // (2 * max(1, workers))
        )  # the last chunks are to end together
        size = (
            1
            if self._cost is None
            else max(1, min(int(self._target / max(self._cost, 1e-6)), self._most, left))
        )
        return [(item, 0) for item in islice(source, size)]

    def _finished(self) -> list[Future[Any]]:
        """Futures that have ended. Waits for at least one."""
        self._heard = time.monotonic()
        while self._running:
            try:
                done = wait(list(self._running), timeout=1.0, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            except CancelledError:
                done = {f for f in self._running if f.status == "cancelled"}
            if self._scheduler_there():
                if done:
                    return list(done)
                self._stranded()
        return []

    def _scheduler_there(self) -> bool:
        """Whether the scheduler answers. Raises ClusterError if it has been gone for too long."""
        if self._client.status == "running":
            self._heard = time.monotonic()
            return True
        if self._client.status == "closed" or time.monotonic() - self._heard > LOST_SECONDS:
            raise ClusterError(GONE)
        return False

    def _gathered(
        self, future: Future[Any], chunk: Chunk[Item]
    ) -> Iterator[tuple[Item, Value | Lost]]:
        """The results of a chunk. Items that were not done are queued again."""
        try:
            part: Part[Value] = future.result()
        except KilledWorker:
            if chunk.alone:
                self._done += 1
                yield chunk.items[0][0], Lost(DIED)
            else:
                if not self._suspects:
                    note(
                        "workers keep dying: their items are now done one at a time, to find the "
                        "item that causes it"
                    )
                self._suspects.extend(chunk.items)
            return
        except CancelledError:
            yield from self._repeat(chunk, DIED if chunk.alone else "it was cancelled")
            return
        except (
            Exception
        ) as error:  # of another machine: gdn or a package missing there, or a fault of ours
            yield from self._repeat(
                chunk, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            )
            return
        finally:
            future.release()
        for (item, _), value in zip(chunk.items, part.values, strict=False):
            self._done += 1
            yield item, value
        if part.values:
            each = part.seconds / len(part.values)
            self._cost = each if self._cost is None else 0.7 * self._cost + 0.3 * each
        if part.unfit is not None:
            yield from self._left(chunk.items[len(part.values) :], part.unfit, part.worker)

    def _left(
        self, rest: list[tuple[Item, int]], unfit: Unfit, worker: str
    ) -> Iterator[tuple[Item, Value | Lost]]:
        """Handle the rest of a chunk that a worker did not do, because it cannot, or because the
        first item cannot be done."""
        item, attempts = rest[0]
        if unfit.perhaps_item and attempts:
            self._done += 1
            yield item, Lost(str(unfit))
            self._again.extend(rest[1:])
            return
        if worker not in self.unfit:
            self.unfit[worker] = str(unfit)
            note(f"worker {worker} is not used ({unfit})")
        self._again.append((item, attempts + unfit.perhaps_item))
        self._again.extend(rest[1:])

    def _repeat(self, chunk: Chunk[Item], reason: str) -> Iterator[tuple[Item, Value | Lost]]:
        """Queue items again. An item that was tried often enough is lost."""
        for item, attempts in chunk.items:
            if attempts + 1 >= ATTEMPTS:
                self._done += 1
                yield item, Lost(reason)
            else:
                (self._suspects if chunk.alone else self._again).append((item, attempts + 1))


@contextlib.contextmanager
def deaths_noted(client: Client) -> Iterator[None]:
    """Report each worker that dies during its work. The scheduler itself gives the work to
    another."""

    def seen(event: tuple[Any, Any]) -> None:
        details = event[1]
        if (
            isinstance(details, dict)
            and details.get("action") == "remove-worker"
            and not details.get("expected")
        ):
            count = len(details.get("processing-tasks") or ())
            note(
                f"worker {details.get('worker')} died; its work is done again ({count} "
                f"chunk{'s' * (count != 1)})"
            )

    client.subscribe_topic("all", seen)
    try:
        yield
    finally:
        if client.status == "running":
            with contextlib.suppress(ClosedClientError):  # it may close at this very moment
                client.unsubscribe_topic("all")

"""`gdn simulate --cluster`: structures are distributed to Dask workers, and each wave is written by
the worker that made it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distributed import Client

from gdn.batch.terminal import UsageFault
from gdn.cluster.chunks import Lost, Unfit
from gdn.cluster.connect import ClusterError, connect
from gdn.cluster.shipment import settle_memory
from gdn.cluster.work_sharing import WorkSharing, deaths_noted

Task = Callable[[], None]
Runner = Callable[[list[Task]], Iterator[None]]

_LOCK = threading.Lock()  # two threads in one process waste both


def simulate_task(task: Task) -> None:
    """On a worker: make one wave or frame. Raises Unfit."""
    settle_memory()
    try:
        with _LOCK:
            task()
    except (OSError, ImportError) as error:
        raise Unfit(" ".join(str(error).split())[:200]) from None


@contextmanager
def runner_on(address: str) -> Iterator[Runner]:
    """A function that runs tasks on the workers of `address`, for
    `gdn.simulation.simulate.simulate`. Their paths must be absolute. Raises UsageFault."""
    try:
        with connect(address) as client, deaths_noted(client):
            yield lambda tasks: _run(client, tasks)
    except ClusterError as error:
        raise UsageFault(str(error)) from None


def _run(client: Client, tasks: list[Task]) -> Iterator[None]:
    """Yield once for each task that ends. Raises RuntimeError if one was lost."""
    lost: list[str] = []
    flow: WorkSharing[Task, None] = WorkSharing(client, simulate_task, len(tasks))
    for _, value in flow.run(tasks):
        if isinstance(value, Lost):
            lost.append(value.reason)
        else:
            yield
    if lost:
        raise ClusterError(
            f"{len(lost)} of {len(tasks)} tasks were not done ({lost[0]}); the same "
            "command continues"
        )

"""Who gets which work, and how much of it at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.needs import needs_cluster

pytestmark = [
    needs_cluster,
    pytest.mark.cluster,
    # Dask leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]


def test_a_client_that_closes_between_two_looks_is_a_lost_scheduler() -> None:
    from distributed import Client

    from gdn.cluster.connect import ClusterError
    from gdn.cluster.work_sharing import WorkSharing

    # Not the default: closed inside the block, it would leave its name behind as the scheduler of
    # every later computation.
    with Client(
        processes=False,
        n_workers=1,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        set_as_default=False,
    ) as client:

        def items() -> Iterator[float]:
            yield 2.0
            client.close()  # the first is under way
            yield 2.0

        with pytest.raises(ClusterError, match="the scheduler no longer answers"):
            list(WorkSharing(client, time.sleep, 2).run(items()))


def test_what_is_in_flight_is_bounded_and_chunks_follow_the_cost() -> None:
    from distributed import Client, LocalCluster

    from gdn.cluster.chunks import Lost
    from gdn.cluster.work_sharing import IN_FLIGHT, MOST, WorkSharing

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as here,
        Client(here) as client,
    ):
        drawn: list[int] = []

        def numbers() -> Iterator[int]:
            for n in range(5000):
                drawn.append(n)
                yield n

        flow: WorkSharing[int, int] = WorkSharing(client, double, 5000, target=0.02)
        found: dict[int, Any] = {}
        ahead = 0
        for item, value in flow.run(numbers()):
            assert item not in found
            found[item] = value
            ahead = max(ahead, len(drawn) - len(found))
        assert found == {n: 2 * n for n in range(5000)}
        assert flow.peak == 2 * IN_FLIGHT
        assert ahead <= 2 * IN_FLIGHT * MOST
        bad: WorkSharing[int, int] = WorkSharing(client, odd_only, 4)
        outcome = dict(bad.run(range(4)))
        assert outcome[1] == 1
        assert isinstance(outcome[2], Lost)
        assert "ZeroDivisionError: two is not odd" in outcome[2].reason


def double(n: int) -> int:
    return 2 * n


def odd_only(n: int) -> int:
    if n == 2:
        raise ZeroDivisionError("two is not odd")
    return n


def test_nannies_do_not_give_memory_back_at_once() -> None:
    from gdn.cluster.connect import TRIM, connect, nanny_environment
    from gdn.cluster.shipment import settle_memory

    assert TRIM not in nanny_environment()
    assert nanny_environment()["OMP_NUM_THREADS"] == "1"
    settle_memory()
    with connect("local:1") as client:
        (seen,) = client.run(lambda name=TRIM: os.environ.get(name)).values()
    assert seen is None


class Unable:
    """Work that some workers cannot do."""

    def __init__(self, unable: set[str], perhaps_item: bool = False) -> None:
        self.unable, self.perhaps_item = unable, perhaps_item

    def __call__(self, n: int) -> int:
        from distributed import get_worker

        from gdn.cluster.chunks import Unfit

        if str(get_worker().name) in self.unable or (self.perhaps_item and n == 3):
            raise Unfit("not here", self.perhaps_item)
        time.sleep(0.02)
        return n


def test_who_cannot_do_it_gets_no_more_and_who_comes_later_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from distributed import Client, LocalCluster

    from gdn.cluster.chunks import Lost
    from gdn.cluster.connect import ClusterError
    from gdn.cluster.work_sharing import WorkSharing

    with (
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as here,
        Client(here) as client,
    ):
        flow: WorkSharing[int, int] = WorkSharing(client, Unable({"0"}), 40, target=0.05)
        assert sorted(flow.run(range(40))) == [(n, n) for n in range(40)]
        assert list(flow.unfit.values()) == ["not here"]
        assert capsys.readouterr().err.count("is not used (not here)") == 1
        with pytest.raises(ClusterError, match=r"no worker can do this \(not here\)"):
            list(WorkSharing(client, Unable({"0", "1", "2"}), 40).run(range(40)))
        # An item that no two workers can do is given up, and the second of them is not blamed.
        flow = WorkSharing(client, Unable(set(), perhaps_item=True), 8, target=0.05)
        found = dict(flow.run(range(8)))
        assert found.pop(3) == Lost("not here")
        assert found == {n: n for n in range(8) if n != 3}
        assert len(flow.unfit) == 1
        # What was given to the only workers that can goes to one that comes after they are gone.
        flow = WorkSharing(client, Unable({"0"}), 40, target=0.05)
        steps = flow.run(range(40))
        found = dict(next(steps) for _ in range(10))
        able = [
            a
            for a, about in client.scheduler_info(n_workers=-1)["workers"].items()
            if about["name"] != 0
        ]
        client.retire_workers(able)
        here.scale(4)
        found |= dict(steps)
        assert found == {n: n for n in range(40)}

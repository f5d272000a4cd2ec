"""TensorRT, through `tensorrt` or `tensorrt_rtx`: plans are built and cached on first use.

Not yet run on a card (docs/gpu.md). The tests build every plan, and run this file on a fake device.
"""

from __future__ import annotations

import hashlib
from types import TracebackType

from gdn.engines.base import EngineError, Graph, dtype_of, kind_of, onnx_bytes, rows
from gdn.engines.cuda_memory import Device, open_device
from gdn.engines.graph_engine import GraphEngine
from gdn.engines.tensorrt_plan_cache import PlanKey, plan_for
from gdn.engines.tensorrt_plans import (
    MOST,
    Library,
    build_plan,
    installed_libraries,
    load_library,
    profiles_of,
)
from gdn.engines.tensorrt_runner import Runner
from gdn.likelihood import Array
from gdn.models import Model


def check() -> None:
    """Raises EngineError if no library can be imported. The message says what is missing."""
    load_library()


def card_reason() -> str | None:
    """Why it can use a card on this machine, or None."""
    return "TensorRT is installed" if installed_libraries() else None


def key_of(model: Model, graph: Graph, onnx: bytes, library: Library, device: Device) -> PlanKey:
    """What the plan of a graph on a device depends on."""
    profiles = tuple((p.least, p.best, p.most) for p in profiles_of(graph))
    return PlanKey(
        onnx=hashlib.sha256(onnx).hexdigest(),
        model=model.hash,
        graph=graph,
        precision=dtype_of(model, graph).name,
        profiles=profiles,
        library=library.name,
        version=library.version,
        device=device.name,
        capability=device.capability,
        driver=device.driver,
    )


def find_or_build_plan(
    model: Model, graph: Graph, library: Library, device: Device | None
) -> bytes:
    """The plan of a graph for `device`, from the cache, or built now and cached. Without a device
    it is built and not kept."""
    onnx = onnx_bytes(model, graph)
    if device is None:
        return build_plan(library, onnx, graph)
    return plan_for(
        key_of(model, graph, onnx, library, device), lambda: build_plan(library, onnx, graph)
    )


class TensorRTEngine(GraphEngine):
    """See `gdn.engines.base.Engine`. `threads` is for a CPU and not used. `library` and `opened`
    replace those of this machine."""

    name = "tensorrt"

    def __init__(
        self,
        model: Model,
        device: str = "cuda",
        threads: int | None = None,
        reason: str = "asked for",
        library: Library | None = None,
        opened: Device | None = None,
    ) -> None:
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number or "0").isdecimal():
            raise EngineError(f"tensorrt has no device '{device}'; choose cuda or cuda:N")
        self.model, self.device, self.reason = model, device, reason
        self._library = library or load_library()
        self._opened = opened or open_device(int(number or 0))
        self._runners: dict[str, Runner] = {}

    def run_graph(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[list[Array]]:
        """Run one batch through its plan."""
        if graph not in self._runners:
            plan = find_or_build_plan(self.model, graph, self._library, self._opened)
            self._runners[graph] = Runner(graph, plan, self._library, self._opened)
        n, most = len(next(iter(feed.values()))), MOST[kind_of(graph)]
        return [
            self._runners[graph].run(rows(feed, first, most), outputs)
            for first in range(0, n, most)
        ]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

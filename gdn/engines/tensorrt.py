"""TensorRT, by `tensorrt` or `tensorrt_rtx`: plans built and cached on first use, run on one stream.

Not yet run on a card (docs/gpu.md); the tests build every plan, and run this file on a device that is a fake.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from gdn.engines.base import EngineError, Graph, GraphEngine, joined, onnx_bytes, rows
from gdn.engines.devices import Device, open_device
from gdn.engines.observation import Array
from gdn.engines.plan_cache import PlanKey, plan_for
from gdn.engines.plans import MOST, Library, build_plan, load_library, profiles_of
from gdn.models import Model


def key_of(model: Model, graph: Graph, onnx: bytes, library: Library, device: Device) -> PlanKey:
    """What the plan of a graph on a device depends on."""
    profiles = tuple((p.least, p.best, p.most) for p in profiles_of(graph))
    return PlanKey(
        hashlib.sha256(onnx).hexdigest(), model.hash, graph, model.card.precision, profiles,
        library.name, library.version, device.name, device.capability, device.driver,
    )  # fmt: skip


def built_plan(model: Model, graph: Graph, library: Library, device: Device | None) -> bytes:
    """The plan of a graph for `device`, from the cache or built into it; without a device built and not kept."""
    onnx = onnx_bytes(model, graph)
    if device is None:
        return build_plan(library, onnx, graph)
    return plan_for(key_of(model, graph, onnx, library, device), lambda: build_plan(library, onnx, graph))


@dataclass
class _Block:
    """Memory for one tensor; grows, never shrinks."""

    address: int
    size: int


class Runner:
    """One graph on the device: an execution context for each profile, and memory for every tensor."""

    def __init__(self, graph: Graph, plan: bytes, library: Library, device: Device) -> None:
        trt = library.module
        self._trt, self._device, self._graph = trt, device, graph
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"{library.name}: does not take the plan of {graph} (another version or card?)")
        self._contexts: dict[int, Any] = {}
        self._blocks: dict[str, _Block] = {}

    def _context(self, batch: int) -> Any:
        """The context of the profile whose usual batch is the next larger; made when first needed."""
        best = [p.best for p in profiles_of(self._graph)]
        number = min(range(len(best)), key=lambda i: (best[i] < batch, abs(best[i] - batch)))
        if number not in self._contexts:
            context = self._engine.create_execution_context()
            self._must(context is not None, "an execution context")
            self._must(context.set_optimization_profile_async(number, self._device.stream), f"profile {number}")
            self._contexts[number] = context
        return self._contexts[number]

    def run(self, feed: dict[str, Array]) -> list[Array]:
        """The graph's outputs, float32."""
        context = self._context(len(next(iter(feed.values()))))
        held = []  # until the device has read them
        for name, array in feed.items():
            typed = np.ascontiguousarray(array, dtype=self._dtype(name)).reshape(array.shape)
            held.append(typed)
            self._must(context.set_input_shape(name, typed.shape), f"the shape {typed.shape} of {name}")
            self._device.upload(self._address(context, name, typed.nbytes), typed)
        outputs = [np.empty(tuple(context.get_tensor_shape(name)), self._dtype(name)) for name in self._outputs()]
        addresses = [self._address(context, n, o.nbytes) for n, o in zip(self._outputs(), outputs, strict=True)]
        self._must(context.execute_async_v3(self._device.stream), "to run")
        for address, output in zip(addresses, outputs, strict=True):
            self._device.download(address, output)
        self._device.synchronise()
        return [output.astype(np.float32, copy=False) for output in outputs]

    def _address(self, context: Any, name: str, size: int) -> int:
        """Memory for a tensor, bound to the context."""
        block = self._blocks.get(name)
        if block is None or block.size < size:
            if block is not None:
                self._device.free(self._blocks.pop(name).address)
            block = self._blocks[name] = _Block(self._device.allocate(max(size, 1)), size)
        self._must(context.set_tensor_address(name, block.address), f"the address of {name}")
        return block.address

    def _outputs(self) -> list[str]:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        return [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.OUTPUT]

    def _dtype(self, name: str) -> Any:
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))

    def _must(self, good: bool, what: str) -> None:
        """TensorRT says no by False, and goes on."""
        if not good:
            raise EngineError(f"TensorRT refuses {what} of {self._graph}")

    def close(self) -> None:
        """Give the memory back."""
        for block in self._blocks.values():
            self._device.free(block.address)
        self._blocks.clear()
        self._contexts.clear()


class TensorRTEngine(GraphEngine):
    """See `gdn.engines.base.Engine`. `library` and `opened` stand in for what is found here."""

    name = "tensorrt"

    def __init__(
        self, model: Model, device: str = "cuda", reason: str = "asked for", library: Library | None = None,
        opened: Device | None = None,
    ) -> None:  # fmt: skip
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number or "0").isdecimal():
            raise EngineError(f"tensorrt has no device '{device}'; choose cuda or cuda:N")
        self.model, self.device, self.reason = model, device, reason
        self._library = library or load_library()
        self._opened = opened or open_device(int(number or 0))
        self._runners: dict[str, Runner] = {}

    def _run(self, graph: Graph, feed: dict[str, Array]) -> list[Array]:
        if graph not in self._runners:
            plan = built_plan(self.model, graph, self._library, self._opened)
            self._runners[graph] = Runner(graph, plan, self._library, self._opened)
        n, most = len(next(iter(feed.values()))), MOST[graph]
        return joined(self._runners[graph].run(rows(feed, first, most)) for first in range(0, n, most))

    def _has_encoder(self) -> bool:
        return self.model.file("encoder.onnx") is not None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

"""One TensorRT plan on a device: an execution context for each profile, and memory that stays bound
to it.

Everything is queued on one stream. An input that cannot have changed is not uploaded again; only
requested outputs are downloaded. Batches of the search's own size are a CUDA graph: captured once,
then launched as one piece of work. Not yet run on a card (docs/gpu.md); the tests run this file on
a fake device.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdn.engines.base import EngineError, Graph, kind_of
from gdn.engines.cuda_memory import Device
from gdn.engines.device_arrays import Resident
from gdn.engines.tensorrt_plans import CAPTURED, Library, profiles_of
from gdn.likelihood import Array

log = logging.getLogger("gdn")


@dataclass
class _Block:
    """Memory for one tensor."""

    address: int
    size: int


class _Place:
    """A context with the memory of its tensors. `batch` is the only batch size that it runs, as a
    graph; None: any of its profile."""

    def __init__(self, runner: Runner, context: Any, batch: int | None) -> None:
        self.runner, self.context, self.batch = runner, context, batch
        self.resident: Resident[_Block] = Resident(self._upload)
        self.outputs: dict[str, _Block] = {}
        self.captured: Any = None
        self.runs = 0

    def _upload(self, name: str, array: Array, former: _Block | None) -> _Block:
        typed = np.asarray(array, dtype=self.runner.dtype(name), order="C")
        block = self._block(typed.nbytes, former)
        self.runner.device.upload(block.address, typed)
        return block

    def _block(self, size: int, former: _Block | None) -> _Block:
        """Memory of at least `size` bytes: the former block if it is large enough."""
        if former is not None:
            if former.size >= size:
                return former
            self.runner.device.free(former.address)
        return _Block(self.runner.device.allocate(max(size, 1)), size)

    def run(self, feed: dict[str, Array], wanted: tuple[str, ...]) -> list[Array]:
        """The requested outputs."""
        must, context, device = self.runner.must, self.context, self.runner.device
        for name, array in feed.items():
            must(context.set_input_shape(name, array.shape), f"the shape {array.shape} of {name}")
            must(
                context.set_tensor_address(name, self.resident.of(name, array).address),
                f"the address of {name}",
            )
        results = {}
        for name in self.runner.outputs:
            output = np.empty(tuple(context.get_tensor_shape(name)), self.runner.dtype(name))
            self.outputs[name] = self._block(output.nbytes, self.outputs.pop(name, None))
            must(
                context.set_tensor_address(name, self.outputs[name].address),
                f"the address of {name}",
            )
            if name in wanted:
                results[name] = output
        self._execute()
        for name, output in results.items():
            device.download(self.outputs[name].address, output)
        device.synchronise()
        return [results[name].astype(np.float32, copy=False) for name in wanted]

    def _execute(self) -> None:
        """Queue the work. A fixed batch is queued as a graph from the second time on, if the device
        can capture one."""
        if self.captured is not None:
            self.runner.device.launch(self.captured)
            return
        self._enqueue()
        self.runs += 1
        if self.batch is not None and self.runs == 1:  # one enqueue has to come before the capture
            try:
                self.captured = self.runner.device.capture(self._enqueue)
            except EngineError as error:
                log.warning("tensorrt: continuing without a CUDA graph (%s)", error)

    def _enqueue(self) -> None:
        self.runner.must(self.context.execute_async_v3(self.runner.device.stream), "to run")

    def close(self) -> None:
        """Free graph and memory."""
        if self.captured is not None:
            self.runner.device.forget(self.captured)
        for block in (*self.resident.drain(), *self.outputs.values()):
            self.runner.device.free(block.address)
        self.outputs.clear()


class Runner:
    """One graph of a model on the device."""

    def __init__(self, graph: Graph, plan: bytes, library: Library, device: Device) -> None:
        trt = library.module
        self._trt, self.device, self._graph = trt, device, graph
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"{library.name}: refuses the plan of {graph} (was it built for another "
                "version or card?)"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.outputs = [
            n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT
        ]
        self._places: dict[tuple[int, int | None], _Place] = {}

    def _place(self, batch: int) -> _Place:
        """The context of the profile whose usual batch is the next larger one. The batch that is
        captured has a context of its own, whose shapes and addresses nothing else changes."""
        best = [p.best for p in profiles_of(self._graph)]
        number = min(range(len(best)), key=lambda i: (best[i] < batch, abs(best[i] - batch)))
        fixed = batch if batch == CAPTURED.get(kind_of(self._graph)) else None
        if (number, fixed) not in self._places:
            context = self._engine.create_execution_context()
            self.must(context is not None, "an execution context")
            self.must(
                context.set_optimization_profile_async(number, self.device.stream),
                f"profile {number}",
            )
            self._places[number, fixed] = _Place(self, context, fixed)
        return self._places[number, fixed]

    def run(self, feed: dict[str, Array], wanted: tuple[str, ...]) -> list[Array]:
        """The requested outputs of the graph, float32."""
        return self._place(len(next(iter(feed.values())))).run(feed, wanted)

    def dtype(self, name: str) -> Any:
        """Type of a tensor."""
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))

    def must(self, good: bool, what: str) -> None:
        """Raise an error where TensorRT returns False, since it raises none itself."""
        if not good:
            raise EngineError(f"TensorRT refuses {what} of {self._graph}")

    def close(self) -> None:
        """Free the memory."""
        for place in self._places.values():
            place.close()
        self._places.clear()

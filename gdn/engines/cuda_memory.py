"""Memory and one stream of a CUDA device, through the package that is installed: cuda-python,
torch, or pycuda.

All three use the device's primary context, so they can be loaded together (of pycuda only
`pycuda.autoprimaryctx` does). Not yet run on a card: docs/gpu.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import EngineError, OutOfMemory


class Device(Protocol):
    """A CUDA device: its `name`, compute `capability` ("8.9") and `driver`; `stream` is the handle
    on which work is queued.

    Raises OutOfMemory and EngineError.
    """

    name: str
    capability: str
    driver: str
    stream: int

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes and return their address."""

    def free(self, address: int) -> None:
        """Free allocated memory."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Queue a copy to the device."""

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Queue a copy from the device into `array`."""

    def synchronise(self) -> None:
        """Wait for all queued work."""

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` queues as a CUDA graph, without running it. None if this package has
        no graphs."""

    def launch(self, graph: Any) -> None:
        """Queue a captured graph."""

    def forget(self, graph: Any) -> None:
        """Free a captured graph."""


class CudaPython:
    """Through NVIDIA's own bindings."""

    def __init__(self, number: int = 0) -> None:
        from cuda.bindings import runtime

        self._rt = runtime
        self._call(runtime.cudaSetDevice(number))
        properties = self._call(runtime.cudaGetDeviceProperties(number))
        self.name = bytes(properties.name).split(b"\0")[0].decode()
        self.capability = f"{properties.major}.{properties.minor}"
        self.driver = str(self._call(runtime.cudaDriverGetVersion()))
        self._stream = self._call(runtime.cudaStreamCreate())
        self.stream = int(self._stream)

    def _call(self, result: tuple[Any, ...]) -> Any:
        """The result of a call. Every call returns its error first."""
        error, *values = result
        if error == self._rt.cudaError_t.cudaErrorMemoryAllocation:
            raise OutOfMemory("CUDA: out of memory")
        if error != self._rt.cudaError_t.cudaSuccess:
            raise EngineError(f"CUDA: {error.name}")
        return values[0] if values else None

    def allocate(self, size: int) -> int:
        """See Device."""
        return int(self._call(self._rt.cudaMalloc(size)))

    def free(self, address: int) -> None:
        """See Device."""
        self._call(self._rt.cudaFree(address))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(
            self._rt.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._stream)
        )

    def download(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(
            self._rt.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._stream)
        )

    def synchronise(self) -> None:
        """See Device."""
        self._call(self._rt.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Any:
        """See Device."""
        self._call(
            self._rt.cudaStreamBeginCapture(
                self._stream, self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )
        try:
            work()
        except BaseException:  # a stream must not stay in capture, and what ended it goes first
            self._rt.cudaStreamEndCapture(self._stream)
            raise
        graph = self._call(self._rt.cudaStreamEndCapture(self._stream))
        made = self._call(self._rt.cudaGraphInstantiate(graph, 0))
        self._call(self._rt.cudaGraphDestroy(graph))
        return made

    def launch(self, graph: Any) -> None:
        """See Device."""
        self._call(self._rt.cudaGraphLaunch(graph, self._stream))

    def forget(self, graph: Any) -> None:
        """See Device."""
        self._call(self._rt.cudaGraphExecDestroy(graph))


class Torch:
    """Through torch: every block of memory is a tensor of bytes."""

    def __init__(self, number: int = 0) -> None:
        import torch

        if not torch.cuda.is_available():
            raise EngineError("torch sees no CUDA device")
        self._torch, self._number = torch, number
        properties = torch.cuda.get_device_properties(number)
        self.name, self.capability = properties.name, f"{properties.major}.{properties.minor}"
        self.driver = str(torch.version.cuda)
        self._stream = torch.cuda.Stream(number)
        self.stream = int(self._stream.cuda_stream)
        self._blocks: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """See Device."""
        try:
            block = self._torch.empty(size, dtype=self._torch.uint8, device=f"cuda:{self._number}")
        except self._torch.OutOfMemoryError:
            raise OutOfMemory("CUDA: out of memory") from None
        self._blocks[block.data_ptr()] = block
        return int(block.data_ptr())

    def free(self, address: int) -> None:
        """See Device."""
        del self._blocks[address]

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        block = self._blocks[address]
        with self._torch.cuda.stream(self._stream):
            block[: array.nbytes].copy_(
                self._torch.from_numpy(array.reshape(-1).view(np.uint8)), non_blocking=True
            )

    def download(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        with self._torch.cuda.stream(self._stream):
            self._torch.from_numpy(array.reshape(-1).view(np.uint8)).copy_(
                self._blocks[address][: array.nbytes]
            )

    def synchronise(self) -> None:
        """See Device."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Any:
        """See Device."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(
                graph, stream=self._stream, capture_error_mode="thread_local"
            ):
                work()
        except RuntimeError as error:
            raise EngineError(f"CUDA: {' '.join(str(error).split())[:80]}") from None
        return graph

    def launch(self, graph: Any) -> None:
        """See Device."""
        with self._torch.cuda.stream(self._stream):
            graph.replay()

    def forget(self, graph: Any) -> None:
        """See Device."""
        graph.reset()


class PyCuda:
    """Through pycuda, in the primary context."""

    def __init__(self, number: int = 0) -> None:
        if number:
            raise EngineError("pycuda: only the first device; install cuda-python for another")
        import pycuda.autoprimaryctx
        import pycuda.driver as driver

        self._driver = driver
        card = pycuda.autoprimaryctx.device
        self.name, self.capability = card.name(), "{}.{}".format(*card.compute_capability())
        self.driver = str(driver.get_driver_version())
        self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self._blocks: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """See Device."""
        try:
            block = self._driver.mem_alloc(size)
        except self._driver.MemoryError:
            raise OutOfMemory("CUDA: out of memory") from None
        self._blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        """See Device."""
        self._blocks.pop(address).free()

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        self._driver.memcpy_htod_async(address, array, self._stream)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """See Device."""
        self._driver.memcpy_dtoh_async(array, address, self._stream)

    def synchronise(self) -> None:
        """See Device."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Any:
        """See Device. pycuda has no graphs."""
        return None

    def launch(self, graph: Any) -> None:
        """See Device."""
        raise EngineError("pycuda has no CUDA graphs")

    def forget(self, graph: Any) -> None:
        """See Device."""


KINDS: dict[str, type[CudaPython] | type[Torch] | type[PyCuda]] = {
    "cuda": CudaPython,
    "pycuda": PyCuda,
    "torch": Torch,
}


def open_device(number: int = 0) -> Device:
    """Open device `number` through the first package that has it. Raises EngineError with the
    reason of each package."""
    said = []
    for package, kind in KINDS.items():
        if importlib.util.find_spec(package) is None:
            continue
        try:
            return kind(number)
        except Exception as error:  # a missing driver shows in many ways
            said.append(f"{package}: {' '.join(str(error).split())[:80] or type(error).__name__}")
    reason = "; ".join(said) or "neither cuda-python, pycuda nor a CUDA build of torch is installed"
    raise EngineError(f"no CUDA device can be opened ({reason})")

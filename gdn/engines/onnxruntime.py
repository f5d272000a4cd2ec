"""ONNX Runtime: the engine that needs neither torch nor a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime

from gdn.engines.base import (
    EngineError,
    Graph,
    OutOfMemory,
    is_out_of_memory,
    kind_of,
    onnx_bytes,
    rows,
)
from gdn.engines.device_arrays import Resident
from gdn.engines.graph_engine import GraphEngine
from gdn.engines.onnx_session import PROVIDERS, has_provider, open_session
from gdn.likelihood import Array
from gdn.models import Model

CHUNK = 8  # images


def card_reason() -> str | None:
    """Why it can use a card on this machine, or None."""
    return "its CUDA provider is present" if has_provider("cuda") else None


class OnnxRuntimeEngine(GraphEngine):
    """See `gdn.engines.base.Engine`. `threads` limits the threads (None: all cores).

    On the CPU a batch is cut into chunks of fixed size, each run by one thread. onnxruntime's own
    threads divide single operations, which gains almost nothing for so small a network
    (docs/measurements/search.md). The size of the chunks does not depend on the threads, so any
    number of threads gives the same results. On a card inputs and outputs are bound to its memory,
    and inputs that do not change stay there (not yet run on one: docs/gpu.md).
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        threads: int | None = None,
        reason: str = "asked for",
    ) -> None:
        kind, _, number = device.partition(":")
        if kind not in PROVIDERS or not (number or "0").isdecimal():
            raise EngineError(
                f"onnxruntime has no device '{device}'; choose cpu, cuda or tensorrt (and :N)"
            )
        if not has_provider(kind):
            raise EngineError(
                f"onnxruntime here has no {PROVIDERS[kind]}; {_advice()}, or choose device cpu"
            )
        if kind != "cpu" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.set_default_logger_severity(
                4
            )  # of what is missing it prints half a page; we say it in a line
            # CUDA's libraries from Python packages, where those are installed
            onnxruntime.preload_dlls()
        self.model, self.device, self.reason = model, device, reason
        self._kind, self._number = kind, int(number or 0)
        self.bound = (
            None if kind == "cpu" else "cuda"
        )  # where inputs and outputs are bound to; None: they are not
        self._threads = (
            threads
            if threads is not None
            else int(os.environ.get("GDN_THREADS", "0")) or os.cpu_count() or 1
        )
        self._pool = ThreadPoolExecutor(self._threads)
        # of each graph that was opened: its session, and the type of its inputs and outputs
        self._sessions: dict[Graph, tuple[onnxruntime.InferenceSession, np.dtype[Any]]] = {}
        self.resident: dict[Graph, Resident[Any]] = {}
        self._session("generator")

    def _session(self, name: Graph) -> tuple[onnxruntime.InferenceSession, np.dtype[Any]]:
        if name not in self._sessions:
            content = onnx_bytes(self.model, name)
            provider = PROVIDERS[self._kind]
            providers = providers_of(self.model, self._kind, name, self._number)
            try:
                session = open_session(content, providers, threads=1)
            except Exception as error:  # onnxruntime raises its own unrelated classes
                path = self.model.folder / f"{name}.onnx"
                raise EngineError(
                    f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0][:160]})"
                ) from None
            if session.get_providers()[0] != provider:
                raise EngineError(
                    f"onnxruntime fell back to the CPU: device {self.device} needs "
                    f"{what_is_missing(self._kind)}"
                )
            half = session.get_inputs()[0].type == "tensor(float16)"
            self._sessions[name] = session, np.dtype(np.float16 if half else np.float32)
        return self._sessions[name]

    def run_graph(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[list[Array]]:
        """Run one batch, in chunks shared by threads, or in bound memory."""
        session, kind = self._session(graph)
        n = len(next(iter(feed.values())))
        if self.bound is not None:
            most = n
            if self._kind == "tensorrt":  # of the plan's profile
                from gdn.engines.tensorrt_plans import MOST

                most = MOST[kind_of(graph)]
            return [
                self._run_bound(graph, rows(feed, first, most), outputs)
                for first in range(0, n, most)
            ]
        typed = {k: np.asarray(v, dtype=kind, order="C") for k, v in feed.items()}

        def run_chunk(chunk: dict[str, Array]) -> list[Array]:
            results = _checked(lambda: session.run(outputs, chunk), min(n, CHUNK))
            return [np.asarray(output, dtype=np.float32) for output in results]

        if n <= CHUNK:
            return [run_chunk(typed)]
        firsts = range(0, n, CHUNK)
        return list(self._pool.map(lambda first: run_chunk(rows(typed, first, CHUNK)), firsts))

    def _run_bound(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[Array]:
        """Run one batch with inputs and outputs in the card's memory. Only inputs that changed are
        uploaded, and only requested outputs are downloaded."""
        session, kind = self._sessions[graph]
        place, number = self.bound, self._number

        def upload(name: str, array: Array, former: Any) -> Any:
            typed = np.array(
                array, dtype=kind, order="C"
            )  # its own: in host memory onnxruntime would work on the caller's
            if former is not None and former.shape() == list(typed.shape):
                former.update_inplace(typed)
                return former
            return onnxruntime.OrtValue.ortvalue_from_numpy(typed, place, number)

        def work() -> list[Any]:
            resident = self.resident.setdefault(graph, Resident(upload))
            binding = session.io_binding()
            for name, array in feed.items():
                binding.bind_ortvalue_input(name, resident.of(name, array))
            for name in outputs:
                binding.bind_output(name, place, number)
            session.run_with_iobinding(binding)
            return list(binding.copy_outputs_to_cpu())

        return [
            np.array(f, dtype=np.float32) for f in _checked(work, len(next(iter(feed.values()))))
        ]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        self.resident.clear()
        self._sessions.clear()


def _advice() -> str:
    """What to install. Both packages install the same module, so the later one has overwritten the
    other."""
    return (
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )


def providers_of(model: Model, kind: str, graph: Graph, number: int = 0) -> list[Any]:
    """onnxruntime's provider for a `kind` of device, with its options for card `number`. What
    TensorRT cannot run is left to CUDA."""
    card = {"device_id": number}
    if kind == "cpu":
        return [PROVIDERS["cpu"]]
    if kind == "cuda":
        return [(PROVIDERS["cuda"], card)]
    from gdn.engines.tensorrt_plan_cache import RUNTIMES_OWN, plan_folder
    from gdn.engines.tensorrt_plans import provider_shapes

    cached: dict[str, Any] = {}
    with contextlib.suppress(
        OSError
    ):  # its plans lie where ours do: in a folder that only its owner enters
        cached = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(plan_folder() / RUNTIMES_OWN),
        }
    shapes = provider_shapes(model, graph)
    return [(PROVIDERS["tensorrt"], card | cached | shapes), (PROVIDERS["cuda"], card)]


def what_is_missing(kind: str) -> str:
    """Why a provider cannot start: a library that it names when loaded, or else the card and its
    driver."""
    path = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{kind}.so"
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        name = str(error).split(":")[0]
        if name.startswith("lib"):
            return (
                f"{name} (pip install "
                f"'onnxruntime-gpu[cuda,cudnn]'{', and TensorRT' if kind == 'tensorrt' else ''})"
            )
    return "a card that this onnxruntime supports, and NVIDIA's driver"


def _checked(work: Any, n: int) -> list[Any]:
    """The outputs. Raises OutOfMemory if onnxruntime's error, whose class does not tell, means
    that; else EngineError."""
    try:
        outputs: list[Any] = work()
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"onnxruntime: memory ran out for a batch of {n}") from None
        words = " ".join(str(error).split())[:160]
        raise EngineError(
            f"onnxruntime cannot run the model's graph ({words}); export the model again"
        ) from None
    return outputs

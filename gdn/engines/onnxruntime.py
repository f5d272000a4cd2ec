"""ONNX Runtime: the engine that needs neither torch nor a GPU."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime

from gdn.engines.base import EngineError, Graph, GraphEngine, OutOfMemory, is_out_of_memory, joined, onnx_bytes, rows
from gdn.engines.observation import Array
from gdn.models import Model

CHUNK = 8  # images
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeEngine(GraphEngine):
    """See `gdn.engines.base.Engine`. `threads` bounds the threads (None: all cores).

    On the CPU a batch is cut into chunks of fixed size, each run by one thread: onnxruntime's own threads
    divide single operations, which for so small a network gains next to nothing (docs/latent-search.md), and chunks
    whose size does not depend on the threads give the same numbers whatever their count.
    """

    name = "onnxruntime"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, reason: str = "asked for") -> None:
        kind = device.split(":")[0]
        if kind not in PROVIDERS:
            raise EngineError(f"onnxruntime has no device '{device}'; choose cpu or cuda")
        if PROVIDERS[kind] not in onnxruntime.get_available_providers():
            raise EngineError(f"onnxruntime here has no {PROVIDERS[kind]}; install onnxruntime-gpu, or choose --device cpu")
        if kind == "cuda" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries from Python packages, where those are installed
        self.model, self.device, self.reason = model, device, reason
        self._cuda = kind == "cuda"
        self._threads = threads if threads is not None else int(os.environ.get("GDN_THREADS", "0")) or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._dtype = np.float16 if model.card.precision == "fp16" else np.float32
        self._session("generator")

    def _session(self, name: Graph) -> onnxruntime.InferenceSession:
        if name not in self._sessions:
            content = onnx_bytes(self.model, name)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            provider = PROVIDERS[self.device.split(":")[0]]
            try:
                session = onnxruntime.InferenceSession(content, options, providers=[provider])
            except Exception as error:  # onnxruntime raises its own unrelated classes
                path = self.model.folder / f"{name}.onnx"
                raise EngineError(f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0][:160]})") from None
            if session.get_providers()[0] != provider:
                raise EngineError(f"onnxruntime fell back to {session.get_providers()[0]}; --device {self.device} cannot be had")
            self._sessions[name] = session
        return self._sessions[name]

    def _run(self, graph: Graph, feed: dict[str, Array]) -> list[Array]:
        session = self._session(graph)
        typed = {k: np.asarray(v, dtype=self._dtype, order="C") for k, v in feed.items()}
        n = len(next(iter(typed.values())))
        if self._cuda or n <= CHUNK:
            return [np.asarray(f, dtype=np.float32) for f in _checked(session, typed)]

        parts = self._pool.map(lambda first: _checked(session, rows(typed, first, CHUNK)), range(0, n, CHUNK))
        return [output.astype(np.float32, copy=False) for output in joined(parts)]

    def _has_encoder(self) -> bool:
        return self.model.file("encoder.onnx") is not None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()
        self._sessions.clear()


def _checked(session: onnxruntime.InferenceSession, feed: dict[str, Any]) -> list[Any]:
    """The outputs. Raises OutOfMemory where that is what onnxruntime's own unrelated classes mean, else EngineError."""
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"onnxruntime: memory ran out for a batch of {len(next(iter(feed.values())))}") from None
        words = " ".join(str(error).split())[:160]
        raise EngineError(f"onnxruntime cannot run the model's graph ({words}); export the model again") from None
    return outputs

"""Opens ONNX graphs in ONNX Runtime: those of the engine and the restorer, and those that are only
checked or compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}  # by the kind of device


def has_provider(kind: str) -> bool:
    """Whether the installed onnxruntime can use a `kind` of device (one of PROVIDERS)."""
    return PROVIDERS[kind] in onnxruntime.get_available_providers()


def open_session(
    graph: bytes | str | Path,
    providers: Sequence[Any] = (PROVIDERS["cpu"],),
    threads: int = 0,
    spinning: bool = True,
) -> onnxruntime.InferenceSession:
    """A session for the content or the file of a graph. `providers`: names, or pairs of a name and
    its options. `threads` divide single operations (0: all cores); with `spinning` they wait for
    the next one awake. Raises onnxruntime's own unrelated classes of errors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # of half precision the CPU has not every kernel: it says so
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=list(providers))

"""Which engine and device to use, and why. `auto` takes onnxruntime where it is installed, on CUDA where that starts."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from gdn.engines.base import Engine, EngineError
from gdn.engines.plans import load_library
from gdn.models import Model

ENGINES = ("onnxruntime", "torch", "tensorrt")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Choice:
    """An engine on a device and the reason in words."""

    engine: str
    device: str
    reason: str


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def choose(engine: str = "auto", device: str = "auto") -> Choice:
    """The engine for a request. Raises EngineError if what was asked for cannot be had.

    A device that was asked for is never replaced by another.
    """
    if engine == "tensorrt":
        load_library()  # says what is missing
        return Choice(engine, "cuda" if device == "auto" else device, "asked for")
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"unknown engine '{engine}'; choose auto, {', '.join(ENGINES)}")
    if device.split(":")[0] not in DEVICES:
        raise EngineError(f"no device '{device}'; choose {', '.join(DEVICES)}")
    if engine != "auto":
        if not installed(engine):
            extra = " (pip install 'gdn[train]')" if engine == "torch" else ""
            raise EngineError(f"{engine} is not installed{extra}; choose another --engine")
        return Choice(engine, "cpu" if device == "auto" else device, "asked for")
    if installed("onnxruntime"):
        import onnxruntime

        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device.startswith("cuda") or (device == "auto" and has_cuda):
            return Choice("onnxruntime", "cuda" if device == "auto" else device, "its CUDA provider is present")
        return Choice("onnxruntime", "cpu", "no CUDA provider, or the CPU was asked for")
    if installed("torch"):
        return Choice("torch", "cpu" if device == "auto" else device, "onnxruntime is not installed")
    raise EngineError("neither onnxruntime nor torch is installed; pip install onnxruntime")


def open_engine(model: Model, engine: str = "auto", device: str = "auto", threads: int | None = None) -> Engine:
    """The chosen engine, loaded with `model`; use it in a `with` block. Raises EngineError."""
    choice = choose(engine, device)
    if model.card.channels != 1:
        raise EngineError(f"{model.folder}: a generator of {model.card.channels} channels; frames have one")
    if choice.engine == "tensorrt":
        from gdn.engines.tensorrt import TensorRTEngine

        return TensorRTEngine(model, choice.device, choice.reason)
    if choice.engine == "torch":
        from gdn.engines.torch import TorchEngine

        return TorchEngine(model, choice.device, threads, choice.reason)
    from gdn.engines.onnxruntime import OnnxRuntimeEngine

    try:
        return OnnxRuntimeEngine(model, choice.device, threads, choice.reason)
    except EngineError as error:
        # The CUDA build is installed where there is no card: nobody asked for it, so the CPU will do.
        if device != "auto" or choice.device == "cpu":
            raise
        return OnnxRuntimeEngine(model, "cpu", threads, f"its CUDA provider is installed but does not start ({error})")

"""Which engine and device to use, and why.

`auto` tries TensorRT, ONNX Runtime on CUDA, torch on CUDA, and takes the first that is installed, starts, and gives the
CPU's images; else ONNX Runtime, or torch, on the CPU. What was tried and why it was not taken is part of the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gdn.engines.base import Engine, EngineError
from gdn.engines.tensorrt_plans import installed_libraries, load_library
from gdn.models import Model

ENGINES = ("tensorrt", "onnxruntime", "torch")
DEVICES = ("auto", "cpu", "cuda", "tensorrt")  # the last: onnxruntime's own provider
PROVED = 4  # images of the self-test
AGREES = {"fp32": 1e-3, "fp16": 3e-2}  # largest difference from the CPU's, vacuum units


@dataclass(frozen=True)
class Choice:
    """An engine on a device and the reason in words."""

    engine: str
    device: str
    reason: str


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def check(engine: str = "auto", device: str = "auto") -> None:
    """Raises EngineError where what is asked for is not known or not installed."""
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"unknown engine '{engine}'; choose auto, {', '.join(ENGINES)}")
    if device.split(":")[0] not in DEVICES:
        raise EngineError(f"no device '{device}'; choose {', '.join(DEVICES)}")
    if device.startswith("tensorrt") and engine != "onnxruntime":
        raise EngineError(
            f"device {device} is onnxruntime's: ask for engine onnxruntime too, or for engine tensorrt alone", "device"
        )
    if engine == "tensorrt":
        load_library()  # says what is missing
    elif engine != "auto" and not installed(engine):
        extra = " (pip install 'gdn[train]')" if engine == "torch" else ""
        raise EngineError(f"{engine} is not installed{extra}; choose another engine")
    elif engine == "auto" and not (installed("onnxruntime") or installed("torch")):
        raise EngineError("neither onnxruntime nor torch is installed; pip install onnxruntime")


def candidates(device: str = "auto") -> Iterator[Choice]:
    """What `auto` tries on `device`, in order, as far as it is installed."""
    cuda = "cuda" if device == "auto" else device
    if device != "cpu" and (device != "auto" or has_driver()):
        if installed_libraries():
            yield Choice("tensorrt", cuda, "TensorRT is installed")
        if installed("onnxruntime") and _has_provider("CUDAExecutionProvider"):
            yield Choice("onnxruntime", cuda, "its CUDA provider is present")
        if installed("torch") and _torch_has_cuda():
            yield Choice("torch", cuda, "torch sees a CUDA device")
    if device in ("auto", "cpu"):
        why = "the CPU was asked for" if device == "cpu" else "no GPU that gdn can use" if has_driver() else "no CUDA driver"
        if installed("onnxruntime"):
            yield Choice("onnxruntime", "cpu", why)
        if installed("torch"):
            yield Choice("torch", "cpu", f"{why}; onnxruntime is not installed")


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed: without it nothing of CUDA need be imported, which takes seconds."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def _has_provider(name: str) -> bool:
    import onnxruntime

    return name in onnxruntime.get_available_providers()


def _torch_has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def open_engine(
    model: Model, engine: str = "auto", device: str = "auto", threads: int | None = None, require_gpu: bool = False
) -> Engine:
    """The chosen engine, loaded with `model`; use it in a `with` block. A device that was asked for is never replaced.

    Raises EngineError if what was asked for cannot be had, and with `require_gpu` rather than take the CPU.
    """
    check(engine, device)
    if model.card.channels != 1:
        raise EngineError(f"{model.folder}: a generator of {model.card.channels} channels; frames have one")
    if engine != "auto":
        own = "cuda" if engine == "tensorrt" else "cpu"
        found = _open(model, Choice(engine, own if device == "auto" else device, "asked for"), threads)
        if require_gpu and found.device == "cpu":
            raise EngineError(f"require_gpu: {engine} runs on the CPU here; device cuda says what is missing", "require_gpu")
        return found
    said: list[str] = []
    for choice in candidates(device):
        on_cpu = choice.device == "cpu"
        if on_cpu and require_gpu:
            break
        reason = "; ".join([choice.reason, *said])
        try:
            found = _open(model, Choice(choice.engine, choice.device, reason), threads)
            if not on_cpu:
                _prove(found, model)
        except EngineError as error:
            if on_cpu:
                raise
            said.append(f"{choice.engine} does not do ({' '.join(str(error).split())})")
            continue
        return found
    tried = "; ".join(said) or "no CUDA driver, or no TensorRT, no CUDA provider of onnxruntime, no CUDA device of torch"
    asked, parameter = ("require_gpu", "require_gpu") if require_gpu else (f"device {device}", "device")
    raise EngineError(f"{asked}: no GPU that gdn can use ({tried})", parameter)


def _open(model: Model, choice: Choice, threads: int | None) -> Engine:
    """One engine. Raises EngineError."""
    if choice.engine == "tensorrt":
        from gdn.engines.tensorrt import TensorRTEngine

        return TensorRTEngine(model, choice.device, choice.reason)
    if choice.engine == "torch":
        from gdn.engines.torch import TorchEngine

        return TorchEngine(model, choice.device, threads, choice.reason)
    from gdn.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, choice.device, threads, choice.reason)


def _prove(found: Engine, model: Model) -> None:
    """Raises EngineError where an engine's images are not the CPU's. An engine that is not proved is closed."""
    from gdn.restarts import restart_latents

    z = restart_latents(0, range(PROVED), model.card.latent)
    if not installed("onnxruntime"):
        return  # torch alone: there is nothing to compare with
    with contextlib.ExitStack() as unproved:
        unproved.push(found)
        with _open(model, Choice("onnxruntime", "cpu", "the self-test"), 1) as reference:
            off = float(np.abs(found.generate(z) - reference.generate(z)).max())
        if not off <= AGREES[model.card.precision]:
            raise EngineError(f"its images are off by {off:.2g} of the vacuum level")
        unproved.pop_all()

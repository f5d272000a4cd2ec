"""Choose the engine and the device, and say why.

`auto` tries TensorRT, ONNX Runtime on CUDA and torch on CUDA. It takes the first that is installed,
starts, and gives the same images as the CPU. Else it takes ONNX Runtime, or torch, on the CPU. The
reason lists what was tried and why it was not taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdn.engines.base import Engine, EngineError
from gdn.engines.table import (
    DEVICES,
    ENGINES,
    ON_CPU,
    REFERENCE,
    RUNTIMES,
    Runtime,
    installed_runtimes,
    runtime_named,
)
from gdn.environment import install_command
from gdn.models import Model

PROVED = 4  # images of the self-test
AGREES = {"fp32": 1e-3, "fp16": 3e-2}  # largest difference from the CPU's, vacuum units


@dataclass(frozen=True)
class EngineChoice:
    """An engine on a device, and the reason for it in words."""

    engine: str
    device: str
    reason: str


def check(engine: str = "auto", device: str = "auto") -> None:
    """Raises EngineError if what is asked for is unknown or not installed."""
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"unknown engine '{engine}'; choose auto, {', '.join(ENGINES)}")
    kind = device.split(":")[0]
    if kind not in DEVICES:
        raise EngineError(f"no device '{device}'; choose {', '.join(DEVICES)}")
    able = [runtime.name for runtime in RUNTIMES if kind in runtime.devices]
    if kind not in ("auto", "cpu", "cuda") and engine not in able:
        names = " or ".join(able)
        raise EngineError(
            f"device {device} belongs to {names}: choose engine {names} too, or engine "
            f"{kind} without a device",
            "device",
        )
    if engine == "auto":
        if not set(ON_CPU).intersection(installed_runtimes()):
            names = " nor ".join(runtime.name for runtime in ON_CPU)
            raise EngineError(f"neither {names} is installed; pip install {REFERENCE.packages[0]}")
        return
    runtime = runtime_named(engine)
    if runtime not in ON_CPU:
        _module(runtime).check()  # says what is missing
    elif not runtime.installed:
        extra = f" ({install_command(runtime.extra)})" if runtime.extra else ""
        raise EngineError(f"{engine} is not installed{extra}; choose another engine")


def candidates(device: str = "auto") -> Iterator[EngineChoice]:
    """What `auto` tries on `device`, in order, of what is installed."""
    here = installed_runtimes()
    if device != "cpu" and (device != "auto" or has_driver()):
        for runtime in here:
            if reason := _module(runtime).card_reason():
                yield EngineChoice(runtime.name, "cuda" if device == "auto" else device, reason)
    if device in ("auto", "cpu"):
        why = (
            "the CPU was asked for"
            if device == "cpu"
            else "no GPU that gdn can use"
            if has_driver()
            else "no CUDA driver"
        )
        missing: list[str] = []
        for runtime in ON_CPU:
            if runtime in here:
                yield EngineChoice(runtime.name, "cpu", "; ".join([why, *missing]))
            else:
                missing.append(f"{runtime.name} is not installed")


def _module(runtime: Runtime) -> Any:
    return importlib.import_module(runtime.module)


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed. Without it no CUDA package need be imported, which
    takes seconds."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def open_engine(
    model: Model,
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    require_gpu: bool = False,
) -> Engine:
    """Open the chosen engine with `model`; use it in a `with` block. A device that was asked for is
    never replaced by another.

    Raises EngineError if what was asked for is not available; with `require_gpu` also if only the
    CPU is.
    """
    check(engine, device)
    if model.card.channels != 1:
        raise EngineError(
            f"{model.folder}: this generator makes images of {model.card.channels} "
            "channels; frames have one"
        )
    if engine != "auto":
        taken = runtime_named(engine).own_device if device == "auto" else device
        opened = _open(model, EngineChoice(engine, taken, "asked for"), threads)
        if require_gpu and opened.device == "cpu":
            raise EngineError(
                f"require_gpu: {engine} runs on the CPU here; choose device cuda to see what "
                "is missing",
                "require_gpu",
            )
        return opened
    said: list[str] = []
    for choice in candidates(device):
        on_cpu = choice.device == "cpu"
        if on_cpu and require_gpu:
            break
        reason = "; ".join([choice.reason, *said])
        try:
            opened = _open(model, EngineChoice(choice.engine, choice.device, reason), threads)
            if not on_cpu:
                _prove(opened, model)
        except EngineError as error:
            if on_cpu:
                raise
            said.append(f"{choice.engine} cannot be used ({' '.join(str(error).split())})")
            continue
        return opened
    tried = "; ".join(said) or "no CUDA driver, or no " + ", no ".join(r.card for r in RUNTIMES)
    asked, parameter = (
        ("require_gpu", "require_gpu") if require_gpu else (f"device {device}", "device")
    )
    raise EngineError(f"{asked}: no GPU that gdn can use ({tried})", parameter)


def _open(model: Model, choice: EngineChoice, threads: int | None) -> Engine:
    """Open one engine. Raises EngineError."""
    runtime = runtime_named(choice.engine)
    make = getattr(_module(runtime), runtime.engine_class)
    engine: Engine = make(model, choice.device, threads=threads, reason=choice.reason)
    return engine


def _prove(opened: Engine, model: Model) -> None:
    """Raises EngineError if an engine's images differ from the CPU's. The engine is then closed."""
    from gdn.restarts import restart_latents

    z = restart_latents(0, range(PROVED), model.card.latent)
    if not REFERENCE.installed:
        return  # torch alone: there is nothing to compare with
    with contextlib.ExitStack() as unproved:
        unproved.push(opened)
        with _open(model, EngineChoice(REFERENCE.name, "cpu", "the self-test"), 1) as reference:
            off = float(np.abs(opened.generate(z) - reference.generate(z)).max())
        if not off <= AGREES[model.card.precision]:
            raise EngineError(f"its images are wrong by {off:.2g} of the vacuum level")
        unproved.pop_all()

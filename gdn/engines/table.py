"""The engines, one row each. The class of an engine is in a file of its own in `gdn.engines`.

All code that names engines reads this table: what `auto` tries and in which order, `--engine` and
its help, `gdn doctor`. It imports nothing, so that a command's help appears quickly.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """An engine.

    - `name`: as `--engine` has it.
    - `module`, `engine_class`: what evaluates with it.
    - `packages`: one of these must be installed.
    - `builds`: other names under which a package index has the same.
    - `extra`: of gdn that installs one.
    - `own_device`: the device that it uses by default.
    - `devices`: those that it supports.
    - `card`: what it needs to use a card, in words.

    The module also has a function `card_reason()`, which says in words why it can use a card on
    this machine, or returns None.
    """

    name: str
    module: str
    engine_class: str
    packages: tuple[str, ...]
    builds: tuple[str, ...] = ()
    extra: str
    own_device: str
    devices: tuple[str, ...]
    card: str

    @property
    def installed(self) -> bool:
        """Whether one of its packages is installed. Nothing is imported."""
        return any(importlib.util.find_spec(package) is not None for package in self.packages)


# In the order in which `auto` tries them.
RUNTIMES = (
    Runtime(
        name="tensorrt",
        module="gdn.engines.tensorrt",
        engine_class="TensorRTEngine",
        packages=("tensorrt", "tensorrt_rtx"),
        extra="tensorrt-rtx",
        own_device="cuda",
        devices=("cuda",),
        card="TensorRT",
    ),
    Runtime(
        name="onnxruntime",
        module="gdn.engines.onnxruntime",
        engine_class="OnnxRuntimeEngine",
        packages=("onnxruntime",),
        builds=("onnxruntime-gpu",),
        extra="",
        own_device="cpu",
        devices=("cpu", "cuda", "tensorrt"),
        card="CUDA provider of onnxruntime",
    ),
    Runtime(
        name="torch",
        module="gdn.engines.torch",
        engine_class="TorchEngine",
        packages=("torch",),
        extra="train",
        own_device="cpu",
        devices=("cpu", "cuda"),
        card="CUDA device of torch",
    ),
)
ENGINES = tuple(runtime.name for runtime in RUNTIMES)
DEVICES = ("auto", *dict.fromkeys(device for runtime in RUNTIMES for device in runtime.devices))
ENGINE_HELP = f"Library that runs the networks: {', '.join(('auto', *ENGINES))}."
REFERENCE = RUNTIMES[1]  # comes with gdn; a card's images are compared with its images on the CPU
ON_CPU = tuple(runtime for runtime in RUNTIMES if "cpu" in runtime.devices)  # need no card


def installed_runtimes() -> list[Runtime]:
    """The rows for which a package is installed."""
    return [runtime for runtime in RUNTIMES if runtime.installed]


def runtime_named(name: str) -> Runtime:
    """The row of an engine. Raises KeyError."""
    return {runtime.name: runtime for runtime in RUNTIMES}[name]

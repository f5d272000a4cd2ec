"""TensorRT plans of a model's graphs: parsed from ONNX, given optimisation profiles, built.

One code path for both libraries that share the API: `tensorrt` (data centre and workstation) and
`tensorrt_rtx` (RTX cards). Networks are strongly typed: half precision is an fp16 ONNX graph (`gdn
export --fp16`), not a flag of the builder.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, get_args

from gdn.engines.base import EngineError, Graph, kind_of
from gdn.models import Model

LIBRARIES = ("tensorrt", "tensorrt_rtx")
GRAPHS: tuple[Graph, ...] = get_args(Graph)
BATCH: dict[str, tuple[int, int]] = {
    "generator": (256, 64),
    "gradient": (64, 64),
    "tangent": (64, 64),
    "step": (64, 64),
    "encoder": (64, 64),
}  # search, refinement
MOST: dict[str, int] = {
    "generator": 1024,
    "gradient": 256,
    "tangent": 64,
    "step": 64,
    "encoder": 256,
}
CAPTURED: dict[str, int] = {
    "generator": 256
}  # the batch that runs as a CUDA graph: that in which a bank is made
TANGENTS = (1, 1, 32)  # for each latent: least, usual, most


@dataclass(frozen=True)
class BatchProfile:
    """Batch sizes of one optimisation profile. Kernels are chosen for `best`."""

    least: int
    best: int
    most: int


@dataclass(frozen=True)
class Library:
    """One of LIBRARIES, imported."""

    name: str
    version: str
    module: Any


def installed_libraries() -> list[str]:
    """Those of LIBRARIES that can be imported. Nothing is imported."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]


def load_library(name: str | None = None) -> Library:
    """A library by name, or the first that is installed. Raises EngineError."""
    names = [name] if name else installed_libraries()
    if not names:
        raise EngineError(
            "TensorRT is not installed; pip install 'gdn[tensorrt-rtx]' (RTX cards) or "
            "'gdn[tensorrt]', or choose another engine"
        )
    try:
        module = importlib.import_module(names[0])
    except Exception as error:  # its own package raises what it likes where libraries are missing
        raise EngineError(
            f"{names[0]} cannot be imported ({' '.join(str(error).split())[:160]})"
        ) from None
    return Library(names[0], str(module.__version__), module)


def profiles_of(graph: Graph) -> list[BatchProfile]:
    """Profiles of a graph: for the search's batch and for refinement's; one if both are the
    same."""
    search, refinement = BATCH[kind_of(graph)]
    sizes = [search] if search == refinement else [search, refinement]
    return [BatchProfile(1, best, MOST[kind_of(graph)]) for best in sizes]


def build_plan(library: Library, onnx: bytes, graph: Graph) -> bytes:
    """Build the plan of one graph, for this machine's card (tensorrt) or any RTX card
    (tensorrt_rtx). Raises EngineError."""
    trt = library.module
    messages = _logger(trt)
    builder = trt.Builder(messages)
    if not builder:
        raise EngineError(f"{library.name}: no builder ({messages.said or 'no CUDA device?'})")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(onnx):
        reason = str(parser.get_error(0)) if parser.num_errors else messages.said
        raise EngineError(
            f"{library.name}: cannot parse {graph}.onnx "
            f"({' '.join(reason.split())[:160]}); export the model again"
        )
    config = builder.create_builder_config()
    for profile in profiles_of(graph):
        config.add_optimization_profile(
            _shapes(builder.create_optimization_profile(), network, profile)
        )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{library.name}: cannot build {graph}.onnx ({messages.said or 'no reason given'})"
        )
    return bytes(plan)


def _shapes(made: Any, network: Any, profile: BatchProfile) -> Any:
    """The profile with the shapes of every input. The first free axis is the batch, a second free
    axis is that of the tangents."""
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        shape = tuple(tensor.shape)
        if -1 in shape:
            sizes = zip((profile.least, profile.best, profile.most), TANGENTS, strict=True)
            made.set_shape(
                tensor.name, *(_filled(shape, batch, tangents) for batch, tangents in sizes)
            )
    return made


def _filled(shape: tuple[int, ...], batch: int, tangents: int) -> tuple[int, ...]:
    free = iter((batch, tangents))
    return tuple(next(free) if n == -1 else n for n in shape)


def _logger(trt: Any) -> Any:
    """A logger that keeps the last error instead of printing it."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.said = " ".join(message.split())[:160]

    return Messages()


def provider_shapes(model: Model, graph: Graph) -> dict[str, str]:
    """TensorRT's shapes of a graph's inputs, in the syntax of onnxruntime's options: least, usual
    and largest batch."""
    patch, latent, kind = model.card.patch, model.card.latent, kind_of(graph)
    image = f"{model.card.channels}x{patch}x{patch}"
    named = {
        "generator": {"z": f"x{latent}"},
        "tangent": {"z": f"x{latent}", "t": f"x{{k}}x{latent}"},
        "step": {"z": f"x{latent}"}
        | dict.fromkeys(("nuisance", "prior"), "x4")
        | dict.fromkeys(("y", "w"), f"x{image}"),
        "encoder": {"image": f"x{image}", "sigma": ""},
        "gradient": {"z": f"x{latent}", "scale": "", "factor": ""}
        | dict.fromkeys(("y", "w", "shift"), f"x{image}"),
    }[kind]
    sizes = {"min": (1, 1), "opt": (BATCH[kind][0], 1), "max": (MOST[kind], 32)}
    return {
        f"trt_profile_{word}_shapes": ",".join(
            f"{name}:{n}{rest.format(k=k)}" for name, rest in named.items()
        )
        for word, (n, k) in sizes.items()
    }

"""The Engine protocol: an engine evaluates a generator, its derivatives in both directions, and its
encoder."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from gdn.errors import GdnError
from gdn.likelihood import Array, TileData
from gdn.models import Model
from gdn.models.graphs import complete_graph

# Of a half-precision model the exact graphs are those in single precision, for what must not be
# rounded.
Graph = Literal[
    "generator",
    "gradient",
    "tangent",
    "step",
    "encoder",
    "exact-generator",
    "exact-gradient",
    "exact-tangent",
]
OUTPUTS: dict[str, tuple[str, ...]] = {
    "generator": ("x",),
    "gradient": ("x", "dz"),
    "tangent": ("jt",),
    "step": ("direction", "curvature"),
    "encoder": ("z",),
}
EXACT: dict[Graph, Graph] = {
    "generator": "exact-generator",
    "gradient": "exact-gradient",
    "tangent": "exact-tangent",
}


class EngineError(GdnError, RuntimeError):
    """An engine that is not available or cannot run. The message is one line that says what to
    do."""


class OutOfMemory(EngineError, MemoryError):
    """The device or the host has too little memory for a batch of this size."""


_NO_MEMORY = (
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "alloc_failed",
    "can't allocate memory",
    "not enough memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a runtime's own error, of any class, means that memory ran out."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in _NO_MEMORY
    )


def rows(feed: dict[str, NDArray[Any]], first: int, size: int) -> dict[str, NDArray[Any]]:
    """Some rows of a batch. Scalars belong to all rows."""
    return {
        name: array[first : first + size] if array.ndim else array for name, array in feed.items()
    }


def kind_of(graph: Graph) -> Graph:
    """What a graph computes, without its precision."""
    return cast(Graph, graph.removeprefix("exact-"))


def dtype_of(model: Model, graph: Graph) -> np.dtype[Any]:
    """Type of a graph's inputs and outputs. The sums of a step are in single precision in a
    half-precision model too."""
    half = model.card.precision == "fp16" and kind_of(graph) == graph and graph != "step"
    return np.dtype(np.float16 if half else np.float32)


def onnx_bytes(model: Model, graph: Graph) -> bytes:
    """The whole graph in ONNX, from files whose hashes the model has checked. It is passed as
    bytes, so that a graph cannot name files outside itself. Raises EngineError if the model has no
    such graph, or if its files do not belong together."""
    path = model.file(f"{graph}.onnx")
    if path is None:
        raise EngineError(f"{model.folder}: {graph}.onnx is missing; export the model again")
    if model.card.schema_version < 3:  # its graphs are whole
        return path.read_bytes()
    try:
        return complete_graph(model.folder, graph)
    except ValueError as error:
        raise EngineError(f"{model.folder}: {error}; copy or export the model again") from None


@dataclass(frozen=True)
class Evaluation:
    """The likelihood of tiles and its gradient.

    - `value` (n,) float64: the tiles' negative log-likelihood, nats.
    - `gradient` (n, d): its derivative by the latents.
    - `images` (n, h, w): the patches x = G(z).
    """

    value: NDArray[np.float64]
    gradient: Array
    images: Array


class Engine(Protocol):
    """Evaluates one model on one device. It is a context manager; do not use it after the block.

    n latents z are (n, d), patches (n, h, w), all float32; vacuum is 1.
    """

    name: str
    device: str
    reason: str
    model: Model

    @property
    def exact(self) -> Engine:
        """The engine in single precision, for objectives, gradients and final images. It is the
        engine itself unless the model is in half precision."""
        ...

    def generate(self, z: Array) -> Array:
        """Clean patches x = G(z) (n, h, w)."""
        ...

    def value_and_gradient(
        self, z: Array, data: TileData, scale: Array, shift: Array
    ) -> Evaluation:
        """Likelihood of the tiles with mean mu = scale * G(z) + shift, and its gradient by z
        (docs/method.md, "Likelihood").

        `scale` (n,), `shift` (n, h, w), electrons per binned pixel.
        """
        ...

    def pull_back(self, z: Array, cotangent: Array) -> Array:
        """J^T v (n, d) for J = dG/dz and `cotangent` v (n, h, w)."""
        ...

    def push_forward(self, z: Array, tangents: Array) -> Array:
        """J t (n, k, h, w) for `tangents` t (n, k, d)."""
        ...

    def step(
        self, z: Array, nuisance: Array, data: TileData, damping: float, prior: Array
    ) -> tuple[Array, NDArray[np.float64]] | None:
        """A Gauss-Newton step of STEP_ITERATIONS conjugate-gradient iterations
        (`gdn.generator.gauss_newton`): its direction (n, d + 4) and curvature (n,). `nuisance` and
        their `prior` precision (n, 4). None where the model has no such graph."""
        ...

    def encode(self, images: Array, sigma: Array) -> Array | None:
        """Noisy patches (n, h, w) with vacuum 1 and their noise `sigma` (n,) -> latents (n, d).

        None where the model has no encoder.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def jacobian(engine: Engine, z: Array, columns: int = 32) -> Array:
    """dG/dz (d, h, w) at one latent `z` (d,), `columns` directions at a time."""
    basis = np.eye(len(z), dtype=np.float32)
    parts = [
        engine.push_forward(z[None], basis[None, i : i + columns])[0]
        for i in range(0, len(z), columns)
    ]
    return np.concatenate(parts)

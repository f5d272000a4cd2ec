"""What an engine is: it evaluates a generator, its derivatives in both directions, and its encoder.

`GraphEngine` checks shapes once, at the door; a runtime adds only how a graph is run.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from gdn.engines.observation import Array, TileData, negative_log_likelihood
from gdn.models import Model

# Of a half-precision model the exact graphs are those in single precision, for what must not be rounded.
Graph = Literal["generator", "gradient", "tangent", "encoder", "exact-generator", "exact-gradient", "exact-tangent"]
EXACT: dict[Graph, Graph] = {"generator": "exact-generator", "gradient": "exact-gradient", "tangent": "exact-tangent"}


class EngineError(RuntimeError):
    """An engine that cannot be had or cannot run; the message is one line that says what to do."""


class OutOfMemory(EngineError, MemoryError):
    """The device, or the host, has no memory for a batch of this size."""


log = logging.getLogger("gdn")
_NO_MEMORY = ("out of memory", "bad_alloc", "bad allocation", "failed to allocate", "alloc_failed", "can't allocate memory",
              "not enough memory")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a runtime's own error, of whatever class, means that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def rows(feed: dict[str, NDArray[Any]], first: int, size: int) -> dict[str, NDArray[Any]]:
    """Some rows of a batch; scalars belong to all of them."""
    return {name: array[first : first + size] if array.ndim else array for name, array in feed.items()}


def joined(parts: Iterable[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """The outputs of a batch from those of its parts."""
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def kind_of(graph: Graph) -> Graph:
    """What a graph computes, in whichever precision."""
    return cast(Graph, graph.removeprefix("exact-"))


def dtype_of(model: Model, graph: Graph) -> np.dtype[Any]:
    """Type of a graph's inputs and outputs."""
    return np.dtype(np.float16 if model.card.precision == "fp16" and kind_of(graph) == graph else np.float32)


def onnx_bytes(model: Model, graph: Graph) -> bytes:
    """The graph's ONNX file, whose hash the model has vouched for. Handed over as bytes, so that a graph cannot name files
    outside itself. Raises EngineError where the model has none."""
    path = model.file(f"{graph}.onnx")
    if path is None:
        raise EngineError(f"{model.folder}: has no {graph}.onnx; export the model again")
    return path.read_bytes()


@dataclass(frozen=True)
class Evaluation:
    """`value` (n,) float64 the tiles' negative log-likelihood in nats, `gradient` (n, d) its derivative
    in the latents, `images` (n, h, w) the patches x = G(z) on the way."""

    value: NDArray[np.float64]
    gradient: Array
    images: Array


class Engine(Protocol):
    """Evaluates one model on one device. A context manager; use is over when the block ends.

    n latents z are (n, d), patches (n, h, w), all float32; vacuum is 1.
    """

    name: str
    device: str
    reason: str
    model: Model

    @property
    def exact(self) -> Engine:
        """The engine in single precision, for objectives, gradients and final images; itself unless the model is in half."""
        ...

    def generate(self, z: Array) -> Array:
        """Clean patches x = G(z) (n, h, w)."""
        ...

    def value_and_gradient(self, z: Array, data: TileData, scale: Array, shift: Array) -> Evaluation:
        """Likelihood of the tiles with mean mu = scale * G(z) + shift, and its gradient in z.

        `scale` (n,), `shift` (n, h, w), electrons per binned pixel.
        """
        ...

    def pull_back(self, z: Array, cotangent: Array) -> Array:
        """J^T v (n, d) for J = dG/dz and `cotangent` v (n, h, w)."""
        ...

    def push_forward(self, z: Array, tangents: Array) -> Array:
        """J t (n, k, h, w) for `tangents` t (n, k, d)."""
        ...

    def encode(self, images: Array, sigma: Array) -> Array | None:
        """Noisy patches (n, h, w) with vacuum 1 and their noise `sigma` (n,) -> latents (n, d).

        None where the model has no encoder.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...


class GraphEngine(ABC):
    """The `Engine` methods over one primitive: run a named graph on named float32 arrays."""

    name: str
    device: str
    reason: str
    model: Model
    _most: int | None = None  # rows of a batch, once memory ran out
    _exact: GraphEngine | None = None

    @abstractmethod
    def _run(self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]) -> list[Array]:
        """Those of the graph's outputs, float32. An input that may not be written stays as it is while it lives: a device
        need be given it once. Raises EngineError if the model lacks the graph, OutOfMemory for too large a batch."""

    @property
    def exact(self) -> GraphEngine:
        """See `Engine.exact`."""
        if self._exact is None:
            self._exact = Exact(self) if self.model.file("exact-generator.onnx") else self
        return self._exact

    def _run_in_memory(self, graph: Graph, feed: dict[str, Array], *outputs: str) -> list[Array]:
        """`_run`, the batch halved until it fits; what did not fit once is not tried again."""
        n = len(next(iter(feed.values())))
        size = min(n, self._most or n)
        try:
            if size == n:
                return self._run(graph, feed, outputs)
            return joined(self._run(graph, rows(feed, first, size), outputs) for first in range(0, n, size))
        except OutOfMemory:
            if size <= 1:
                raise
            self._most = size // 2
            log.warning("%s on %s: memory ran out: going on with batches of %d", self.name, self.device, self._most)
        return self._run_in_memory(graph, feed, *outputs)

    @abstractmethod
    def _has_encoder(self) -> bool: ...

    def generate(self, z: Array) -> Array:
        """See `Engine.generate`."""
        return self._run_in_memory("generator", {"z": self._latents(z)}, "x")[0][:, 0]

    def value_and_gradient(self, z: Array, data: TileData, scale: Array, shift: Array) -> Evaluation:
        """See `Engine.value_and_gradient`."""
        z = self._latents(z)
        tile = self._tile(len(z))
        _check({"counts": data.counts, "weights": data.weights, "shift": shift}, tile)
        _check({"scale": scale}, tile[:1])
        x, dz = self._gradient(z, data, scale, shift, scale, "x", "dz")
        x = x[:, 0]
        value = negative_log_likelihood(scale[:, None, None] * x + shift, data)
        return Evaluation(value, dz, x)

    def pull_back(self, z: Array, cotangent: Array) -> Array:
        """See `Engine.pull_back`."""
        z = self._latents(z)
        _check({"cotangent": cotangent}, self._tile(len(z)))
        # With scale 0 the graph's residual is (shift - 0) / 1: the cotangent itself.
        nothing, one = np.zeros(len(z), np.float32), np.ones(len(z), np.float32)
        return self._gradient(z, _blank(cotangent.shape), nothing, cotangent, one, "dz")[0]

    def push_forward(self, z: Array, tangents: Array) -> Array:
        """See `Engine.push_forward`."""
        z = self._latents(z)
        if tangents.ndim != 3 or tangents.shape[::2] != z.shape or tangents.dtype != np.float32:
            raise ValueError(f"tangents must be float32 ({len(z)}, k, {z.shape[1]}), got {tangents.dtype} {tangents.shape}")
        out = self._run_in_memory("tangent", {"z": z, "t": tangents}, "jt")[0]
        return out.reshape(len(z), tangents.shape[1], *out.shape[-2:])

    def encode(self, images: Array, sigma: Array) -> Array | None:
        """See `Engine.encode`."""
        if not self._has_encoder():
            return None
        _check({"images": images}, self._tile(len(images)))
        _check({"sigma": sigma}, (len(images),))
        return self._run_in_memory("encoder", {"image": images[:, None], "sigma": sigma}, "z")[0]

    def _gradient(self, z: Array, data: TileData, scale: Array, shift: Array, factor: Array, *outputs: str) -> list[Array]:
        feed = {"z": z, "y": data.counts[:, None], "w": data.weights[:, None], "scale": scale, "shift": shift[:, None]}
        feed |= {"factor": factor, "alpha": np.array(data.alpha, np.float32), "beta": np.array(data.beta, np.float32)}
        return self._run_in_memory("gradient", feed, *outputs)

    def _latents(self, z: Array) -> Array:
        latent = self.model.card.latent
        if z.ndim != 2 or z.shape[1] != latent or not np.issubdtype(z.dtype, np.floating):
            raise ValueError(f"latents must be real (n, {latent}), got {z.dtype} {z.shape}")
        return np.ascontiguousarray(z, dtype=np.float32)

    def _tile(self, n: int) -> tuple[int, ...]:
        return (n, self.model.card.patch, self.model.card.patch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        return None


class Exact(GraphEngine):
    """An engine's graphs in single precision, of a model that is in half."""

    def __init__(self, engine: GraphEngine) -> None:
        self.engine, self.model = engine, engine.model
        self.name, self.device, self.reason = engine.name, engine.device, engine.reason

    def _run(self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]) -> list[Array]:
        return self.engine._run(EXACT.get(graph, graph), feed, outputs)

    @property
    def exact(self) -> GraphEngine:
        """See `Engine.exact`."""
        return self

    def _has_encoder(self) -> bool:
        return self.engine._has_encoder()


@lru_cache(maxsize=4)
def _blank(shape: tuple[int, ...]) -> TileData:
    """Tiles of zeros with unit variance. The same arrays every time: a device that has them need not be given them again."""
    return TileData(np.zeros(shape, np.float32), np.ones(shape, np.float32), 0.0, 1.0)


def _check(arrays: dict[str, Array], shape: tuple[int, ...]) -> None:
    """Raises ValueError naming the array that is not float32 of `shape`."""
    for label, array in arrays.items():
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{label} must be float32 {shape}, got {array.dtype} {array.shape}")


def jacobian(engine: Engine, z: Array, columns: int = 32) -> Array:
    """dG/dz (d, h, w) at one latent `z` (d,), `columns` directions at a time."""
    basis = np.eye(len(z), dtype=np.float32)
    parts = [engine.push_forward(z[None], basis[None, i : i + columns])[0] for i in range(0, len(z), columns)]
    return np.concatenate(parts)

"""An engine that needs only one operation of a runtime: to run a named graph. Shapes are checked
once, at the start. If memory runs out, the batch is halved."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import EXACT, OUTPUTS, Evaluation, Graph, OutOfMemory, rows
from gdn.likelihood import Array, NoiseLaw, TileData, negative_log_likelihood
from gdn.models import Model

log = logging.getLogger("gdn")


class GraphEngine(ABC):
    """The methods of `Engine`, all through one operation: run a named graph on named float32
    arrays."""

    name: str
    device: str
    reason: str
    model: Model
    _most: int | None = None  # rows of a batch, once memory ran out

    @abstractmethod
    def run_graph(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[list[Array]]:
        """The requested outputs, float32, of each of the pieces in which the batch was run, in
        order. An input that cannot be written to does not change while it lives, so a device needs
        it only once. Raises EngineError if the model lacks the graph, OutOfMemory for too large a
        batch."""

    @cached_property
    def exact(self) -> GraphEngine:
        """See `Engine.exact`."""
        return Exact(self) if "exact-generator" in self._listed else self

    @cached_property
    def _listed(self) -> frozenset[str]:
        """Graphs that the model's folder lists."""
        files = self.model.card.files
        return frozenset(name.removesuffix(".onnx") for name in files if name.endswith(".onnx"))

    def _run_in_memory(self, graph: Graph, feed: dict[str, Array], *outputs: str) -> list[Array]:
        """`run_graph`, with the batch halved until it fits. A size that did not fit is not tried
        again."""
        n = len(next(iter(feed.values())))
        size = min(n, self._most or n)
        try:
            pieces = (
                self.run_graph(graph, feed, outputs)
                if size == n
                else [
                    piece
                    for first in range(0, n, size)
                    for piece in self.run_graph(graph, rows(feed, first, size), outputs)
                ]
            )
            if len(pieces) == 1:
                return pieces[0]
            return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        except OutOfMemory:
            if size <= 1:
                raise
            self._most = size // 2
            log.warning(
                "%s on %s: memory ran out; continuing with batches of %d",
                self.name,
                self.device,
                self._most,
            )
        return self._run_in_memory(graph, feed, *outputs)

    def _has(self, graph: Graph) -> bool:
        """Whether there is such a graph."""
        return graph in self._listed

    def generate(self, z: Array) -> Array:
        """See `Engine.generate`."""
        return self._run_in_memory("generator", {"z": self._latents(z)}, "x")[0][:, 0]

    def value_and_gradient(
        self, z: Array, data: TileData, scale: Array, shift: Array
    ) -> Evaluation:
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
        nothing, ones = np.zeros(len(z), np.float32), np.ones(len(z), np.float32)
        return self._gradient(z, _blank(cotangent.shape), nothing, cotangent, ones, "dz")[0]

    def push_forward(self, z: Array, tangents: Array) -> Array:
        """See `Engine.push_forward`."""
        z = self._latents(z)
        if tangents.ndim != 3 or tangents.shape[::2] != z.shape or tangents.dtype != np.float32:
            raise ValueError(
                f"tangents must be float32 ({len(z)}, k, {z.shape[1]}), got {tangents.dtype} "
                f"{tangents.shape}"
            )
        out = self._run_in_memory("tangent", {"z": z, "t": tangents}, "jt")[0]
        return out.reshape(len(z), tangents.shape[1], *out.shape[-2:])

    def step(
        self, z: Array, nuisance: Array, data: TileData, damping: float, prior: Array
    ) -> tuple[Array, NDArray[np.float64]] | None:
        """See `Engine.step`."""
        if not self._has("step"):
            return None
        z = self._latents(z)
        _check({"counts": data.counts, "weights": data.weights}, self._tile(len(z)))
        _check({"nuisance": nuisance, "prior": prior}, (len(z), 4))
        feed = {
            "z": z,
            "nuisance": nuisance,
            "y": _unchanging(data.counts),
            "w": _unchanging(data.weights),
            "alpha": _scalar(data.law.alpha),
        }
        feed |= {"beta": _scalar(data.law.beta), "damping": _scalar(damping), "prior": prior}
        direction, curvature = self._run_in_memory("step", feed, *OUTPUTS["step"])
        return direction, curvature.astype(np.float64)

    def encode(self, images: Array, sigma: Array) -> Array | None:
        """See `Engine.encode`."""
        if not self._has("encoder"):
            return None
        _check({"images": images}, self._tile(len(images)))
        _check({"sigma": sigma}, (len(images),))
        return self._run_in_memory("encoder", {"image": images[:, None], "sigma": sigma}, "z")[0]

    def _gradient(
        self, z: Array, data: TileData, scale: Array, shift: Array, factor: Array, *outputs: str
    ) -> list[Array]:
        feed = {
            "z": z,
            "y": _unchanging(data.counts),
            "w": _unchanging(data.weights),
            "scale": scale,
            "shift": shift[:, None],
        }
        feed |= {"factor": factor, "alpha": _scalar(data.law.alpha), "beta": _scalar(data.law.beta)}
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Exact(GraphEngine):
    """An engine's graphs in single precision, for a model in half precision."""

    def __init__(self, engine: GraphEngine) -> None:
        self.engine, self.model = engine, engine.model
        self.name, self.device, self.reason = engine.name, engine.device, engine.reason

    def run_graph(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[list[Array]]:
        """Run the single-precision graph of the engine."""
        return self.engine.run_graph(EXACT.get(graph, graph), feed, outputs)

    @cached_property
    def exact(self) -> GraphEngine:
        """See `Engine.exact`."""
        return self

    def _has(self, graph: Graph) -> bool:
        return self.engine._has(graph)


def _unchanging(tiles: Array) -> Array:
    """Tiles (n, 1, h, w) that nobody can write to from now on, so that a device needs them only
    once."""
    tiles.flags.writeable = False
    return tiles[:, None]


def _scalar(value: float) -> Array:
    return np.array(value, np.float32)


@lru_cache(maxsize=4)
def _blank(shape: tuple[int, ...]) -> TileData:
    """Tiles of zeros with unit variance. They are always the same arrays, so a device needs them
    only once."""
    return TileData(np.zeros(shape, np.float32), np.ones(shape, np.float32), NoiseLaw(0.0, 1.0))


def _check(arrays: dict[str, Array], shape: tuple[int, ...]) -> None:
    """Raises ValueError naming the array that is not float32 of `shape`."""
    for label, array in arrays.items():
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{label} must be float32 {shape}, got {array.dtype} {array.shape}")

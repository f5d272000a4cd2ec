"""What an engine is: it evaluates a generator, its pulled-back residual, and its encoder.

The likelihood of a tile is that of y with mean mu = scale * x + shift and variance
alpha * mu + beta, x = G(z) with vacuum 1. That covers Poisson (alpha 1, beta 0), Poisson-Gaussian
(alpha 1, beta > 0, the shifted Poisson law) and Gaussian noise (alpha 0): see `gdn.search.likelihood`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gdn.models import Model

Array = NDArray[np.float32]


class EngineError(RuntimeError):
    """An engine that cannot be had or cannot run; the message is one line that says what to do."""


@dataclass(frozen=True)
class TileData:
    """Observed tiles and their observation model.

    `counts` and `weights` (n, h, w) float32: electrons per binned pixel, and 1 where observed, 0 where
    not. `alpha` and `beta` are the variance's slope and its value at mean zero, of one binned pixel.
    """

    counts: Array
    weights: Array
    alpha: float
    beta: float

    def take(self, index: NDArray[np.int64]) -> TileData:
        """The tiles of `index`, in that order."""
        return TileData(self.counts[index], self.weights[index], self.alpha, self.beta)


class Engine(Protocol):
    """Evaluates one model on one device. A context manager; use is over when the block ends."""

    name: str
    device: str
    reason: str
    model: Model

    def generate(self, z: Array) -> Array:
        """Latents (n, d) float32 -> clean patches (n, h, w) float32, vacuum 1."""
        ...

    def pull_back(self, z: Array, data: TileData, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Patches x = G(z) (n, h, w) and the gradient of the tiles' negative log-likelihood in z (n, d).

        `scale` and `shift` (n,) float32 are the mean's parameters, mu = scale * x + shift.
        """
        ...

    def encode(self, images: Array, sigma: Array) -> Array | None:
        """Noisy patches (n, h, w) with vacuum 1 and their noise `sigma` (n,) -> latents (n, d).

        None where the model has no encoder.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_latents(z: Array, model: Model) -> Array:
    """`z` as contiguous float32 (n, d). Raises ValueError showing what it got."""
    if z.ndim != 2 or z.shape[1] != model.card.latent or not np.issubdtype(z.dtype, np.floating):
        raise ValueError(f"latents must be real (n, {model.card.latent}), got {z.dtype} {z.shape}")
    return np.ascontiguousarray(z, dtype=np.float32)


def check_tiles(z: Array, data: TileData, scale: Array, shift: Array, model: Model) -> None:
    """Raises ValueError if tiles, weights or parameters do not belong to `z`."""
    tile = (len(z), model.card.patch, model.card.patch)
    for label, array, shape in (
        ("counts", data.counts, tile),
        ("weights", data.weights, tile),
        ("scale", scale, tile[:1]),
        ("shift", shift, tile[:1]),
    ):
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{label} must be float32 {shape}, got {array.dtype} {array.shape}")

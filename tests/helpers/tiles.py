"""Tiles of counts."""

from __future__ import annotations

import numpy as np

from gdn.likelihood import NoiseLaw, TileData


def made_tiles(
    rng: np.random.Generator, n: int = 3, p: int = 16, alpha: float = 1.0, beta: float = 0.0
) -> tuple[TileData, np.ndarray]:
    x = (1 + 0.2 * rng.standard_normal((n, p, p))).clip(0.3, 2).astype(np.float32)
    y = rng.poisson(20 * x).astype(np.float32)
    w = np.ones_like(y)
    w[0, :4] = 0
    return TileData(y, w, NoiseLaw(alpha, beta)), x


def poisson_tiles(n: int, p: int, alpha: float = 1.0, beta: float = 0.0) -> TileData:
    rng = np.random.default_rng(3)
    w = np.ones((n, p, p), np.float32)
    w[0, :5] = 0
    return TileData(rng.poisson(19, (n, p, p)).astype(np.float32), w, NoiseLaw(alpha, beta))

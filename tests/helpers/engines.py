"""What to compare of two engines."""

from __future__ import annotations

from typing import Any

import numpy as np

from gdn.likelihood import TileData
from gdn.restarts import restart_latents
from tests.helpers.tiles import poisson_tiles


def outputs(engine: Any, n: int) -> list[np.ndarray]:
    """What every graph of an engine gives, with tiles that stay and tiles that change."""
    card = engine.model.card
    z = restart_latents(0, range(n), card.latent)
    images = engine.generate(z)
    tiles, shift = poisson_tiles(n, card.patch), np.zeros_like(images)
    found = [
        images,
        engine.push_forward(z, z[:, None]),
        engine.pull_back(z, images),
        engine.pull_back(z, 2 * images),
    ]
    for scale in (2, 3):
        one = engine.value_and_gradient(z, tiles, np.full(n, scale, np.float32), shift)
        found += [one.value, one.gradient, one.images]
    return [*found, engine.encode(images, np.full(n, 0.3, np.float32)), *stepped(engine, z, tiles)]


def stepped(engine: Any, z: np.ndarray, tiles: TileData, damping: float = 50.0) -> Any:
    """A step from doses and contrasts that are not those of the counts."""
    nuisance = np.tile(np.array([2.7, 0.1, 0.02, -0.03], np.float32), (len(z), 1))
    return engine.step(
        z,
        nuisance,
        tiles,
        damping,
        np.tile(np.array([0, 100, 2500, 2500], np.float32), (len(z), 1)),
    )

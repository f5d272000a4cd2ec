"""Draws the latents of random restarts; each restart has a seed of its own.

So restart i of seed s is the same latent whatever the number of restarts, the batch or the engine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def restart_latents(
    seed: int, index: NDArray[np.int64] | range, dimension: int
) -> NDArray[np.float32]:
    """Latents (len(index), dimension) of restarts `index` of `seed`: a counter-based stream for
    each."""
    out = np.empty((len(index), dimension), np.float32)
    for row, restart in zip(out, index, strict=True):
        # Philox: the key is the seed, the counter's high word the restart.
        bits = np.random.Philox(key=seed, counter=[0, 0, int(restart), 0])
        row[:] = np.random.Generator(bits).standard_normal(dimension, dtype=np.float32)
    return out

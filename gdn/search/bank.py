"""The bank: N latents drawn once from the prior, with their images, kept in the user's cache.

Each restart has a seed of its own, so restart i of seed s is the same latent whatever N, batch or
engine. Images are stored in half precision: their rounding (5e-4) is far below any noise.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Array, Engine

BATCH = 256


@dataclass(frozen=True)
class Bank:
    """`latents` (n, d) float32, `images` (n, h, w) float16 with vacuum 1; `cached` if read from disk."""

    latents: Array
    images: NDArray[np.float16]
    cached: bool = False


def restart_latents(seed: int, first: int, count: int, dimension: int) -> Array:
    """Latents (count, dimension) of restarts `first` ... of `seed`: a counter-based stream for each."""
    out = np.empty((count, dimension), np.float32)
    for i in range(count):
        # Philox: the key is the seed, the counter's high word the restart.
        bits = np.random.Philox(key=seed, counter=[0, 0, first + i, 0])
        out[i] = np.random.Generator(bits).standard_normal(dimension, dtype=np.float32)
    return out


def cache_folder() -> Path:
    """`GDN_CACHE_DIR`, or the user's cache directory."""
    chosen = os.environ.get("GDN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("gdn", appauthor=False))


def bank_for(
    engine: Engine, seed: int, count: int, use_cache: bool = True, progress: Callable[[int, int], None] = lambda d, t: None
) -> Bank:
    """The bank of (model, seed, count), from the cache or made now in large batches.

    A cache that cannot be written or read costs time, never the result.
    """
    card = engine.model.card
    latents = restart_latents(seed, 0, count, card.latent)
    path = cache_folder() / "banks" / f"{engine.model.hash[:16]}-{seed}-{count}.npy"
    if use_cache:
        images = _read(path, (count, card.patch, card.patch))
        if images is not None:
            return Bank(latents, images, cached=True)
    images = np.empty((count, card.patch, card.patch), np.float16)
    for start in range(0, count, BATCH):
        images[start : start + BATCH] = engine.generate(latents[start : start + BATCH])
        progress(min(start + BATCH, count), count)
    if use_cache:
        _write(path, images)
    return Bank(latents, images)


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16] | None:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.float16 else None


def _write(path: Path, images: NDArray[np.float16]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.save(stream, images)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)

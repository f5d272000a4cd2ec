"""The bank: N latents drawn once from the prior, with their images, kept in the user's cache.

Each restart has a seed of its own, so restart i of seed s is the same latent whatever N, batch or
engine, and latents need not be stored. Images are stored in half precision (2 bytes a pixel): its
rounding, 5e-4, is far below any noise, and keeps the ranking (docs/latent-search.md). They are read
through a memory map, so that a million restarts need disk, not memory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.engines.observation import Array
from gdn.errors import GdnError
from gdn.frames.files import writing
from gdn.search.likelihood import BankPart
from gdn.search.memory import PORTIONS

BATCH = 256
IN_MEMORY_BYTES = 2**30  # largest bank that --no-cache holds
DEFAULT_CACHE_GIB = 10.0
_ABANDONED_SECONDS = 86_400  # age of a temporary file that no living process still writes


class CacheError(GdnError, ValueError):
    """A setting of the cache that cannot be used; one line."""


@dataclass(frozen=True)
class Bank:
    """`images` (n, h, w) float16 with vacuum 1, of restarts 0 ... n - 1 of `seed`; `cached` if read from disk."""

    seed: int
    dimension: int
    images: NDArray[np.float16]
    cached: bool = False
    _parts: dict[tuple[int, int], BankPart] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, first: int, last: int) -> BankPart:
        """Images `first` ... `last` - 1, ready to be scored. Those of a small bank are kept from frame to frame in single
        precision, at four times their size in the cache."""
        key = first, last
        if key not in self._parts:
            part = BankPart(self.images[first:last])
            if not PORTIONS.keeps(len(self), self.images.shape[1]):
                self._parts.clear()
                return part
            self._parts[key] = part
        return self._parts[key]

    def latents(self, index: NDArray[np.int64]) -> Array:
        """Latents (len(index), d) of restarts `index`."""
        return restart_latents(self.seed, index, self.dimension)


def restart_latents(seed: int, index: NDArray[np.int64] | range, dimension: int) -> Array:
    """Latents (len(index), dimension) of restarts `index` of `seed`: a counter-based stream for each."""
    out = np.empty((len(index), dimension), np.float32)
    for row, restart in zip(out, index, strict=True):
        # Philox: the key is the seed, the counter's high word the restart.
        bits = np.random.Philox(key=seed, counter=[0, 0, int(restart), 0])
        row[:] = np.random.Generator(bits).standard_normal(dimension, dtype=np.float32)
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

    A cache that cannot be written or read costs time, never the result. Raises CacheError where a bank
    without a cache would not fit in memory.
    """
    card = engine.model.card
    shape = (count, card.patch, card.patch)
    path = cache_folder() / "banks" / f"{engine.model.hash[:16]}-{seed}-{count}.npy"
    size = 2 * int(np.prod(shape))
    if use_cache:
        images = _read(path, shape)
        if images is not None:
            return Bank(seed, card.latent, images, cached=True)
        if size <= cache_limit():
            with contextlib.suppress(OSError):
                _write(path, shape, engine, seed, progress)
                return Bank(seed, card.latent, np.load(path, mmap_mode="r", allow_pickle=False))
    if size > IN_MEMORY_BYTES:
        raise CacheError(
            f"a bank of {count} restarts takes {size / 2**30:.1f} GiB: too much for memory, so it needs the cache on disk"
            f" (GDN_CACHE_DIR={path.parent.parent}, GDN_CACHE_GIB={cache_limit() / 2**30:g})"
        )
    images = np.concatenate(list(_generated(engine, seed, count, progress)))
    return Bank(seed, card.latent, images)


def _generated(engine: Engine, seed: int, count: int, progress: Callable[[int, int], None]) -> Iterator[NDArray[np.float16]]:
    """Images of restarts 0 ... count - 1, batch by batch."""
    for first in range(0, count, BATCH):
        last = min(first + BATCH, count)
        yield engine.generate(restart_latents(seed, range(first, last), engine.model.card.latent)).astype(np.float16)
        progress(last, count)


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    try:
        images: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape != shape or images.dtype != np.float16:
            return None
        os.utime(path)  # eviction goes by last use
    except (OSError, ValueError, EOFError):
        return None
    return images


def _write(path: Path, shape: tuple[int, ...], engine: Engine, seed: int, progress: Callable[[int, int], None]) -> None:
    """Make the bank in a file of this process's own and rename it: two processes cannot meet in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    evict(path.parent, cache_limit() - 2 * int(np.prod(shape)))
    with writing(path) as temporary, temporary.open("wb") as stream:
        # Written, not mapped: a full disk is then an OSError, not a bus error.
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for images in _generated(engine, seed, shape[0], progress):
            stream.write(images.tobytes())


def cache_limit() -> int:
    """Bytes that banks may take together: `GDN_CACHE_GIB`, 10 by default. Raises CacheError."""
    text = os.environ.get("GDN_CACHE_GIB", str(DEFAULT_CACHE_GIB))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise CacheError(f"GDN_CACHE_GIB={text}: must be a size in GiB")
    return int(value * 2**30)


def cached_bytes() -> int:
    """Bytes that banks take now."""
    return sum(path.stat().st_size for path in (cache_folder() / "banks").glob("*.npy"))


def evict(folder: Path, limit: int) -> list[Path]:
    """Remove the least recently used banks of `folder` until they take at most `limit` bytes together.

    Also removes what a killed process left half-written a day ago or more. Returns what was removed.
    """
    removed = []
    now = time.time()
    for path in folder.glob(".*.part*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
    found = []
    for path in folder.glob("*.npy"):
        with contextlib.suppress(OSError):  # another process may evict at the same time
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            break
        with contextlib.suppress(OSError):  # a map that is open stays readable on POSIX; Windows refuses: next time
            path.unlink()
            removed.append(path)
            total -= size
    return removed

"""The bank: N latents drawn once from the prior, with their images, kept in the user's cache; and
scores of how well each explains a tile.

Each restart has its own seed. So restart i of seed s is the same latent for every N, batch and
engine, and latents need not be stored. Images are stored in half precision (2 bytes a pixel). Its
rounding error, 5e-4, is far below any noise, and does not change the ranking
(docs/measurements/search.md). The images are read through a memory map, so a million restarts need
disk, not memory.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.blas import product
from gdn.engines.base import Engine
from gdn.likelihood import FLOOR, Array, TileData
from gdn.restarts import restart_latents
from gdn.search import bank_file
from gdn.search.bank_file import BATCH, grow, growing_folder, head_of, is_whole, trailer_of
from gdn.search.portions import PORTIONS
from gdn.storage import CacheError, cache_folder, cache_limit, evict, writing

TILE_CHUNK = 256  # turned tiles scored at a time: bounds memory
IN_MEMORY_BYTES = 2**30  # largest bank that --no-cache holds


@dataclass(frozen=True)
class BankPart:
    """Some bank images x (n, h, w), any precision. The flattened images (n, h w) float32 and log x
    are computed when first asked for."""

    raw: NDArray[np.floating[Any]]

    @cached_property
    def images(self) -> Array:
        """The images x."""
        return np.asarray(self.raw, dtype=np.float32).reshape(len(self.raw), -1)

    @cached_property
    def positive(self) -> Array:
        """max(x, FLOOR)."""
        x = np.array(self.raw, dtype=np.float32).reshape(len(self.raw), -1)
        return np.maximum(x, np.float32(FLOOR), out=x)

    @cached_property
    def log(self) -> Array:
        """log max(x, FLOOR)."""
        return np.log(self.positive)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Images of the restarts 0 ... n - 1 of `seed`.

    - `dimension`: of the latents.
    - `images` (n, h, w) float16, vacuum 1.
    - `cached`: whether they were read from disk.
    """

    seed: int
    dimension: int
    images: NDArray[np.float16]
    cached: bool = False
    _parts: dict[tuple[int, int], BankPart] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, first: int, last: int) -> BankPart:
        """Images `first` ... `last` - 1, ready to be scored. A small bank's images are kept in
        single precision from frame to frame; that takes four times their size in the cache."""
        key = first, last
        if key not in self._parts:
            part = BankPart(self.images[first:last])
            if not PORTIONS.keeps(len(self), self.images.shape[1]):
                self._parts.clear()
                return part
            self._parts[key] = part
        return self._parts[key]


def bank_for(
    engine: Engine,
    seed: int,
    count: int,
    use_cache: bool = True,
    progress: Callable[[int, int], None] = lambda d, t: None,
) -> Bank:
    """The bank of (model, seed, count): from the cache, or made now in large batches.

    If the cache cannot be written or read, that costs time but does not change the result. Raises
    CacheError if there is no cache and the bank does not fit in memory.
    """
    card = engine.model.card
    shape = (count, card.patch, card.patch)
    path = cache_folder() / "banks" / f"{engine.model.hash[:16]}-{seed}-{count}.npy"
    images = _read(path, shape) if use_cache else None
    if images is not None:
        return Bank(seed=seed, dimension=card.latent, images=images, cached=True)
    size = 2 * int(np.prod(shape))
    stored = use_cache and size <= cache_limit()
    told = bank_file.BankProgress(progress, size if stored else 0)
    if stored:
        with contextlib.suppress(OSError):
            _write(path, shape, engine, seed, told)
            return Bank(
                seed=seed,
                dimension=card.latent,
                images=np.load(path, mmap_mode="r", allow_pickle=False),
            )
    if size > IN_MEMORY_BYTES:
        raise CacheError(
            f"a bank of {count} restarts takes {size / 2**30:.1f} GiB, which the cache must hold "
            f"(GDN_CACHE_DIR={path.parent.parent}, GDN_CACHE_GIB={cache_limit() / 2**30:g})"
        )
    images = np.concatenate(list(_generated(engine, seed, count, told)))
    return Bank(seed=seed, dimension=card.latent, images=images)


def empty_bank(engine: Engine, seed: int) -> Bank:
    """The bank of a search that asks no restarts."""
    card = engine.model.card
    images = np.zeros((0, card.patch, card.patch), np.float16)
    return Bank(seed=seed, dimension=card.latent, images=images)


def _generated(
    engine: Engine, seed: int, count: int, progress: Callable[[int, int], None], begin: int = 0
) -> Iterator[NDArray[np.float16]]:
    """Images of restarts `begin` ... count - 1, batch by batch."""
    for first in range(begin, count, BATCH):
        last = min(first + BATCH, count)
        yield engine.generate(
            restart_latents(seed, range(first, last), engine.model.card.latent)
        ).astype(np.float16)
        progress(last, count)


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        images: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape != shape or images.dtype != np.float16:
            return None
        if not is_whole(path, images):
            return None
        os.utime(path)  # eviction goes by last use
    except (OSError, ValueError, EOFError):
        return None
    return images


def _write(
    path: Path,
    shape: tuple[int, ...],
    engine: Engine,
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the bank under a private name, then rename it. So two processes never write to the same
    file. A large bank is written in parts that are kept if the run is stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 2 * int(np.prod(shape))
    evict(path.parent, cache_limit() - size, growing_folder(path))
    generate = partial(_generated, engine, seed, shape[0], progress)
    if size >= bank_file.KEPT_BYTES:
        if grow(path, head_of(shape), size // shape[0], generate, trailer_of):
            return
        if path.exists():  # another process has just completed it
            return
    with writing(path) as temporary, temporary.open("wb") as stream:
        # Written, not mapped: a full disk is then an OSError, not a bus error.
        stream.write(head_of(shape))
        checksum = 0
        for images in generate():
            content = images.tobytes()
            stream.write(content)
            checksum = zlib.crc32(content, checksum)
        stream.write(trailer_of(checksum))


def best_of_bank(
    bank: Bank, data: TileData, dose: float, keep: int
) -> tuple[NDArray[np.int64], Array]:
    """Indices (tiles, keep) of the bank images that explain each tile best, and their scores, best
    first.

    The bank is read once, in chunks: the memory does not grow with its size.
    """
    count = len(bank.images)
    keep = min(keep, count)
    tiles = len(data.counts)
    scores = np.empty((tiles, 0), np.float32)
    index = np.empty((tiles, 0), np.int64)
    chunk = PORTIONS.images(data.counts.shape[1])
    for first in range(0, count, chunk):
        part = bank.part(first, min(first + chunk, count))
        here = bank_scores(part, data, dose, TILE_CHUNK)
        scores = np.concatenate([scores, here], 1)
        index = np.concatenate(
            [index, np.broadcast_to(np.arange(first, first + here.shape[1]), here.shape)], 1
        )
        if (
            scores.shape[1] > keep
        ):  # the best few, then in order: a whole sort would cost more than the product
            few = np.sort(np.argpartition(scores, keep - 1, 1)[:, :keep], 1)
            scores, index = np.take_along_axis(scores, few, 1), np.take_along_axis(index, few, 1)
        order = np.argsort(scores, 1, kind="stable")
        scores, index = np.take_along_axis(scores, order, 1), np.take_along_axis(index, order, 1)
    return index, scores


def bank_scores(part: BankPart, data: TileData, dose: float, chunk: int = 256) -> Array:
    """-log p of every tile under every bank image (tiles, n), up to a constant of the tile
    (docs/method.md, "Search", step 1).

    Tiles are taken `chunk` at a time. For Poisson and for Gaussian noise each pair's best dose is
    known in closed form: NLL = -Y.log X + (sum Y) log(sum X), and -(Y.X)^2 / (2 beta |X|^2). For
    shifted Poisson noise `dose` (electrons per binned pixel) is used for all pairs.
    """
    gaussian, beta = data.law.gaussian, data.law.beta
    x = part.images if gaussian else part.positive
    if gaussian:
        terms, level = x, x * x
    else:
        terms, level = part.log if beta == 0 else np.log(dose * x + beta), x
    out = np.empty((len(data.counts), len(x)), np.float32)
    for first in range(0, len(out), chunk):
        w = data.weights[first : first + chunk].reshape(-1, x.shape[1])
        y = data.counts[first : first + chunk].reshape(w.shape) * w
        # Most tiles lie inside the frame: their weights are all one, and so is the product with
        # them.
        sums = (
            product(w, level) if (w == 0).any() else np.broadcast_to(level.sum(1), (len(w), len(x)))
        )
        score: NDArray[np.floating]
        if gaussian:
            score = -(np.maximum(product(y, terms), 0) ** 2) / (2 * beta * np.maximum(sums, 1e-12))
        elif beta == 0:
            score = -product(y, terms) + y.sum(1, keepdims=True) * np.log(
                sums / np.maximum(w.sum(1, keepdims=True), 1)
            )
        else:
            score = dose * sums - product(y + beta * w, terms)
        out[first : first + chunk] = score
    return out

"""A frame on the generator's grid, its overlapping tiles, and the merging of tiles into a frame
(docs/method.md, "Grid")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array, NoiseLaw, TileData

LEAST_KNOWN = 1e-4  # weight of a tile of which nothing was recorded: somebody must fill it in


def mean_of(image: Array, valid: Array | None) -> float:
    """Mean of an image (rows, columns), each pixel weighted by its recorded share."""
    if valid is None:
        return float(image.mean())
    return float(np.average(image.astype(np.float64), weights=valid))


@dataclass(frozen=True)
class Tiling:
    """Corners (n, 2) int of tiles of `patch` px on a frame of `shape`. A frame smaller than a tile
    lies inside one tile. `known` (n,) is the recorded share of each tile, its weight where tiles
    overlap (None: all of the frame was recorded)."""

    shape: tuple[int, int]
    patch: int
    corners: NDArray[np.int64]
    known: Array | None = None

    def take(self, index: NDArray[np.int64]) -> Tiling:
        """The tiles of `index`."""
        known = None if self.known is None else self.known[index]
        return Tiling(self.shape, self.patch, self.corners[index], known)


@dataclass(frozen=True)
class Binned:
    """A frame on the generator's grid.

    - `counts`: electrons.
    - `law`: the noise law of a binned pixel.
    - `valid`: the share of each binned pixel that good pixels recorded (None: all of each).
    """

    counts: Array
    law: NoiseLaw
    valid: Array | None = None

    @cached_property
    def level(self) -> float:
        """Mean of what was recorded, electrons per binned pixel."""
        return mean_of(self.counts, self.valid)

    def tiles(self, tiling: Tiling, index: NDArray[np.int64]) -> TileData:
        """The observed tiles numbered `index`. Bad pixels count as not exposed. Suppose that the
        share f of a pixel was recorded and its Poisson counts were scaled up by 1 / f. Then f times
        the log-likelihood is that of the recorded counts."""
        part = tiling.take(index)
        counts, weights = cut(self.counts, part)
        if self.valid is not None:
            weights *= cut(self.valid, part)[0]
        return TileData(counts, weights, self.law)


def _starts(length: int, patch: int, stride: int) -> NDArray[np.int64]:
    """Starts from 0 to length - patch, evenly spread and at most `stride` apart. A short axis is
    centred."""
    if length <= patch:
        return np.array([-((patch - length) // 2)])
    steps = -(-(length - patch) // stride)
    return np.round(np.linspace(0, length - patch, steps + 1)).astype(np.int64)


def tile_frame(
    shape: tuple[int, int], patch: int, stride: int, valid: Array | None = None
) -> Tiling:
    """Tiles that cover `shape`. Neighbours are at most `stride` px apart. `valid` is the recorded
    share of each pixel (None: all of each)."""
    rows, columns = (_starts(n, patch, stride) for n in shape)
    tiling = Tiling(
        shape, patch, np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    )
    if valid is None:
        return tiling
    shares = cut(valid, tiling)[0].mean((1, 2))
    known = np.asarray(np.maximum(shares, LEAST_KNOWN), dtype=np.float32)
    return replace(tiling, known=known)


def cut(frame: Array, tiling: Tiling) -> tuple[Array, Array]:
    """Tiles (n, patch, patch) and their weights, 1 inside the frame and 0 beyond it."""
    p = tiling.patch
    tiles = np.zeros((len(tiling.corners), p, p), np.float32)
    weights = np.zeros_like(tiles)
    for tile, weight, (y, x) in zip(tiles, weights, tiling.corners, strict=True):
        inside_y, inside_x = _inside(y, p, frame.shape[0]), _inside(x, p, frame.shape[1])
        tile[inside_y[0], inside_x[0]] = frame[inside_y[1], inside_x[1]]
        weight[inside_y[0], inside_x[0]] = 1
    return tiles, weights


def cut_each(frames: Sequence[Array], tiling: Tiling) -> list[Array]:
    """Tiles (n, patch, patch) of each of several frames."""
    return [cut(frame, tiling)[0] for frame in frames]


def _inside(start: int, patch: int, length: int) -> tuple[slice, slice]:
    """The overlap of a tile and a frame along one axis: the slice of the tile and that of the
    frame."""
    low, high = max(start, 0), min(start + patch, length)
    return slice(low - start, high - start), slice(low, high)


def window(patch: int) -> Array:
    """Smooth blending weights (patch, patch): sin^2 along each axis, above zero everywhere
    (docs/method.md, "Search", step 5)."""
    ramp = np.sin(np.pi * (np.arange(patch) + 0.5) / patch) ** 2 + 1e-3
    return np.asarray(np.outer(ramp, ramp), dtype=np.float32)


def merge(values: Array, tiling: Tiling) -> Array:
    """Mean of overlapping tiles (n, patch, patch) on the frame's grid, float32. Each tile is
    weighted by the smooth window and by its recorded share."""
    total = np.zeros(tiling.shape, np.float64)
    norm = np.zeros(tiling.shape, np.float64)
    smooth = window(tiling.patch).astype(np.float64)
    for number, (value, (y, x)) in enumerate(zip(values, tiling.corners, strict=True)):
        w = smooth if tiling.known is None else smooth * tiling.known[number]
        ty, fy = _inside(y, tiling.patch, tiling.shape[0])
        tx, fx = _inside(x, tiling.patch, tiling.shape[1])
        total[fy, fx] += w[ty, tx] * value[ty, tx]
        norm[fy, fx] += w[ty, tx]
    return np.divide(total, norm, out=total).astype(np.float32)

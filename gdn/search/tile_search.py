"""The search of all tiles of a frame: starts from encoder and bank, brief and full refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.errors import InputError
from gdn.likelihood import FLOOR, Array, TileData, information
from gdn.models.graphs import STEP_ITERATIONS
from gdn.search.adam import refine
from gdn.search.bank import Bank, best_of_bank
from gdn.search.candidates import (
    BATCH_PIXELS,
    SYMMETRIES,
    Candidates,
    evaluate,
    join,
    start,
    turn_tiles,
)
from gdn.search.newton import newton

EMPTY = 0.25  # nats of structure below which a tile is empty
Laplace = Literal["none", "sampled", "exact"]
MERGED_NOISE = 0.1  # noise left in the blended tiles, as a share of the counts'


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that determines a result besides the frame, the model and the restarts."""

    stride: int | None = None  # binned px between tiles; None: half a tile
    symmetries: int = SYMMETRIES  # of the encoder's and the bank's images, 1 to 8
    brief_candidates: int = 2  # of the bank, for each tile
    brief_steps: int = 1
    full_candidates: int = SYMMETRIES
    full_steps: int = 1
    iterations: int = STEP_ITERATIONS  # of conjugate gradients in each step; 0: Adam
    # nats; without it refinement fits noise at low dose (docs/measurements/search.md)
    damping: float = 100.0
    rate: float = 0.08  # of Adam
    temperature: float = 40.0  # nats
    exchange: int = 4  # starts of each tile from the merged frame, one for each symmetry; 0: none
    residual: bool = True
    encoder: bool = True
    estimate: Literal["mean", "map"] = "mean"
    laplace: Laplace = "none"  # each tile's variance around its best restart, in the raw spread
    laplace_samples: int = 2  # four tiles overlap in a pixel, and the spread is smooth


def settings_for(estimate: str, residual: bool = True, laplace: str = "none") -> SearchSettings:
    """The settings of an `estimate`: `mean` averages briefly refined restarts, the better image;
    `map` seeks the least objective, two candidates refined until it hardly falls. Raises InputError
    for another word, and for a `laplace` that is not none, sampled or exact."""
    if laplace not in get_args(Laplace):
        raise InputError(f"laplace {laplace}: none, sampled or exact", "laplace")
    within = cast(Laplace, laplace)
    if estimate == "mean":
        return SearchSettings(residual=residual, laplace=within)
    if estimate != "map":
        raise InputError(f"estimate {estimate}: mean or map", "estimate")
    return SearchSettings(
        residual=residual,
        laplace=within,
        estimate="map",
        full_candidates=2,
        full_steps=80,
        iterations=0,
        brief_steps=8,
        rate=0.1,
    )


def propose(
    engine: Engine, bank: Bank, data: TileData, dose: float, settings: SearchSettings
) -> Candidates:
    """Evaluated starts for every tile: the encoder's guess of each of its symmetries, and of the
    bank, also under every symmetry, the best that explain the tile better than one of those guesses
    at least."""
    tiles = len(data.counts)
    tile = np.repeat(np.arange(tiles), settings.symmetries)
    symmetry = np.tile(np.arange(settings.symmetries), tiles)
    turned = turn_tiles(data, tile, symmetry)
    z = _encode(engine, turned, dose) if settings.encoder else None
    guesses = 0 if z is None else len(z)
    row, keep = np.arange(guesses), settings.brief_candidates or int(z is None)
    if keep:
        restart, bank_row = _best_pairs(best_of_bank(bank, turned, dose, keep), tile, keep)
        latents, row = bank.latents(restart), np.concatenate([row, bank_row])
        z = latents if z is None else np.concatenate([z, latents])
    assert z is not None  # without an encoder the bank is asked
    from_bank = np.arange(len(z)) >= guesses
    starts = evaluate(engine, data, start(z, tile[row], symmetry[row], dose, from_bank))
    if not (guesses and keep):
        return starts
    worst = np.full(tiles, -np.inf)
    np.maximum.at(worst, starts.tile[:guesses], starts.objective[:guesses])
    return starts.take(np.flatnonzero(~from_bank | (starts.objective < worst[starts.tile])))


def propose_from_merged(
    engine: Engine, data: TileData, merged: TileData, dose: float, settings: SearchSettings
) -> Candidates | None:
    """Evaluated candidates for every tile: what the encoder makes of the merged frame there. None
    without an encoder.

    `merged` are the same tiles cut from the blended image: each tile hears of its neighbours'
    solutions. A new candidate counts by its objective on the tile's own
    data, like any other.
    """
    tile = np.repeat(np.arange(len(data.counts)), settings.exchange)
    symmetry = np.tile(np.arange(settings.exchange), len(data.counts))
    z = _encode(engine, turn_tiles(merged, tile, symmetry), dose, MERGED_NOISE)
    if z is None:
        return None
    return evaluate(engine, data, start(z, tile, symmetry, dose, np.zeros(len(tile), bool)))


def _encode(engine: Engine, turned: TileData, dose: float, noise: float = 1.0) -> Array | None:
    """Latents of the turned tiles, `noise` times as noisy as counts."""
    if not len(turned.counts):
        return None
    # Beyond the frame's edge there is nothing: the encoder is shown vacuum there.
    images = np.where(turned.weights > 0, turned.counts / np.float32(dose), np.float32(1))
    sigma = np.full(len(images), noise * (turned.law.deviation(dose) / dose), np.float32)
    size = max(1, BATCH_PIXELS // images[0].size)
    parts = [
        engine.encode(images[first : first + size], sigma[first : first + size])
        for first in range(0, len(images), size)
    ]
    latents = [part for part in parts if part is not None]
    return np.concatenate(latents) if latents else None


def _best_pairs(
    scored: tuple[NDArray[np.int64], Array], tile: NDArray[np.int64], keep: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of turned tiles (n,) of `tile`, each with its best restarts and their scores: the `keep` best
    pairs of restart and turned tile for each tile, the numbers of both."""
    index, scores = scored
    per_tile = index.shape[1] * int(np.bincount(tile)[0])
    order = np.argsort(scores.reshape(-1, per_tile), 1, kind="stable")[:, :keep]
    restart = np.take_along_axis(index.reshape(-1, per_tile), order, 1).ravel()
    return restart, (order + per_tile * np.arange(len(order))[:, None]).ravel() // index.shape[1]


def search(
    engine: Engine, data: TileData, starts: Candidates, settings: SearchSettings
) -> Candidates:
    """Brief refinement of the starts of tiles that have too many, full refinement of each tile's
    best.

    Candidates that show an empty tile, no structure above what noise explains, are done as they
    are.
    """
    empty = structure(starts, data) < EMPTY
    if empty.all():
        return starts
    done, starts = starts.split(empty)
    crowded = (np.bincount(starts.tile) > settings.full_candidates)[
        starts.tile
    ]  # of each tile: portions do not matter
    if crowded.any():
        many, few = starts.split(crowded)
        many = _refined(engine, data, many, settings.brief_steps, settings)
        order = np.lexsort((many.objective, many.tile))
        rank = np.arange(len(order)) - np.searchsorted(many.tile[order], many.tile[order])
        starts = join([few, many.take(np.sort(order[rank < settings.full_candidates]))])
    return join([done, _refined(engine, data, starts, settings.full_steps, settings)])


def _refined(
    engine: Engine, data: TileData, starts: Candidates, steps: int, settings: SearchSettings
) -> Candidates:
    """By Gauss-Newton steps or by Adam's."""
    if settings.iterations:
        return newton(engine, data, starts, steps, settings.iterations, settings.damping)
    return refine(engine, data, starts, steps, settings.rate)


def structure(candidates: Candidates, data: TileData) -> NDArray[np.float64]:
    """How far a tile's mean estimate is from flat, in nats of the likelihood, for each candidate
    (n,)."""
    tiles = len(data.counts)
    total = np.zeros((tiles, *data.counts.shape[1:]), np.float32)
    np.add.at(total, candidates.tile, candidates.mean)
    mean = total / np.maximum(np.bincount(candidates.tile, minlength=tiles), 1)[:, None, None]
    weight = information(np.maximum(mean, FLOOR), data)
    flat = (weight * mean).sum((1, 2)) / np.maximum(weight.sum((1, 2)), FLOOR)
    found = 0.5 * (weight * (mean - flat[:, None, None]) ** 2).sum((1, 2), dtype=np.float64)
    return np.asarray(found[candidates.tile])

"""Candidates: latents that may explain observed tiles, each under a symmetry; and the starts of a
search, from encoder and bank.

Imaging has the eight symmetries of the square exactly. So one generator can explain a tile in eight
ways: symmetry s turns by s % 4 quarter turns and, from 4 on, mirrors the columns afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import Array, TileData
from gdn.restarts import restart_latents
from gdn.search.bank import Bank, best_of_bank
from gdn.search.objective import NUISANCES, evaluate_at_best_dose
from gdn.search.settings import SearchSettings

BATCH_PIXELS = 2**20  # of tiles that go through an engine together: 64 of 128 px
MERGED_NOISE = 0.1  # noise left in the blended tiles, as a share of the counts'


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Candidates, each a latent that may explain a tile under a symmetry of the square.

    - `z` (n, d): the latents.
    - `tile` (n,): the number of the tile that each explains.
    - `symmetry` (n,): one of eight.
    - `nuisance` (n, 4): in the order of NUISANCES.
    - `objective` (n,): nats.
    - `mean` (n, h, w): electrons per binned pixel, not turned.
    - `from_bank` (n,): True for a restart of the bank, False for a guess of the encoder.
    """

    z: Array
    tile: NDArray[np.int64]
    symmetry: NDArray[np.int64]
    nuisance: Array
    objective: NDArray[np.float64]
    mean: Array
    from_bank: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64]) -> Candidates:
        """The candidates of `index`, in that order."""
        return Candidates(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def split(self, mask: NDArray[np.bool_]) -> tuple[Candidates, Candidates]:
        """Two sets: the candidates of `mask` (n,), and the others."""
        return self.take(np.flatnonzero(mask)), self.take(np.flatnonzero(~mask))


def start(
    z: Array,
    tile: NDArray[np.int64],
    symmetry: NDArray[np.int64],
    dose: float,
    from_bank: NDArray[np.bool_],
) -> Candidates:
    """Unrefined candidates. `evaluate` fills in their objective and mean."""
    n = len(z)
    nuisance = np.zeros((n, len(NUISANCES)), np.float32)
    nuisance[:, 0] = np.log(dose)
    return Candidates(
        z=z.copy(),
        tile=tile,
        symmetry=symmetry,
        nuisance=nuisance,
        objective=np.zeros(n),
        mean=np.zeros((n, 1, 1), np.float32),
        from_bank=from_bank,
    )


def join(parts: list[Candidates]) -> Candidates:
    """Join several sets of candidates."""
    names = [f.name for f in fields(Candidates)]
    return Candidates(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def best_of_each(candidates: Candidates) -> NDArray[np.int64]:
    """Index of the candidate with the least objective of each tile."""
    order = np.lexsort((candidates.objective, candidates.tile))
    return order[np.searchsorted(candidates.tile[order], np.unique(candidates.tile))]


def best_of_tiles(parts: list[Candidates]) -> Candidates:
    """The candidate with the least objective of each tile in several sets; the first one where they
    are equal."""
    candidates = join(parts)
    return candidates.take(best_of_each(candidates)) if len(candidates.tile) else candidates


def turn(images: Array, symmetry: NDArray[np.int64]) -> Array:
    """Each of `images` (n, h, h) under its `symmetry` (n,)."""
    out = np.empty_like(images)
    for s in np.unique(symmetry):
        index = symmetry == s
        turned = np.rot90(images[index], s % 4, axes=(1, 2))
        out[index] = turned[:, :, ::-1] if s >= 4 else turned
    return out


def turn_back(images: Array, symmetry: NDArray[np.int64]) -> Array:
    """The inverse of `turn`; a mirrored symmetry is its own inverse."""
    return turn(images, np.where(symmetry >= 4, symmetry, -symmetry % 4))


def turn_tiles(data: TileData, tile: NDArray[np.int64], symmetry: NDArray[np.int64]) -> TileData:
    """The observed tiles numbered `tile` (n,), turned so that a generator explains them under
    `symmetry` (n,)."""
    return TileData(turn(data.counts[tile], symmetry), turn(data.weights[tile], symmetry), data.law)


def run_in_batches(
    data: TileData, candidates: Candidates, work: Callable[[TileData, Candidates], Candidates]
) -> Candidates:
    """Do `work` on candidates and their tiles, BATCH_PIXELS at a time. Tiles and means are turned
    as the generator sees them, and the means that come back are turned back."""
    size = max(1, BATCH_PIXELS // data.counts[0].size)
    parts = []
    for first in range(0, len(candidates.z), size):
        part = candidates.take(np.arange(first, min(first + size, len(candidates.z))))
        turned = turn_tiles(data, part.tile, part.symmetry)
        done = work(turned, replace(part, mean=turn(part.mean, part.symmetry)))
        parts.append(replace(done, mean=turn_back(done.mean, part.symmetry)))
    return join(parts) if parts else candidates


def evaluate(engine: Engine, data: TileData, candidates: Candidates) -> Candidates:
    """The candidates with objective and mean. The dose of each is found in closed form: the sum of
    counts over the sum of x."""

    def evaluate_batch(turned: TileData, part: Candidates) -> Candidates:
        nuisance, value, mu = evaluate_at_best_dose(engine, turned, part.z, part.nuisance)
        return replace(part, nuisance=nuisance, objective=value, mean=mu)

    return run_in_batches(data, candidates, evaluate_batch)


def propose(
    engine: Engine, bank: Bank, data: TileData, dose: float, settings: SearchSettings
) -> Candidates:
    """Evaluated starts for every tile: the encoder's guess under each symmetry, and the best images
    of the bank, also under every symmetry. Of the bank only those are kept that explain the tile
    better than the worst of those guesses."""
    tiles = len(data.counts)
    tile = np.repeat(np.arange(tiles), settings.symmetries)
    symmetry = np.tile(np.arange(settings.symmetries), tiles)
    turned = turn_tiles(data, tile, symmetry)
    z = _encode(engine, turned, dose) if settings.encoder else None
    guesses = 0 if z is None else len(z)
    row, keep = np.arange(guesses), settings.brief_candidates or int(z is None)
    if keep:
        restart, bank_row = _best_pairs(best_of_bank(bank, turned, dose, keep), tile, keep)
        latents = restart_latents(bank.seed, restart, bank.dimension)
        row = np.concatenate([row, bank_row])
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
    """Evaluated candidates for every tile: the encoder's guesses from the merged frame at that
    place. None without an encoder.

    `merged` are the same tiles, cut from the blended image. So each tile uses the solutions of its
    neighbours. A new candidate is weighted by its objective on the tile's own data, like any other.
    """
    tile = np.repeat(np.arange(len(data.counts)), settings.exchange)
    symmetry = np.tile(np.arange(settings.exchange), len(data.counts))
    z = _encode(engine, turn_tiles(merged, tile, symmetry), dose, MERGED_NOISE)
    if z is None:
        return None
    return evaluate(engine, data, start(z, tile, symmetry, dose, np.zeros(len(tile), bool)))


def _encode(engine: Engine, turned: TileData, dose: float, noise: float = 1.0) -> Array | None:
    """Latents of the turned tiles, whose noise is `noise` times that of counts."""
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
    """The `keep` best pairs of restart and turned tile for each tile, as the numbers of both. Given
    are turned tiles (n,) of `tile`, each with its best restarts and their scores."""
    index, scores = scored
    per_tile = index.shape[1] * int(np.bincount(tile)[0])
    order = np.argsort(scores.reshape(-1, per_tile), 1, kind="stable")[:, :keep]
    restart = np.take_along_axis(index.reshape(-1, per_tile), order, 1).ravel()
    return restart, (order + per_tile * np.arange(len(order))[:, None]).ravel() // index.shape[1]

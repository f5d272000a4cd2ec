"""How well every image of a bank explains every tile, and which do best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn.blas import product
from gdn.likelihood import Array, TileData
from gdn.search.bank import Bank, BankPart
from gdn.search.portions import PORTIONS

TILE_CHUNK = 256  # turned tiles scored at a time: bounds memory


def best_of_bank(
    bank: Bank, data: TileData, dose: float, keep: int
) -> tuple[NDArray[np.int64], Array]:
    """Indices (tiles, keep) of the bank images that explain each tile best, and their scores, best
    first.

    Runs over the bank once, in chunks; memory does not grow with it.
    """
    count = len(bank)
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
    """-log p of every tile under every bank image (tiles, n), up to a constant of the tile.

    Tiles are taken `chunk` at a time. For Poisson and Gaussian noise the dose of each pair is
    profiled out in closed form: NLL = -Y.log X + (sum Y) log(sum X), and -(Y.X)^2 / (2 beta |X|^2).
    For shifted Poisson noise `dose` (electrons per binned pixel) is used for all.
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

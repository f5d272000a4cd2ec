"""Candidates: latents that explain observed tiles, the symmetries under which they do, and their
objective.

Eight symmetries of the square are exact ones of the imaging, so one generator explains a tile eight
ways: symmetry s turns by s % 4 quarter turns and, from 4 on, mirrors the columns afterwards. The
objective is -log p(y | mu) + |z|^2 / 2 + weak priors on the nuisances (docs/method.md,
"Objective"), with mu = dose * (1 + contrast * (G(z) - 1) + slope_y * v + slope_x * u), v and u from
-1 to 1 over the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import FLOOR, Array, TileData, mean_derivative, negative_log_likelihood

SYMMETRIES = 8
NUISANCES = ("log_dose", "log_contrast", "slope_y", "slope_x")
BATCH_PIXELS = 2**20  # of tiles that go through an engine together: 64 of 128 px
# Prior standard deviations; the dose has none. A tile is 26 Å wide: a background changes little
# over it.
PRIOR_SIGMA = np.array([np.inf, 0.1, 0.02, 0.02], np.float32)
PRECISION = np.asarray(PRIOR_SIGMA.astype(np.float64) ** -2, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Candidates, each a latent that explains a tile under a symmetry of the square.

    `z` (n, d); `tile` (n,) the tile each explains; `symmetry` (n,) of SYMMETRIES;
    `nuisance` (n, 4) in the order of NUISANCES; `objective` (n,) nats; `mean` (n, h, w) electrons
    per binned pixel, as the tile lies; `from_bank` (n,): a restart of the bank, or the encoder's
    guess.
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
        """Those of `mask` (n,), and the others."""
        return self.take(np.flatnonzero(mask)), self.take(np.flatnonzero(~mask))


def start(
    z: Array,
    tile: NDArray[np.int64],
    symmetry: NDArray[np.int64],
    dose: float,
    from_bank: NDArray[np.bool_],
) -> Candidates:
    """Unrefined candidates; `evaluate` fills in their objective and mean."""
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
    """Several sets of candidates as one."""
    names = [f.name for f in fields(Candidates)]
    return Candidates(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def best_of_each(candidates: Candidates) -> NDArray[np.int64]:
    """Index of each tile's candidate of least objective."""
    order = np.lexsort((candidates.objective, candidates.tile))
    return order[np.searchsorted(candidates.tile[order], np.unique(candidates.tile))]


def best_of_tiles(parts: list[Candidates]) -> Candidates:
    """Each tile's candidate of least objective in several sets, of those equal the first."""
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
    """The observed tiles numbered `tile` (n,) as a generator sees them that explains them under
    `symmetry` (n,)."""
    return TileData(turn(data.counts[tile], symmetry), turn(data.weights[tile], symmetry), data.law)


def in_batches(
    data: TileData, candidates: Candidates, work: Callable[[TileData, Candidates], Candidates]
) -> Candidates:
    """`work` on some candidates and their tiles, each as the generator sees it, BATCH_PIXELS at a
    time: tiles and means are turned for it, and the means back."""
    size = max(1, BATCH_PIXELS // data.counts[0].size)
    parts = []
    for first in range(0, len(candidates.z), size):
        part = candidates.take(np.arange(first, min(first + size, len(candidates.z))))
        turned = turn_tiles(data, part.tile, part.symmetry)
        done = work(turned, replace(part, mean=turn(part.mean, part.symmetry)))
        parts.append(replace(done, mean=turn_back(done.mean, part.symmetry)))
    return join(parts) if parts else candidates


def evaluate(engine: Engine, data: TileData, candidates: Candidates) -> Candidates:
    """The candidates with their objective and mean, the dose of each in closed form: sum of counts
    over sum of x."""
    return in_batches(data, candidates, lambda turned, part: _evaluate_batch(engine, turned, part))


def _evaluate_batch(engine: Engine, turned: TileData, part: Candidates) -> Candidates:
    objective = Objective(engine, turned)
    mu = objective.mean(engine.generate(part.z), part.nuisance)
    ratio = (turned.weights * turned.counts).sum((1, 2)) / np.maximum(
        (turned.weights * mu).sum((1, 2)), FLOOR
    )
    nuisance = part.nuisance.copy()
    nuisance[:, 0] += np.log(np.clip(ratio, 0.1, 10))
    mu *= np.exp(nuisance[:, 0] - part.nuisance[:, 0])[:, None, None]
    value = objective.value(mu, np.concatenate([part.z, nuisance], 1))
    return replace(part, nuisance=nuisance, objective=value, mean=mu)


@dataclass(frozen=True)
class Point:
    """The objective at theta: `value` (n,) nats, `gradient` (n, d + k), `mu` (n, h, w), and d(mu) /
    d(nuisances) `derivatives` (n, k, h, w)."""

    value: NDArray[np.float64]
    gradient: Array
    mu: Array
    derivatives: Array


class Objective:
    """The objective of latents and nuisances theta (n, d + k) for the tiles that `data` holds, one
    each.

    For a model in half precision, values, gradients and images are in single precision and products
    of the Jacobian in half. A rounded direction costs little; a rounded result would not.
    """

    def __init__(self, engine: Engine, data: TileData) -> None:
        self.engine, self.exact, self.data = engine, engine.exact, data
        axis = np.linspace(-1, 1, data.counts.shape[1], dtype=np.float32)
        self._plane = np.stack(np.meshgrid(axis, axis, indexing="ij"))  # v, u

    def split(self, theta: Array) -> tuple[Array, Array]:
        """z (n, d) and the nuisances (n, k)."""
        d = self.engine.model.card.latent
        return np.ascontiguousarray(theta[:, :d]), np.ascontiguousarray(theta[:, d:])

    def step(self, theta: Array, damping: float) -> tuple[Array, NDArray[np.float64]] | None:
        """`Engine.step`: a Gauss-Newton step by the engine's own graph, if it has one."""
        z, nuisance = self.split(theta)
        prior = np.tile(PRECISION, (len(theta), 1))
        return self.engine.step(z, nuisance, self.data, damping, prior)

    def mean(self, x: Array, nuisance: Array) -> Array:
        """mu (n, h, w) of patches x and their nuisances."""
        scale, shift = self._scale_and_shift(nuisance)
        return np.asarray(scale[:, None, None] * x + shift, dtype=np.float32)

    def value(self, mu: Array, theta: Array) -> NDArray[np.float64]:
        """Objective (n,) in nats, without terms of the data alone."""
        return negative_log_likelihood(mu, self.data) + self._prior(theta)

    def _prior(self, theta: Array) -> NDArray[np.float64]:
        z, nuisance = (part.astype(np.float64) for part in self.split(theta))
        return np.asarray(0.5 * (z**2).sum(1) + 0.5 * ((nuisance / PRIOR_SIGMA) ** 2).sum(1))

    def mean_and_value(self, theta: Array) -> tuple[Array, NDArray[np.float64]]:
        """mu (n, h, w) and the objective (n,) of theta: one forward pass."""
        z, nuisance = self.split(theta)
        mu = self.mean(self.exact.generate(z), nuisance)
        return mu, self.value(mu, theta)

    def gradient(self, theta: Array) -> tuple[NDArray[np.float64], Array]:
        """The objective (n,) and its derivative (n, d + k) in theta."""
        point = self.at(theta)
        return point.value, point.gradient

    def at(self, theta: Array) -> Point:
        """The objective, its gradient and what a linear model around theta needs."""
        z, nuisance = self.split(theta)
        scale, shift = self._scale_and_shift(nuisance)
        found = self.exact.value_and_gradient(z, self.data, scale, shift)
        mu = scale[:, None, None] * found.images + shift
        derivatives = self.nuisance_derivatives(found.images, mu, nuisance)
        own = np.einsum("nij,nkij->nk", mean_derivative(mu, self.data), derivatives)
        gradient = np.concatenate([found.gradient + z, own + nuisance / PRIOR_SIGMA**2], 1)
        return Point(found.value + self._prior(theta), gradient, mu, derivatives)

    def push_forward(self, theta: Array, point: Point, tangent: Array) -> Array:
        """J t (n, h, w) for J = d(mu) / d(theta) at `point` and `tangent` t (n, d + k)."""
        z, nuisance = self.split(theta)
        along_z, along_nuisance = self.split(tangent)
        moved = (
            self._scale_and_shift(nuisance)[0][:, None, None]
            * self.engine.push_forward(z, along_z[:, None])[:, 0]
        )
        return np.asarray(
            moved + np.einsum("nk,nkij->nij", along_nuisance, point.derivatives), dtype=np.float32
        )

    def pull_back(self, theta: Array, point: Point, cotangent: Array) -> Array:
        """J^T v (n, d + k) for `cotangent` v (n, h, w)."""
        z, nuisance = self.split(theta)
        scaled = self._scale_and_shift(nuisance)[0][:, None, None] * cotangent
        return np.concatenate(
            [
                self.engine.pull_back(z, scaled),
                np.einsum("nij,nkij->nk", cotangent, point.derivatives),
            ],
            1,
        )

    def nuisance_derivatives(self, x: Array, mu: Array, nuisance: Array) -> Array:
        """d(mu) / d(nuisances) (n, 4, h, w) of patches x."""
        dose, contrast = (
            np.exp(nuisance[:, 0])[:, None, None],
            np.exp(nuisance[:, 1])[:, None, None],
        )
        return np.stack(
            [mu, dose * contrast * (x - 1), *(dose * plane for plane in self._plane)], 1
        )

    def _scale_and_shift(self, nuisance: Array) -> tuple[Array, Array]:
        dose, contrast = np.exp(nuisance[:, 0]), np.exp(nuisance[:, 1])
        background = (1 - contrast)[:, None, None] + np.einsum(
            "nk,kij->nij", nuisance[:, 2:], self._plane
        )
        return dose * contrast, np.asarray(dose[:, None, None] * background, dtype=np.float32)

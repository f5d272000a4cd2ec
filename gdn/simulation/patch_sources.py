"""Sources of clean patches for a timed run: the `source` of a recipe's `[specimen]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gdn.recipes import Recipe
from gdn.simulation import conditions
from gdn.simulation.breadth import AnyCrystal, WavePool, any_structure
from gdn.simulation.imaging import Optics
from gdn.simulation.lattices import CELL
from gdn.simulation.renderer import Lens, intensity_spectra, patches, pixel_averaged
from gdn.simulation.scattering import wavelength_angstrom
from gdn.simulation.scenes import scene_maker
from gdn.simulation.structures import Structure

ANY = "any"  # the source of a recipe that is of no specimen in particular
TOY_GRID = 384  # px of the multislice of small runs
AT_A_TIME = {True: 64, False: 16}  # images of any crystal formed at a time, on a card or not
# such sets, from which patches are drawn together: one set is all of random lattices or all of real
# structures
MIXED = 4


class PatchSource(Protocol):
    """Structures are put in; patches are drawn."""

    pool: WavePool

    @property
    def make(self) -> Callable[[int], Structure]:
        """The structure of a seed. It is a plain function, so that it can be sent to processes."""
        ...

    def add(self, structure: Structure) -> None:
        """Compute the exit wave of one more structure and keep it."""
        ...

    def draw(self, n: int) -> Tensor:
        """`n` patches (n, 1, p, p) float32 in network units, of the structures added so far (at
        least one)."""
        ...


class Scenes:
    """Scenes of `gdn simulate` under the recipe's imaging conditions. `pool_size` waves are kept on
    `device`. `seeds` give the random numbers for lenses and places."""

    def __init__(
        self, recipe: Recipe, pool_size: int, device: str, seeds: Iterator[int], toy: bool
    ) -> None:
        self.recipe, self.device, self.make = recipe, device, scene_maker(recipe.specimen.source)
        self.pool = WavePool(pool_size, device, TOY_GRID if toy else 768, maps=False)
        self._draws, self._rng = (
            conditions.Draws.seeded(next(seeds), device),
            np.random.default_rng(next(seeds)),
        )
        self._energy_ev = 1e3 * recipe.specimen.energies_kv[0]

    def add(self, structure: Structure) -> None:
        """See `PatchSource`."""
        self.pool.add(structure, self._energy_ev)

    def draw(self, n: int) -> Tensor:
        """See `PatchSource`."""
        network, imaging, per = (
            self.recipe.network,
            self.recipe.imaging,
            self.recipe.stream.patches_per_image,
        )
        count, draws = -(-n // per), self._draws
        index = draws.integers(self.pool.filled, count)
        optics = [Optics.random(self._rng, imaging) for _ in range(count)]
        lens = Lens.of(optics, wavelength_angstrom(self._energy_ev), self.device)
        pixel = network.sampling_angstrom / draws.uniform(*imaging.magnification, count)
        spectra = torch.cat(
            [
                pixel_averaged(
                    intensity_spectra(self.pool.waves[i], lens.take(j), CELL), pixel[j], CELL
                )
                for i, j in zip(
                    index.split(64), torch.arange(count, device=self.device).split(64), strict=True
                )
            ]
        )
        images = torch.arange(count, device=self.device).repeat(per)[:n]
        cuts = conditions.random_cuts(draws, images, network.patch, pixel[images], CELL)
        return in_network_units(patches(spectra, cuts, network.patch, CELL)[:, None], self.recipe)


class AnySpecimen:
    """Any crystal in any mode under any lens. Of the recipe's imaging conditions only the
    magnification and `most_contrast` are used. Arguments as for `Scenes`."""

    make = staticmethod(any_structure)

    def __init__(
        self, recipe: Recipe, pool_size: int, device: str, seeds: Iterator[int], toy: bool
    ) -> None:
        self.recipe, (least, most) = recipe, recipe.imaging.magnification
        self._energies_ev = tuple(1e3 * energy for energy in recipe.specimen.energies_kv)
        self.pool = WavePool(pool_size, device, TOY_GRID if toy else 640)
        self._draws, self._rng = (
            conditions.Draws.seeded(next(seeds), device),
            np.random.default_rng(next(seeds)),
        )
        network, per = recipe.network, recipe.stream.patches_per_image
        pixel = network.sampling_angstrom / most, network.sampling_angstrom / least
        at_a_time = 4 if toy else AT_A_TIME[device == "cuda"]
        self._crystal = AnyCrystal(
            draws=self._draws,
            batch=at_a_time,
            patch=network.patch,
            per_image=per,
            pool=self.pool,
            pixel_angstrom=pixel,
            energies_ev=self._energies_ev,
        )
        self._stock = torch.zeros(0, 1, network.patch, network.patch, device=device)
        self._spare = 0 if toy else (MIXED - 1) * at_a_time * per

    def add(self, structure: Structure) -> None:
        """See `PatchSource`."""
        self.pool.add_randomly(structure, self._rng, self._energies_ev)

    def draw(self, n: int) -> Tensor:
        """See `PatchSource`."""
        while len(self._stock) < n + self._spare:
            self._stock = torch.cat(
                [self._stock, in_network_units(self._crystal.draw(), self.recipe)]
            )
        order = torch.randperm(
            len(self._stock), generator=self._draws.generator, device=self._stock.device
        )
        chosen, self._stock = self._stock[order[:n]], self._stock[order[n:]]
        return chosen


def source_of(
    recipe: Recipe, pool_size: int, device: str, seeds: Iterator[int], toy: bool
) -> PatchSource:
    """The source that the recipe names. Arguments as for `Scenes`. Raises ValueError if it names
    none."""
    if recipe.specimen.source == ANY:
        return AnySpecimen(recipe, pool_size, device, seeds, toy)
    return Scenes(recipe, pool_size, device, seeds, toy)


def in_network_units(images: Tensor, recipe: Recipe) -> Tensor:
    """Patches (n, 1, p, p), vacuum 1, converted to network units. A patch with more contrast than
    the recipe allows is scaled to that contrast."""
    apart = images - 1
    if most := recipe.imaging.most_contrast:
        apart = apart * (most / apart.abs().amax((1, 2, 3), keepdim=True).clamp_min(most))
    return (apart / recipe.network.intensity_scale).clamp(-0.999, 0.999)

"""Clean tiles of unseen structures with what they show: content kind and contrast class.

Kinds by the atoms under the tile: vacuum (none to speak of), edge (matter over part of it),
particle (mostly under Pt), support (the rest). Contrast classes by the Pt and Ce columns against
their surroundings, as in Vincent et al. 2021: black (darker by 3 % of the vacuum level and more),
white (brighter), intermediate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree
from suite import stored_waves

from gdn.recipes import Imaging
from gdn.simulation.imaging import read_wave, render
from gdn.simulation.simulate import frame_optics, seed_of_path
from gdn.simulation.structures import Structure, random_structure

FIELD_ANGSTROM = 59.0  # rendered field: the cell less its margin
KINDS = ("particle", "support", "edge", "vacuum")
CLASSES = ("black", "intermediate", "white")
CONTRAST = 0.03  # of the vacuum level, between intermediate and the rest


EDGE_ANGSTROM = 2.0  # to either side of where matter ends


@dataclass(frozen=True)
class Tiles:
    """`images` (n, patch, patch) vacuum 1; `kind` and `contrast` (n,) names, contrast "none"
    without columns."""

    images: NDArray[np.float32]
    kind: NDArray[np.str_]
    contrast: NDArray[np.str_]


def column_contrast(
    image: NDArray[np.float32], places: NDArray[np.float64], sampling: float
) -> float:
    """Mean of image minus its 1.5 Å blur at `places` (m, 2), px; NaN where there are none."""
    if not len(places):
        return float("nan")
    sharp = gaussian_filter(image, 0.2 / sampling) - gaussian_filter(image, 1.5 / sampling)
    return float(map_coordinates(sharp, places.T, order=1, mode="nearest").mean())


def contrast_class(value: float) -> str:
    """Name of a column contrast, vacuum units."""
    if np.isnan(value):
        return "none"
    return "black" if value < -CONTRAST else "white" if value > CONTRAST else "intermediate"


def kind_of(numbers: NDArray[np.int64], xy: NDArray[np.float64], width: float) -> str:
    """Content of a square of `width` Å by the atoms (n, 2) over it, Å from its corner."""
    cells = np.stack(
        np.meshgrid(np.arange(1, width, 2), np.arange(1, width, 2), indexing="ij"), -1
    ).reshape(-1, 2)
    near = [
        cKDTree(points).query(cells)[0] < 2.2 if len(points) else np.zeros(len(cells), bool)
        for points in (xy, xy[numbers == 78])
    ]
    covered, platinum = near[0].mean(), near[1].mean()
    if covered < 0.02:
        return "vacuum"
    if covered < 0.9:
        return "edge"
    return "particle" if platinum > 0.6 else "support"


def kind_map(
    structure: Structure, corner: NDArray[np.float64], shape: tuple[int, int], sampling: float
) -> NDArray[np.str_]:
    """Kind of every pixel of a frame whose first corner lies at `corner` (y, x) Å: edge within
    EDGE_ANGSTROM of where matter ends, particle where Pt is, support where other atoms are, else
    vacuum."""
    pixels = (np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 2) + 0.5) * sampling
    yx = structure.positions[:, 1::-1] - corner

    def near(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        if not len(points):
            return np.zeros(shape, bool)
        return np.asarray(cKDTree(points).query(pixels)[0] < 2.2).reshape(shape)

    matter, platinum = near(yx), near(yx[structure.numbers == 78])
    kinds = np.full(shape, "vacuum", dtype="<U8")
    kinds[matter] = "support"
    kinds[platinum] = "particle"
    if matter.any() and not matter.all():
        depth = (
            np.where(matter, distance_transform_edt(matter), distance_transform_edt(~matter))
            * sampling
        )
        kinds[depth < EDGE_ANGSTROM] = "edge"
    return kinds


def content_tiles(
    folder: Path,
    split: str,
    count: int,
    patch: int,
    sampling: float,
    seed: int = 0,
    imaging: Imaging = Imaging(),
) -> Tiles:
    """`count` tiles of the waves of `split` in `folder`, one or two a structure, at random places,
    imaged under `imaging`."""
    paths = stored_waves(folder, split, min(count, 4 + count // 2))
    rng = np.random.default_rng([seed, 0xC7])
    images, kinds, classes = [], [], []
    n = int(FIELD_ANGSTROM / sampling)
    for number in range(count):
        path = paths[number % len(paths)]
        wave, structure = read_wave(path), random_structure(seed_of_path(path))
        corner = (wave.cell_angstrom - n * sampling) / 2
        field = render(
            wave,
            frame_optics(seed_of_path(path), number // len(paths), imaging),
            sampling,
            (n, n),
            (corner, corner),
        )
        y, x = rng.integers(0, n - patch + 1, 2)
        tile, origin = field[y : y + patch, x : x + patch], corner + sampling * np.array([y, x])
        yx = structure.positions[:, 1::-1] - origin
        columns = wave.columns[wave.weights > 150][:, ::-1] - origin
        inside = ((columns > 1) & (columns < patch * sampling - 1)).all(1)
        kinds.append(kind_of(structure.numbers, yx, patch * sampling))
        classes.append(
            contrast_class(column_contrast(tile, columns[inside] / sampling - 0.5, sampling))
        )
        images.append(tile)
    return Tiles(np.stack(images), np.array(kinds), np.array(classes))

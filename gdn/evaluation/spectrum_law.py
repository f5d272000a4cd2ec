"""The classifier of spectra for the goodness of fit (docs/method.md, "Trust", "p").

It separates frames of the right kind from the same structures at wrong pixel sizes, and from
lattices and fringes of other specimens. All are rendered at the generator's sampling; no search is
needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn.evaluation.small_network import Plan, fit_network
from gdn.likelihood import POISSON, Array, NoiseLaw
from gdn.recipes import Imaging
from gdn.search.tiles import Binned
from gdn.simulation.clean_images import CleanImage, is_clean_image, read_clean_image
from gdn.simulation.imaging import Optics, Wave, read_wave, render
from gdn.trust.fit_law import SpectrumLaw
from gdn.trust.scaling import Scaling
from gdn.trust.spectrum import measure_rings

Values = NDArray[np.float64]

VIEWS = 8  # of every structure, each right, and each wrong in one way
LOG_FACTOR = (0.15, 0.5)  # of a wrong pixel size, either way
LOG_LEVEL = (-4.3, -0.6)  # of a binned pixel's noise over the vacuum level
STRANGE = 0.35  # of the wrong ones are made up
FIELD_ANGSTROM = 58.0  # of a wave, at most
PLAN = Plan(width=48, rate=2e-3, decay=3e-2, passes=60, batch=512)


@dataclass(frozen=True)
class SpectrumLesson:
    """Features (n, f) of frames, and whether each is of a `wrong` kind (n,)."""

    features: Values
    wrong: NDArray[np.bool_]


def lesson_of(
    path: Path, seed: int, sampling_angstrom: float, patch: int, ranges: Imaging = Imaging()
) -> SpectrumLesson:
    """Pairs of a right and a wrong frame from one wave, with the same size and noise."""
    rng = np.random.default_rng([seed, 0x5BEC])
    scene: Wave | CleanImage
    scene = read_clean_image(path) if is_clean_image(path) else read_wave(path)
    field = FIELD_ANGSTROM
    if isinstance(scene, CleanImage):
        field = min(field, scene.field_angstrom)
    rows = []
    for _ in range(VIEWS):
        level = rng.uniform(*LOG_LEVEL)
        factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(*LOG_FACTOR)))
        largest = int(field / (sampling_angstrom * max(1.0, 1 / factor)))
        side = int(rng.integers(min(patch, largest), largest + 1))
        right = _view(scene, sampling_angstrom, side, rng, ranges)
        if rng.random() < STRANGE:
            wrong = draw_strange_image(side, sampling_angstrom, float(right.std()), rng)
        else:
            wrong = _view(scene, sampling_angstrom / factor, side, rng, ranges)
        poisson = rng.random() < 0.6
        rows += [
            measure_rings(noisy(image, level, poisson, rng), sampling_angstrom)
            for image in (right, wrong)
        ]
    return SpectrumLesson(np.array(rows), np.tile([False, True], VIEWS))


def _view(
    scene: Wave | CleanImage,
    sampling: float,
    side: int,
    rng: np.random.Generator,
    ranges: Imaging,
) -> Array:
    """A square at a random place, vacuum 1; of a wave under random conditions."""
    if isinstance(scene, CleanImage):
        sides = np.array(scene.image.shape) * scene.sampling_angstrom
        place = rng.uniform(0, np.maximum(sides - side * sampling, 0))
        return scene.view(sampling, (side, side), (place[0], place[1]))
    room = scene.cell_angstrom - FIELD_ANGSTROM
    corner = room / 2 + rng.uniform(0, max(FIELD_ANGSTROM - side * sampling, 0), 2)
    optics = Optics.random(rng, ranges)
    return np.asarray(
        np.maximum(render(scene, optics, sampling, (side, side), (corner[0], corner[1])), 0)
    )


def draw_strange_image(
    side: int, sampling: float, contrast: float, rng: np.random.Generator
) -> Array:
    """A random image of a lattice, fringes or rings of random spacing, over a part of the field,
    mean 1."""
    y, x = np.indices((side, side)) * sampling
    image = np.zeros((side, side))
    if rng.random() < 0.25:  # bent fringes, as of graphite
        centre = rng.uniform(-30, 60, 2)
        image = np.cos(2 * np.pi * np.hypot(y - centre[0], x - centre[1]) / rng.uniform(2, 6))
    else:
        angle, opening = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, np.pi / 2)
        vectors = [
            np.array([np.sin(a), np.cos(a)]) / rng.uniform(1.5, 5) for a in (angle, angle + opening)
        ]
        for h, k in ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2)):
            g = h * vectors[0] + k * vectors[1]
            image += rng.normal(0, np.exp(-2 * g @ g)) * np.cos(
                2 * np.pi * (y * g[0] + x * g[1]) + rng.uniform(0, 2 * np.pi)
            )
    normal = rng.standard_normal(3)
    envelope = 1 / (
        1 + np.exp(-(normal[0] * (y - y.mean()) + normal[1] * (x - x.mean())) / 2 - 4 * normal[2])
    )
    image *= envelope
    image *= max(contrast, 0.02) / max(float(image.std()), 1e-6)
    return np.asarray(np.maximum(1 + image - image.mean(), 0.05), dtype=np.float32)


def noisy(image: Array, level: float, poisson: bool, rng: np.random.Generator) -> Binned:
    """The clean `image` (vacuum 1) plus noise of exp(`level`) of the vacuum level per pixel."""
    if poisson:
        dose = np.exp(-2 * level)
        return Binned(rng.poisson(dose * image).astype(np.float32), POISSON)
    sigma = np.exp(level)
    return Binned(
        (image + sigma * rng.standard_normal(image.shape)).astype(np.float32),
        NoiseLaw(0.0, float(sigma**2)),
    )


def fit_spectrum(lessons: Sequence[SpectrumLesson], seed: int) -> SpectrumLaw:
    """Fit a classifier whose output is the log-odds of a wrong frame."""
    x = np.concatenate([lesson.features for lesson in lessons])
    scaling = Scaling.of(x)
    target = torch.tensor(np.concatenate([lesson.wrong for lesson in lessons]), dtype=torch.float32)

    def loss(predicted: Tensor, at: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(predicted[:, 0], target[at])

    weights, biases = fit_network(scaling.apply(x), np.zeros(1), loss, PLAN, seed)
    return SpectrumLaw(scaling=scaling, weights=weights, biases=biases)

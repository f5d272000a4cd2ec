"""Measure a model's errors on one simulated frame of known structure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gdn.evaluation.metrics import MATCH_ANGSTROM
from gdn.likelihood import Array
from gdn.search.estimate import Estimate
from gdn.trust.columns import (
    WEAKEST,
    Columns,
    find_columns,
    lattice_sites,
    nothing,
    polarity,
    without,
)
from gdn.trust.evidence import ColumnEvidence, weigh
from gdn.trust.fit import noise_level, shown_share, tile_features
from gdn.trust.spectrum import measure_rings
from gdn.trust.spread import doubt, pixel_features

Values = NDArray[np.float64]

PIXELS = 800  # of a frame, at random
PLANTED = 0.15  # columns put where none is, and taken away, as a share of those there
CLEAR_ANGSTROM = 1.2  # between a planted column and any other


@dataclass(frozen=True)
class Judged:
    """Columns with their evidence, whether the truth has a column within 0.5 Å, and the distance to
    it, Å."""

    columns: Columns
    evidence: ColumnEvidence
    true: NDArray[np.bool_]
    distance: Values


@dataclass(frozen=True, kw_only=True)
class FitSample:
    """What the goodness of fit is calibrated on, of one frame.

    - `structure`: its number; frames of one structure belong together.
    - `level`: of the noise.
    - `tiles` (m, g): features.
    - `rings`: of its spectrum.
    - `share`: the logarithm of the share of a tile that shows the frame.
    """

    structure: int
    level: float
    tiles: Values
    rings: Values
    share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Observation(FitSample):
    """Samples of one frame.

    - `pixels` (n, f), `errors` (n,): features, and errors in vacuum units.
    - `drawn`: columns that the image shows, and columns planted into it.
    - `sites`: empty lattice sites, and columns removed from the image.
    """

    pixels: Values
    errors: Values
    drawn: list[Judged]
    sites: list[Judged]


def reference_columns(truth: Array, image: Array, sampling: float) -> Columns:
    """Columns of the clean image with the polarity of `image`, down to half the contrast that a
    column must have."""
    return find_columns(truth, sampling, dark=polarity(image)[0], share=WEAKEST / 2)


def judge_against(
    columns: Columns, reference: Columns, image: Array, estimate: Estimate, sampling: float
) -> Judged:
    """Evidence of `columns` in `image` (vacuum units), and whether the `reference` has them."""
    evidence = weigh(columns, image, doubt(estimate), estimate.binned, estimate.dose, sampling)
    far = np.full(len(columns), np.inf)
    if len(reference) and len(columns):
        far = cKDTree(reference.yx).query(columns.yx)[0]
    return Judged(columns, evidence, far < MATCH_ANGSTROM, far)


def plant_columns(
    columns: Columns,
    reference: Columns,
    shape: tuple[int, int],
    sampling: float,
    rng: np.random.Generator,
) -> Columns:
    """Columns similar to those of an image, at places where neither the image nor the truth has
    one."""
    count = max(1, round(PLANTED * len(columns)))
    places = rng.uniform(2.0, (np.array(shape) - 1) * sampling - 2.0, (20 * count, 2))
    taken = np.concatenate([columns.yx, reference.yx])
    places = places[cKDTree(taken).query(places)[0] > CLEAR_ANGSTROM][:count]
    model = rng.integers(0, len(columns), len(places))
    return Columns(
        places, columns.amplitude[model], columns.width[model], np.ones(len(places), bool)
    )


def add_columns(image: Array, columns: Columns, sampling: float) -> Array:
    """The image with `columns` added."""
    negative = replace(columns, amplitude=-columns.amplitude)
    return without(image, negative, np.arange(len(columns)), sampling)


def observe_columns(
    estimate: Estimate, truth: Array, sampling: float, rng: np.random.Generator
) -> tuple[list[Judged], list[Judged]]:
    """Columns that the image shows, and those planted into it; empty lattice sites, and true
    columns that were removed."""
    image, clean = (
        np.asarray(part / estimate.dose, dtype=np.float32) for part in (estimate.image, truth)
    )
    columns = find_columns(image, sampling)
    if not len(columns):
        return [], []
    shape = (image.shape[0], image.shape[1])
    reference = reference_columns(clean, image, sampling)
    drawn = judge_against(columns, reference, image, estimate, sampling)
    invented = plant_columns(columns, reference, shape, sampling, rng)
    richer = add_columns(image, invented, sampling)
    into = judge_against(invented, nothing(), richer, estimate, sampling)
    sites = judge_against(
        lattice_sites(columns, shape, sampling), reference, image, estimate, sampling
    )
    real = np.flatnonzero(drawn.true)
    removed = rng.permutation(real)[: max(1, round(PLANTED * len(real)))] if len(real) else real
    poorer = without(image, columns, removed, sampling)
    holes = replace(columns.take(removed), drawn=np.zeros(len(removed), bool))
    return [drawn, into], [sites, judge_against(holes, reference, poorer, estimate, sampling)]


def observe_fit(structure: int, estimate: Estimate, sampling: float) -> FitSample:
    """What the goodness of fit is calibrated on, of an estimate at `sampling` Å per binned
    pixel."""
    return FitSample(
        structure=structure,
        level=noise_level(estimate),
        tiles=tile_features(estimate, sampling),
        rings=measure_rings(estimate.binned, sampling),
        share=shown_share(estimate.tiling),
    )


def observe(
    structure: int, estimate: Estimate, truth: Array, sampling: float, seed: int
) -> Observation:
    """Samples of an estimate and its `truth` (electrons per binned pixel) at `sampling` Å per
    binned pixel."""
    rng = np.random.default_rng([seed, 0x0B5])
    features = pixel_features(estimate)
    at = rng.choice(truth.size, min(PIXELS, truth.size), replace=False)
    errors = ((estimate.image - truth) / estimate.dose).ravel()[at].astype(np.float64)
    drawn, sites = observe_columns(estimate, truth, sampling, rng)
    return Observation(
        **vars(observe_fit(structure, estimate, sampling)),
        pixels=features.reshape(truth.size, -1)[at],
        errors=errors,
        drawn=drawn,
        sites=sites,
    )

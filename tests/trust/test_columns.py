"""Atom columns, the evidence for each, and verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.evaluation.error_samples import add_columns
from gdn.likelihood import POISSON
from gdn.search.tiles import Binned
from gdn.trust.columns import Columns, find_columns, lattice_sites, without
from gdn.trust.evidence import ColumnEvidence, decide_verdicts, weigh

SAMPLING = 0.4  # Å per binned pixel


def lattice(
    shape: tuple[int, int] = (90, 90), amplitude: float = -0.2, width: float = 0.55
) -> tuple[np.ndarray, Columns]:
    places = np.stack(
        np.meshgrid(np.arange(4.2, 32, 2.3), np.arange(4.7, 32, 2.6), indexing="ij"), -1
    ).reshape(-1, 2)
    columns = Columns(
        places,
        np.full(len(places), amplitude),
        np.full(len(places), width),
        np.ones(len(places), bool),
    )
    return add_columns(np.ones(shape, np.float32), columns, SAMPLING), columns


def test_columns_are_found_where_they_are_and_as_strong() -> None:
    image, columns = lattice()
    found = find_columns(image, SAMPLING)
    assert len(found) == len(columns)
    nearest = np.hypot(*(found.yx[:, None] - columns.yx[None]).transpose(2, 0, 1)).min(1)
    assert nearest.max() < 0.05
    assert np.median(found.amplitude) == pytest.approx(-0.2, rel=0.15)
    assert np.abs(without(image, columns, np.arange(len(columns)), SAMPLING) - 1).max() < 1e-5


def test_a_fringe_is_not_a_row_of_columns(rng: np.random.Generator) -> None:
    x = np.indices((90, 90))[1] * SAMPLING
    image = (1 + 0.2 * np.cos(2 * np.pi * x / 3.1)).astype(np.float32)
    image += 1e-3 * rng.standard_normal(image.shape).astype(np.float32)
    assert len(find_columns(image, SAMPLING)) == 0
    assert len(find_columns(np.ones((90, 90), np.float32), SAMPLING)) == 0


def test_the_lattice_knows_of_a_missing_column() -> None:
    image, columns = lattice()
    gone = 5 * 11 + 4
    sites = lattice_sites(
        find_columns(without(image, columns, np.array([gone]), SAMPLING), SAMPLING),
        image.shape,
        SAMPLING,
    )
    assert np.hypot(*(sites.yx - columns.yx[gone]).T).min() < 0.15
    assert not sites.drawn.any()


def test_evidence_is_half_the_information_either_way(rng: np.random.Generator) -> None:
    image, columns = lattice(amplitude=-0.1, width=0.45)
    dose, doubt = 19.0, np.full(image.shape, 0.02, np.float32)
    with_: list[ColumnEvidence] = []
    bare: list[ColumnEvidence] = []
    for _ in range(6):
        for picture, kept in ((image, with_), (np.ones_like(image), bare)):
            counts = rng.poisson(dose * picture).astype(np.float32)
            kept.append(weigh(columns, image, doubt, Binned(counts, POISSON), dose, SAMPLING))
    half = np.mean([e.information.mean() for e in with_]) / 2
    # A column of 10 % contrast at the study's dose (19 electrons a binned pixel) carries about one
    # nat.
    assert 0.2 < half < 3
    assert np.mean([e.nats.mean() for e in with_]) == pytest.approx(half, rel=0.35)
    assert np.mean([e.nats.mean() for e in bare]) == pytest.approx(-half, rel=0.35)


def test_verdicts_keep_the_false_discovery_rate(rng: np.random.Generator) -> None:
    probability = rng.beta(0.4, 0.4, 4000)
    there = rng.uniform(size=4000) < probability
    called = decide_verdicts(probability, 0.05)
    assert 0.02 < 1 - there[called == "present"].mean() < 0.07
    assert there[called == "absent"].mean() < 0.07
    assert (called == "cannot tell").mean() > 0.1
    assert (decide_verdicts(np.full(5, 0.6), 0.05) == "cannot tell").all()
    assert len(decide_verdicts(np.zeros(0), 0.05)) == 0

"""The test for fields in which nothing is to be seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from gdn.likelihood import POISSON, NoiseLaw
from gdn.pipeline.denoiser import Denoiser
from gdn.search.tiles import Binned
from gdn.trust.flatness import flat_p

SAMPLING = 0.4  # Å per binned pixel


@pytest.mark.parametrize("dose", [0.5, 20.0])
def test_p_of_a_flat_field_is_right(rng: np.random.Generator, dose: float) -> None:
    p = np.array(
        [
            flat_p(Binned(rng.poisson(dose, (60, 45)).astype(np.float32), POISSON), SAMPLING)
            for _ in range(400)
        ]
    )
    assert (p < 0.01).sum() <= 12
    assert 4 <= (p < 0.05).sum() <= 32
    assert kstest(p, "uniform").statistic < 0.1


def test_a_weak_lattice_is_not_flat(rng: np.random.Generator) -> None:
    y, x = np.indices((100, 100)) * SAMPLING
    lattice = 20 * (1 + 0.06 * np.cos(2 * np.pi * y / 2.3) * np.cos(2 * np.pi * x / 2.3))
    assert flat_p(Binned(rng.poisson(lattice).astype(np.float32), POISSON), SAMPLING) < 1e-3
    noise = NoiseLaw(0.0, 4.0)
    slope = 20 + 0.01 * (np.indices((100, 100))[0] - 50) + 2 * rng.standard_normal((100, 100))
    assert flat_p(Binned(slope.astype(np.float32), noise), SAMPLING) < 0.01


def test_what_was_not_recorded_has_no_power(rng: np.random.Generator) -> None:
    valid = np.ones((64, 64), np.float32)
    valid[:30] = 0
    p = []
    for _ in range(60):
        counts = rng.poisson(9.0, valid.shape).astype(np.float32)
        counts[:30] = 500  # anything
        p.append(flat_p(Binned(counts, POISSON, valid), SAMPLING))
    assert (np.array(p) < 0.01).sum() <= 3


@pytest.mark.slow
def test_an_empty_field_of_many_electrons_is_explained(rng: np.random.Generator) -> None:
    frame = rng.poisson(640.0, (270, 270)).astype(np.float32)
    with Denoiser("pt-ceo2-128", 16, score=False, threads=1, cache=False) as denoiser:
        p = denoiser.denoise(frame, 0.2).explained_p
    assert isinstance(p, float)
    assert p > 0.01  # it was 0.005

"""The measures of ghosts and of pixel sizes that are named."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.helpers.needs import needs_training
from tests.helpers.places import BENCHMARKS

pytestmark = needs_training


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_atoms_are_where_the_frame_shows_them(script: Any) -> None:
    near = script("near")
    from gdn.simulation.conditions import Draws
    from gdn.simulation.lattices import CELL

    sampling, side, points = 0.2, 200, np.array([[CELL / 2 + 3, CELL / 2 - 4]])
    n = 512
    frequency = np.fft.fftfreq(n, CELL / n)
    wave = np.exp(-2 * (np.pi * 0.8) ** 2 * (frequency[:, None] ** 2 + frequency[None] ** 2))
    x, y = points[0]
    wave = wave * np.exp(-2j * np.pi * (frequency[:, None] * y + frequency[None] * x))
    import torch

    spectra = torch.tensor(wave[None] / CELL**2, dtype=torch.complex64)
    seen = 0
    for seed in range(4):
        image, cuts = near.cut(spectra, sampling, side, Draws.seeded(seed, "cpu"))
        at = near.places_in(cuts, points, side)[0]
        if (at > 5).all() and (at < side - 5).all():
            brightest = np.unravel_index(image.argmax(), image.shape)
            np.testing.assert_allclose(at[::-1], brightest, atol=1.5)
            seen += 1
    assert seen


def test_the_vacuum_is_farther_than_three_angstrom_from_every_atom(script: Any) -> None:
    free = script("ghosts").vacuum_of((100, 120), np.array([[20.0, 30.0], [-4.0, 80.0]]), 0.1)
    assert free.shape == (100, 120)
    y, x = np.indices(free.shape)
    near, beyond = np.hypot(y - 30, x - 20), np.hypot(y - 80, x + 4)
    assert not free[(near <= 29) | (beyond <= 29)].any()
    assert free[(near > 31) & (beyond > 31)].all()


def test_two_runs_are_compared_frame_by_frame(script: Any) -> None:
    ghosts = script("ghosts")
    row = {
        "frame": "own-1",
        "group": "own",
        "model": "auto",
        "noise": "poisson:1",
        "vacuum_rms_percent": 0.9,
        "ghosts": 2,
        "present": 30,
        "psnr_db": 37.0,
    }
    assert "0.90, 0.90 | 2 (1) | 30 | 37.00" in ghosts.table([row])
    after = row | {"psnr_db": 37.25, "vacuum_rms_percent": 0.3}
    said = ghosts.comparison([row], [after])
    assert "| 1 | 0.90, 0.90 | 0.30, 0.30 | +0.250, +0.250, +0.250 |" in said


def test_a_named_size_is_right_within_four_per_cent(script: Any) -> None:
    sizes = script("pixel_size")
    row = {"group": "own", "noise": "poisson:1", "contradicts": True, "best": 1.03, "factor": 0.7}
    rows = [row, row | {"best": 1.2}, row | {"contradicts": False, "factor": 1.0}]
    assert [sizes.outcome(r) for r in rows] == ["right", "wrong", "none"]
    assert "| own | poisson:1 | 0.7 | 2 | 50% | 50% | 0% |" in sizes.table(rows)

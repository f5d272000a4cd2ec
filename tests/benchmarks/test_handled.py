"""Frames as other microscopes leave them: what is handled stays an image and its noise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ase", reason="the frames are simulated with ase")

import handled


@pytest.mark.parametrize("kind", sorted(handled.HANDLED))
def test_noise_is_what_remains_of_an_image(kind: str, rng: np.random.Generator) -> None:
    """Else the PSNR would be that of another image."""
    y, x = np.mgrid[:240, :200] / 6.0
    clean = 2000 * (1.5 + np.cos(y) * np.cos(x))
    noisy, truth = handled.HANDLED[kind][1](rng.poisson(clean).astype(float), clean, rng)
    assert noisy.shape == truth.shape
    # Lines that begin early or late are an error of their own, and rows have offsets.
    others = {"jitter": 0.3, "offsets": 0.2, "gains": 0.1, "turned": 0.1, "picture": 0.05}
    allowed = others.get(kind, 0.03)
    difference = (noisy - truth).reshape(-1)
    assert abs(difference.mean()) < 0.02 * truth.std()
    blocks = (noisy - truth)[:240, :200].reshape(12, 20, 10, 20).mean((1, 3))
    assert blocks.std() < allowed * truth.std()


def test_the_table_is_against_the_counts_as_recorded() -> None:
    rows = [
        {"frame": "a", "handled": "recorded", "auto": 30.0, "restore": 25.0},
        {"frame": "b", "handled": "recorded", "auto": 40.0, "restore": 26.0},
        {"frame": "a", "handled": "blur", "auto": 29.0, "restore": 25.0},
        {"frame": "b", "handled": "blur", "auto_error": "no"},
    ]
    lines = handled.table(rows).splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("| 2 | 29.00 | -1.00 (-1.00) | 25.00 | 1 |")

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
    others = {"jitter": 0.3, "offsets": 0.2, "gains": 0.1, "picture": 0.05, "scan": 0.2}
    allowed = others.get(kind, 0.03)
    difference, contrast = noisy - truth, np.nanstd(truth)  # NaN: nothing is scored there
    assert abs(np.nanmean(difference)) < 0.02 * contrast
    rows, columns = (n // 20 for n in difference.shape)
    blocks = difference[: 20 * rows, : 20 * columns].reshape(rows, 20, columns, 20).mean((1, 3))
    assert np.nanstd(blocks) < allowed * contrast


def test_a_turned_frame_is_compared_to_its_middle() -> None:
    """The turn alone is to be measured, not the smaller field."""
    rows = [
        {"frame": "a", "handled": "recorded", "auto": 30.0, "restore": 25.0},
        {"frame": "a", "handled": "middle", "auto": 27.0, "restore": 25.0},
        {"frame": "a", "handled": "turned", "auto": 26.5, "restore": 25.0},
    ]
    middle, turned = handled.table(rows).splitlines()[-2:]
    assert "| -3.00 (-3.00) |" in middle
    assert "| -0.50 (-0.50) |" in turned


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


def test_the_gain_of_straight_rows_is_by_noise_and_handling() -> None:
    said = ["the rows of the scan were displaced: gdn straightened them"]
    rows = [
        {"frame": "a", "noise": "poisson:10", "handled": "scan", "auto": 39.0, "off": 37.0}
        | {"warnings": said},
        {"frame": "b", "noise": "poisson:10", "handled": "scan", "auto": 35.0, "off": 35.0}
        | {"warnings": []},
        {"frame": "a", "noise": "poisson:2", "handled": "scan", "auto": 30.0, "off": 31.0}
        | {"warnings": said},
    ]
    first, second = handled.straightening_table(rows).splitlines()[2:]
    assert first.startswith("| poisson:2 ")
    assert first.endswith("| 1 | 1 | 30.00 | 31.00 | -1.00 (-1.00) |")
    assert second.endswith("| 2 | 1 | 37.00 | 36.00 | +1.00 (+0.00) |")

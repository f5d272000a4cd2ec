"""What gdn is measured with: comparators and metrics."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.evaluation import comparators
from gdn.evaluation.comparators import Case, binnings, bm3d_binned
from gdn.evaluation.suite import Noise


def test_bm3d_is_shown_at_its_best_binning(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = np.full((24, 24), 0.45, np.float32)
    monkeypatch.setattr(comparators, "bm3d_at", lambda case, n: case.clean + np.float32(0.01 * (1 + abs(n - 8))))
    image = bm3d_binned(Case(clean, clean, Noise("poisson", 1.0), 0.0612))
    assert np.allclose(image - clean, 0.01, atol=1e-6)


def test_bm3d_is_tried_at_pixels_that_show_a_crystal() -> None:
    assert binnings(0.0612) == [4, 6, 8, 10, 12]
    assert binnings(0.05) == [4, 6, 8, 10, 12]
    assert binnings(0.2) == [1, 2, 3, 4]

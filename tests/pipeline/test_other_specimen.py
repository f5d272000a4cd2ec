"""The restorer's share of a result on a specimen that no generator knows."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.evaluation.demo import DEMO_NOISE
from gdn.models import find_model
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.open_models import beside_restorer
from gdn.pipeline.options import Options
from tests.helpers.needs import needs_training

pytestmark = needs_training


def other_crystal() -> np.ndarray:
    """A particle of 16 Å with two kinds of columns in the manner of HAADF, 300x300 px of 0.14 Å,
    which no generator has seen."""
    y, x = np.mgrid[:300, :300] * 0.14 - 21
    image = np.full((300, 300), 0.1)
    for (dy, dx), strength, width in (((0, 0), 0.8, 0.5), ((1.4, 2.3), 0.35, 0.45)):
        cy, cx = dy + 2.8 * np.round((y - dy) / 2.8), dx + 4.6 * np.round((x - dx) / 4.6)
        image += (
            strength
            * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
            * (np.hypot(cy, cx) < 8)
        )
    return image.astype(np.float32)


@pytest.mark.slow
def test_on_another_specimen_the_shipped_restorer_has_the_most_to_say() -> None:
    clean, sampling = other_crystal(), 0.14
    noisy = DEMO_NOISE.apply(clean, 7)
    generator = find_model("pt-ceo2-64")
    options = Options(restarts=16, cache=False, threads=1)
    results = []
    for models in ([generator], beside_restorer(generator)):
        with Denoiser.of(models, options) as denoiser:
            results.append(denoiser.for_recording(noisy, sampling).search(noisy, sampling))
    without, result = results
    assert result.mixing is not None
    shares = {name: result.mixing.share(name) for name in result.mixing.names}
    assert max(shares, key=lambda name: shares[name]) == "restore", shares
    before, after = (float(np.square(r.image - clean).mean()) for r in (without, result))
    assert after < 0.8 * before  # 1 dB

"""Frames with hardly any noise, or clipped: the frame comes back, or one clear line."""

from __future__ import annotations

import numpy as np
import pytest

import gdn
from gdn.frames.examined import examine
from tests.helpers.frames import noisy_frame

Y, X = np.indices((100, 110))
CLEAN = (1 + 0.3 * np.cos(2 * np.pi * X / 30) * np.cos(2 * np.pi * Y / 34)).astype(np.float32)


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Rms difference in units of the contrast."""
    return float((after - before).std() / before.std())


@pytest.mark.slow
def test_what_was_denoised_comes_back_as_it_was() -> None:
    with gdn.Denoiser(restarts=32, threads=1, score=False) as denoiser:
        first = denoiser.denoise(noisy_frame((100, 110)), sampling_angstrom=0.2).image
        second = denoiser.denoise(first, sampling_angstrom=0.2)
    assert change(first, second.image) < 0.05
    assert np.isfinite(np.asarray(second.spread)).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_a_frame_without_noise_is_refused_or_comes_back(scale: float) -> None:
    try:
        result = gdn.denoise(
            CLEAN * scale, sampling_angstrom=0.2, restarts=32, threads=1, score=False
        )
    except gdn.errors.EmptyFrame as error:
        assert "no noise" in str(error)  # noqa: PT017 - either is right
        return
    assert change(CLEAN * scale, result.image) < 0.05


@pytest.mark.parametrize("ceiling", [180, 200, 255])
def test_half_saturated_is_not_inverted(rng: np.random.Generator, ceiling: int) -> None:
    frame = np.minimum(rng.poisson(CLEAN * ceiling), ceiling).astype(np.float32)
    noise = examine(frame)[2]
    assert noise.gain > 0
    assert noise.read_noise < 0.3 * ceiling

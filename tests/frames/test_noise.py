"""The noise estimate against noise that was put in."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.frames.noise import NoiseModel, noise_of, parse_noise
from gdn.likelihood import POISSON


def clean(shape: tuple[int, int] = (500, 500)) -> np.ndarray:
    """A lattice with vacuum on one side: means between 0.7 and 1.3."""
    y, x = np.indices(shape)
    return 1 + 0.3 * np.cos(2 * np.pi * x / 33) * np.cos(2 * np.pi * y / 40) * (y > shape[0] / 3)


@pytest.mark.parametrize("dose", [0.05, 0.45, 5, 100])
def test_counts_are_poisson_of_gain_one(dose: float) -> None:
    counts = np.random.default_rng(1).poisson(dose * clean()).astype(np.float32)
    found = noise_of(counts, None)
    assert found.kind == "poisson"
    assert found.gain == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("scale", [25, 10, 1])
def test_scaled_counts_give_their_gain(scale: float) -> None:
    y = (np.random.default_rng(2).poisson(scale * 0.45 * clean()) / scale).astype(np.float32)
    found = noise_of(y, None)
    assert (found.kind, found.law) == ("poisson", POISSON)
    assert found.gain == pytest.approx(1 / scale, rel=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_constant_variance_is_gaussian(sigma: float) -> None:
    y = (0.45 * clean() + sigma * np.random.default_rng(3).standard_normal((500, 500))).astype(
        np.float32
    )
    found = noise_of(y, None)
    assert found.kind == "gaussian"
    assert found.read_noise == pytest.approx(sigma, rel=0.02)


def test_gain_offset_and_read_noise_together() -> None:
    rng = np.random.default_rng(4)
    y = (5 * rng.poisson(20 * clean()) + 100 + 10 * rng.standard_normal((500, 500))).astype(
        np.float32
    )
    found = noise_of(y, parse_noise("poisson-gaussian"))
    # Offset and read noise are not separable by mean and variance alone; the variance is what
    # counts.
    for mean in (180.0, 200.0, 220.0):
        variance = 5 * (mean - 100) + 100
        assert found.gain**2 * (
            max(mean - found.offset, 0) / found.gain + found.law.beta
        ) == pytest.approx(variance, rel=0.1)


def test_given_models_are_used_as_given() -> None:
    frame = clean((64, 64)).astype(np.float32)
    assert noise_of(frame, parse_noise("gaussian:0.3")) == NoiseModel(
        kind="gaussian", read_noise=0.3
    )
    with pytest.raises(ValueError, match="negative"):
        noise_of(frame - 1, parse_noise("poisson"))


@pytest.mark.parametrize(
    "text", ["gaussian:0", "gaussian:x", "gaussian:-1", "poisson:3", "salt", ""]
)
def test_bad_noise_options(text: str) -> None:
    with pytest.raises(ValueError, match="noise"):
        parse_noise(text)


def test_electrons_and_units_are_inverse() -> None:
    model = NoiseModel(kind="poisson-gaussian", gain=3, offset=7, read_noise=2)
    y = np.array([[7.0, 10, 13]], np.float32)
    np.testing.assert_allclose(model.electrons(y), [[0, 1, 2]])
    np.testing.assert_allclose(model.units(model.electrons(y)), y)


@pytest.mark.parametrize(
    ("gain", "offset", "read", "dose"),
    [(0.1, 1000, 0.0, 0.05), (10, 100, 0.5, 0.45), (100, 1000, 0.5, 5.0), (1, 10, 0.0, 5.0)],
)
def test_nothing_given_gain_and_offset_are_found(
    gain: float, offset: float, read: float, dose: float
) -> None:
    rng = np.random.default_rng(6)
    x = clean((700, 700))
    y = (gain * rng.poisson(dose * x) + rng.normal(offset, gain * read, x.shape)).astype(np.float32)
    found = noise_of(y, None)
    assert found.kind == "poisson-gaussian"
    assert found.gain == pytest.approx(gain, rel=0.1)
    electrons = (y.mean(dtype=np.float64) - found.offset) / found.gain
    assert electrons == pytest.approx(dose * x.mean(), rel=0.25)


@pytest.mark.parametrize("offset", [0.0, 200.0])
@pytest.mark.parametrize("dose", [0.5, 10])
def test_a_dark_field_s_zero_is_found(dose: float, offset: float) -> None:
    """Most of its noise is in a few bright columns, and most classes have next to none: the
    variance of those is not that at the mean."""
    y, x = np.indices((600, 600))
    columns = np.cos(np.pi * y / 28) ** 8 * np.cos(np.pi * x / 33) ** 8
    image = dose * (0.05 + 3 * columns)
    rng = np.random.default_rng(11)
    frame = 40 * rng.poisson(image) + offset + rng.normal(0, 1.0, image.shape)
    model = noise_of(frame.astype(np.float32), None)
    assert model.gain == pytest.approx(40, rel=0.1)
    assert (model.offset - offset) / 40 == pytest.approx(0, abs=0.1 * image.mean())
    electrons = model.electrons(frame.astype(np.float32))
    assert electrons.mean() == pytest.approx(image.mean(), rel=0.15)

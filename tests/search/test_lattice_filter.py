"""Waves of a lattice that fills the field, and the filter that begins with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON, Array
from gdn.search.collaborative import LEAST, filter_collaboratively
from gdn.search.lattice_candidate import LatticeCandidate, filter_lattice
from gdn.search.lattice_waves import find_peaks, fit_lattice
from gdn.search.thinning import Recorded

SIZE = (150, 131)
PIXEL = 0.35  # Å
WAVES = ((1 / 7.3, 0.02), (-0.03, 1 / 8.1))  # 1/px


def lattice(size: tuple[int, int] = SIZE, height: float = 0.5) -> Array:
    """Two waves, and their product, whose periods are no whole pixels."""
    y, x = np.mgrid[: size[0], : size[1]]
    first, second = (np.cos(2 * np.pi * (a * y + b * x)) for a, b in WAVES)
    return np.asarray(height * (first + second + 0.5 * first * second), dtype=np.float32)


def noise(seed: int, size: tuple[int, int] = SIZE) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def rms(image: Array) -> float:
    return float(np.sqrt(np.square(image, dtype=np.float64).mean()))


def test_waves_are_found_to_a_fraction_of_a_step() -> None:
    peaks = find_peaks((noise(0) + lattice()).astype(np.float64))
    for along, across in WAVES:
        off = [
            max(abs(along - s * a) * SIZE[0], abs(across - s * b) * SIZE[1])
            for _, a, b in peaks
            for s in (1, -1)
        ]
        assert min(off) < 0.1


def test_a_weak_wave_at_a_sum_of_others_is_found() -> None:
    """The product's waves are too weak to be found alone."""
    values = (noise(2) + lattice(height=0.4)).astype(np.float64)
    together = [a + b for a, b in zip(*WAVES, strict=True)]

    def there(image: np.ndarray) -> bool:
        near = [
            max(abs(together[0] - s * a) * SIZE[0], abs(together[1] - s * b) * SIZE[1]) < 1
            for _, a, b in find_peaks(image)
            for s in (1, -1)
        ]
        return any(near)

    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    alone = 0.1 * np.cos(2 * np.pi * (together[0] * y + together[1] * x))
    assert there(values)
    assert not there(noise(2) + alone)


def test_noise_has_no_lattice() -> None:
    assert sum(bool(fit_lattice(noise(seed)).any()) for seed in range(30)) <= 2


def test_a_lattice_is_fitted_far_better_than_blocks_can() -> None:
    true = lattice()
    fitted = fit_lattice(noise(1) + true)
    assert rms(fitted - true) < 0.6 * rms(filter_collaboratively(noise(1) + true) - true)
    assert abs(float(fitted.mean())) < 0.01


def test_an_amplitude_that_falls_off_is_followed() -> None:
    """The widths of the averages follow the counts."""
    true = lattice(height=3.0) * np.linspace(0, 1, SIZE[1], dtype=np.float32)
    assert rms(fit_lattice(noise(1) + true) - true) < 0.12 * rms(true)


def test_waves_end_where_the_crystal_does() -> None:
    true = lattice((150, 300), height=1.0)
    true[:, 150:] = 0
    fitted = np.array([fit_lattice(noise(seed, (150, 300)) + true) for seed in range(4)])
    assert rms(fitted[:, :, 200:]) < 0.055 * rms(true[:, :150])  # 0.07 of one width everywhere
    assert rms((fitted - true)[:, :, :120]) < 0.07 * rms(true[:, :120])


@pytest.mark.parametrize("guided", [False, True])
def test_a_missing_column_is_not_filled(guided: bool) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    spot = np.exp(-((y - 71) ** 2 + (x - 63) ** 2) / (2 * 1.5**2)).astype(np.float32)
    perfect, hole = lattice(height=2.0), 4.0 * spot
    guide = gaussian_filter(perfect - hole, 1.0) if guided else None
    image = filter_lattice(perfect - hole + noise(4), guide, PIXEL)
    kept = ((perfect - image) * spot).sum() / (hole * spot).sum()
    assert kept > 0.6


def test_strong_defects_do_not_disturb_the_lattice_elsewhere() -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    true, places = lattice(height=1.0), [(30, 30), (40, 100), (75, 66), (110, 40), (115, 90)]
    defects = sum(
        6 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 1.5**2)) for a, b in places
    ).astype(np.float32)
    far = defects < 1e-3
    image = filter_lattice(true + defects + noise(5), None, PIXEL)
    without = filter_lattice(true + noise(5), None, PIXEL)
    assert rms((image - true)[far]) < 1.5 * rms((without - true)[far])
    assert rms((image - true - defects)[~far]) < 1.0


def test_without_a_lattice_it_is_flat() -> None:
    """Filters that know of no lattice are other candidates."""
    values = noise(7)
    assert (filter_lattice(values, None, PIXEL) == values.mean()).all()
    small = lattice()[: LEAST - 1]
    assert (filter_lattice(small, None, PIXEL) == small.mean()).all()


@pytest.mark.parametrize("shape", [(430, 391), (97, 230)])
def test_the_candidate_works_on_any_shape(shape: tuple[int, int]) -> None:
    frame = demo_frames()[0]
    noisy = DEMO_NOISE.apply(frame.image, 0)[: shape[0], : shape[1]]
    grids = grids_for((noisy.shape[0], noisy.shape[1]), frame.sampling_angstrom, 0.2)
    recorded = Recorded(electrons=noisy, law=POISSON, grids=grids)
    image = LatticeCandidate()(recorded)
    assert image.shape == grids.binned_shape
    assert np.isfinite(image).all()
    assert image.mean() / grids.area == pytest.approx(noisy.mean(), rel=0.02)

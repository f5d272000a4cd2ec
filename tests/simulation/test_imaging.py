"""From an exit wave to an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gdn.simulation.imaging import Optics, oversampled, read_wave, render, write_wave
from tests.helpers.needs import needs_training

pytestmark = needs_training


def test_vacuum_is_one_and_frames_agree_between_samplings(demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    empty = np.zeros_like(wave.spectrum)
    empty[0, 0] = wave.spectrum.shape[0] ** 2
    np.testing.assert_allclose(
        render(replace(wave, spectrum=empty), Optics(), 0.1, (50, 60)), 1, atol=1e-4
    )
    fine = render(wave, Optics(), 0.1, (160, 160))
    coarse = render(wave, Optics(), 0.4, (40, 40))
    summed = fine.reshape(40, 4, 40, 4).mean((1, 3))
    np.testing.assert_allclose(summed, coarse, atol=2e-3)


def test_patches_come_from_the_same_image_as_frames(demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    n = 320
    step = wave.cell_angstrom / n
    whole = oversampled(wave, Optics(), n, step)
    frame = render(
        wave,
        Optics(),
        step,
        (100, 100),
        origin_angstrom=(20 * step - step / 2, 40 * step - step / 2),
    )
    np.testing.assert_allclose(whole[20:120, 40:140], frame, atol=2e-3)


def test_defocus_changes_contrast_and_a_field_too_large_is_refused(demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    weak, strong = (
        render(wave, Optics(defocus_nm=d, spherical_um=0), 0.2, (200, 200)).std() for d in (0, 12)
    )
    assert strong > 1.3 * weak
    with pytest.raises(ValueError, match="larger than the simulated"):
        render(wave, Optics(), 0.1, (900, 900))


def test_waves_round_trip_and_damage_is_named(tmp_path: Path, demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    write_wave(tmp_path / "0_1.npz", wave)
    np.testing.assert_array_equal(read_wave(tmp_path / "0_1.npz").spectrum, wave.spectrum)
    (tmp_path / "0_1.npz").write_bytes(demo_wave.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"0_1.npz: not a stored exit wave"):
        read_wave(tmp_path / "0_1.npz")

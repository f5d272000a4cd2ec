"""Waves, images and noise made in torch, against the slower code that they replace: abTEM, NumPy
and scipy."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gdn[train]'")
needs_abtem = pytest.mark.skipif(
    importlib.util.find_spec("abtem") is None,
    reason="abTEM is not installed: pip install 'gdn[abtem]'",
)

from multislice import abtem_image, contrast_error, cut_to, torch_image

from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.models import SLOTS
from gdn.simulation.breadth import AnyCrystal, WavePool
from gdn.simulation.conditions import Draws, random_cuts
from gdn.simulation.detectors import observe
from gdn.simulation.imaging import WAVE_BAND, Optics, Wave, oversampled
from gdn.simulation.multislice import Beam, exit_wave, scattering_maps, slices
from gdn.simulation.renderer import (
    FINE,
    Cuts,
    Lens,
    cell_images,
    intensity_spectra,
    patches,
    pixel_averaged,
    spectra_of,
)
from gdn.simulation.scattering import HEAVIEST, projected_potential, wavelength_angstrom
from gdn.simulation.specimens import random_specimen
from gdn.simulation.structures import CELL_ANGSTROM, Structure, random_structure

CELL = CELL_ANGSTROM
WAVELENGTH = wavelength_angstrom(300e3)
OPTICS = [
    Optics(),
    Optics(
        defocus_nm=-12, spherical_um=2, astigmatism_nm=3, astigmatism_degrees=35, blur_angstrom=0.1
    ),
    Optics(
        defocus_nm=4,
        spherical_um=-12,
        astigmatism_nm=1.5,
        astigmatism_degrees=110,
        coma_nm=120,
        coma_degrees=200,
        trefoil_nm=90,
        trefoil_degrees=70,
        focal_spread_nm=4.5,
        source_mrad=0.25,
        blur_angstrom=0.3,
        camera_angstrom=0.25,
    ),
    Optics(
        defocus_nm=18,
        spherical_um=3,
        astigmatism_nm=2.5,
        astigmatism_degrees=170,
        coma_nm=250,
        coma_degrees=20,
        trefoil_nm=200,
        trefoil_degrees=115,
        focal_spread_nm=2.5,
        source_mrad=0.05,
        blur_angstrom=0.6,
    ),
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def small_wave():
    """Spectrum of the wave of a thin particle on its support, on a small grid."""
    return exit_wave(cut_to(random_structure(1), 14.0), Beam(grid=384), WAVE_BAND)


def empty_structure() -> Structure:
    return Structure(np.zeros(0, np.int64), np.zeros((0, 3)), np.array([CELL, CELL, 20.0]))


def one_atom(number: int) -> Structure:
    return Structure(np.array([number]), np.array([[20.3, 33.1, 1.0]]), np.array([CELL, CELL, 2.0]))


# Images.


def test_images_are_those_of_the_numpy_renderer():
    wave = Wave(
        spectrum=small_wave().numpy(),
        cell_angstrom=CELL,
        columns=np.zeros((0, 2), np.float32),
        weights=np.zeros(0, np.float32),
        record={},
    )
    pixels = [0.2, 0.4, 0.35, 0.1]
    spectra = intensity_spectra(
        small_wave().expand(len(OPTICS), -1, -1), Lens.of(OPTICS, WAVELENGTH), CELL
    )
    images = cell_images(pixel_averaged(spectra, torch.tensor(pixels), CELL), 256)
    for image, optics, pixel in zip(images, OPTICS, pixels, strict=True):
        expected = oversampled(wave, optics, 256, pixel)
        assert expected.std() > 0.01
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-4)


def test_a_camera_s_transfer_function_leaves_the_mean_and_lowers_the_contrast():
    lens = Lens.of([Optics()] * 2, WAVELENGTH)
    lens = replace(lens, camera=torch.tensor([0.0, 0.3]))
    sharp, soft = cell_images(intensity_spectra(small_wave().expand(2, -1, -1), lens, CELL))
    assert float(soft.mean()) == pytest.approx(float(sharp.mean()), abs=1e-5)
    assert float(soft.std()) < 0.9 * float(sharp.std())


def test_patches_are_those_of_scipy_s_splines():
    from scipy.ndimage import map_coordinates, spline_filter

    spectra = intensity_spectra(
        small_wave().expand(2, -1, -1), Lens.of(OPTICS[:2], WAVELENGTH), CELL
    )
    cuts = Cuts(
        image=torch.tensor([0, 1, 1]),
        centre=torch.tensor([[30.0, 35.0], [32.0, 32.0], [3.0, 61.0]]),
        angle=torch.tensor([0.0, 0.7, 2.9]),
        flip=torch.tensor([1.0, -1.0, 1.0]),
        pixel=torch.tensor([0.4, 0.3, 0.25]),
    )
    found = patches(spectra, cuts, 40, CELL)
    cells = cell_images(spectra, FINE).double().numpy()
    place = np.arange(40) - 19.5
    for i in range(3):
        angle, pixel = float(cuts.angle[i]), float(cuts.pixel[i])
        y, x = pixel * place[:, None], pixel * float(cuts.flip[i]) * place[None]
        rows = float(cuts.centre[i, 0]) + np.cos(angle) * y - np.sin(angle) * x
        columns = float(cuts.centre[i, 1]) + np.sin(angle) * y + np.cos(angle) * x
        coefficients = spline_filter(cells[int(cuts.image[i])], mode="grid-wrap")
        places = np.stack([rows, columns]) / (CELL / FINE)
        expected = map_coordinates(coefficients, places, mode="grid-wrap", prefilter=False)
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-4)


def test_random_cuts_stay_clear_of_the_cell_s_edge():
    draws = Draws.seeded(3, "cpu")
    pixel = torch.full((500,), 0.4)
    cuts = random_cuts(draws, torch.zeros(500, dtype=torch.int64), 128, pixel, CELL)
    reach = 0.4 * 64 * (cuts.angle.cos().abs() + cuts.angle.sin().abs())
    assert (
        float((cuts.centre - CELL / 2).abs().amax(1).add(reach).max()) <= CELL / 2 - 3 + 1.1
    )  # turning_room leaves 1 Å


def test_the_spectrum_of_a_cell_is_the_one_it_was_made_of():
    spectra = intensity_spectra(small_wave()[None], Lens.of(OPTICS[:1], WAVELENGTH), CELL)
    torch.testing.assert_close(
        spectra_of(cell_images(spectra), CELL), spectra, atol=1e-6, rtol=1e-4
    )


# Waves.


def thin_structures():
    """Name and structure (8 Å of it) of several specimens."""
    for seed in (5, 25):
        yield f"structure {seed}", cut_to(random_structure(seed), 8.0)
    for seed in (5, 15, 25, 55):
        yield f"specimen {seed}", cut_to(random_specimen(seed), 8.0)


@pytest.mark.slow
@needs_abtem
@pytest.mark.filterwarnings("ignore")
def test_waves_agree_with_abtem_to_a_hundredth_of_the_contrast():
    """abTEM deposits atoms bilinearly. The deposit's transform is (sin(pi k)/(pi k))^2 on each axis
    (k in cycles a pixel), but abTEM divides by sin(k)/k. That damps fine detail, by an amount that
    falls with the square of the pixel: of random_structure(1), 41 Å thick, its images at 768, 1536
    and 3072 px are 7.3, 1.7 and 0.6 % of the contrast off ours at 768 px, and extrapolated to
    pixels of no size 0.08 % off ours at 1536 px. So here abTEM, on 1536 px, divides by the
    transform itself."""
    errors = {}
    for name, structure in thin_structures():
        assert len(structure.numbers) > 50, name
        errors[name] = contrast_error(
            torch_image(structure), abtem_image(structure, 1536, exact_deposit=True)
        )
    assert max(errors.values()) < 0.01, errors


@pytest.mark.slow
@needs_abtem
@pytest.mark.filterwarnings("ignore")
def test_abtem_as_it_is_comes_nearer_with_a_finer_grid():
    structure = cut_to(random_structure(25), 8.0)
    ours = torch_image(structure, 1536)
    coarse, fine = (contrast_error(ours, abtem_image(structure, grid)) for grid in (768, 1536))
    assert fine < 0.4 * coarse
    assert fine < 0.02


def test_a_coarser_grid_changes_little():
    structure = cut_to(random_specimen(5), 8.0)
    assert contrast_error(torch_image(structure, 640), torch_image(structure, 1024)) < 0.01


def test_without_absorption_no_electron_is_lost():
    structure = cut_to(random_structure(1), 24.0)
    wave = exit_wave(structure, Beam(grid=512), 3.9)
    n = wave.shape[-1]
    assert float((wave.abs() ** 2).sum()) / n**4 == pytest.approx(1, abs=0.01)
    absorbed = exit_wave(structure, Beam(grid=512, absorption=0.5), 3.9)
    assert float((absorbed.abs() ** 2).sum()) < 0.98 * float((wave.abs() ** 2).sum())


def test_an_empty_structure_leaves_the_plane_wave():
    wave = exit_wave(empty_structure(), Beam(grid=384), WAVE_BAND)
    torch.testing.assert_close(torch.fft.ifft2(wave), torch.ones_like(wave))


def test_the_potential_of_an_atom_sums_to_its_scattering_at_rest():
    for number in (6, 78):
        potential = slices(one_atom(number), Beam(grid=384), "cpu")
        assert potential.shape == (1, 384, 384)
        expected = projected_potential(number, np.zeros(1))[0]
        assert float(potential.double().sum()) * (CELL / 384) ** 2 == pytest.approx(
            expected, rel=1e-4
        )
        row, column = np.unravel_index(int(potential.argmax()), (384, 384))
        assert (row, column) == (round(33.1 * 6), round(20.3 * 6))  # axis 0 is y


@pytest.mark.parametrize(
    ("kilovolts", "expected"), [(300, 0.0196875), (200, 0.0250793), (80, 0.0417572)]
)
def test_the_wavelength_is_the_tables(kilovolts, expected):
    assert wavelength_angstrom(1e3 * kilovolts) == pytest.approx(expected, rel=1e-5)


def test_a_stored_wave_is_imaged_at_its_own_voltage():
    spectrum = small_wave()
    columns, weights = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    for record, kilovolts in (({}, 300), ({"energy_kv": 80.0}, 80)):
        image = oversampled(
            Wave(
                spectrum=spectrum.numpy(),
                cell_angstrom=CELL,
                columns=columns,
                weights=weights,
                record=record,
            ),
            Optics(),
            256,
            0.4,
        )
        lens = Lens.of([Optics()], wavelength_angstrom(1e3 * kilovolts))
        other = cell_images(
            pixel_averaged(
                intensity_spectra(spectrum[None], lens, CELL), torch.tensor([0.4]), CELL
            ),
            256,
        )
        np.testing.assert_allclose(image, other[0].numpy(), atol=2e-4)


def test_an_element_beyond_bismuth_is_refused():
    with pytest.raises(ValueError, match=r"element 92.*Bi"):
        exit_wave(one_atom(92), Beam(grid=128), WAVE_BAND)
    with pytest.raises(ValueError, match="element 0"):
        projected_potential(0, np.zeros(1))


def test_every_specimen_can_be_simulated():
    assert max(int(random_specimen(seed).numbers.max()) for seed in range(40)) <= HEAVIEST


def test_scattering_maps_are_the_columns():
    maps = scattering_maps(one_atom(14), 0.3, WAVE_BAND)
    n = maps.shape[-1]
    for power, spectrum in zip((1.7, 0.8), maps, strict=True):
        assert float(spectrum[0, 0].real) == pytest.approx(14**power / CELL**2 * n**2, rel=1e-3)
        image = torch.fft.ifft2(spectrum).real
        row, column = np.unravel_index(int(image.argmax()), (n, n))
        assert abs(row - 33.1 * n / CELL) < 1
        assert abs(column - 20.3 * n / CELL) < 1


# Any crystal.


def any_crystal(seed: int, pool: WavePool | None = None) -> AnyCrystal:
    return AnyCrystal(draws=Draws.seeded(seed, "cpu"), batch=6, patch=48, pool=pool)


def test_patches_of_any_crystal_are_bounded_and_a_seed_repeats_them():
    first, second, other = any_crystal(1).draw(), any_crystal(1).draw(), any_crystal(2).draw()
    assert first.shape == (12, 1, 48, 48)
    assert torch.isfinite(first).all()
    assert float(first.min()) > 0
    torch.testing.assert_close(first.mean((1, 2, 3)), torch.ones(12))
    assert float(first.flatten(1).std(1).max()) > 0.02
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_full_pool_replaces_its_oldest_wave():
    pool = WavePool(2, "cpu", grid=128)
    for number in (6, 14, 79):
        pool.add(one_atom(number), 80e3)
    assert (pool.count, pool.filled) == (3, 2)
    assert torch.equal(
        pool.waves[0], exit_wave(one_atom(79), Beam(energy_ev=80e3, grid=128), WAVE_BAND)
    )
    source = any_crystal(4, pool)
    assert all(torch.isfinite(source.draw()).all() for _ in range(3))


# Noise.


def test_noisy_frames_have_their_shapes_and_a_seed_repeats_them():
    clean = 1 + 0.2 * torch.rand(40, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    seen, again = (observe(clean, Draws.seeded(5, "cpu")) for _ in range(2))
    assert seen.frames.shape == seen.mask.shape == (40, SLOTS, 32, 48)
    assert seen.dose.shape == (40,)
    assert torch.isfinite(seen.frames).all()
    assert set(seen.mask.unique().tolist()) <= {0.0, 1.0}
    assert (seen.mask[:, 0].flatten(1).sum(1) > 0).all()
    single = (seen.mask[:, 1:].flatten(1).sum(1) == 0).float().mean()
    assert 0.3 < float(single) < 0.9
    for name in ("frames", "mask", "dose"):
        assert torch.equal(getattr(seen, name), getattr(again, name))


@pytest.mark.slow
def test_the_mean_of_many_noisy_frames_is_the_clean_patch():
    y = torch.arange(24) / 24
    clean = (1 + 0.3 * torch.sin(2 * torch.pi * y)[None, :, None] * torch.ones(1, 24, 24))[None]
    many = clean.expand(4000, 1, 24, 24)
    seen = observe(many, Draws.seeded(6, "cpu"))
    weight = seen.dose[:, None, None]  # the variance is about 1 / dose
    mean = (seen.frames[:, 0] * weight).sum(0) / weight.sum(0)
    # Slot 0 does not move but for the jitter of its lines, which this patch does not show.
    assert float((mean - clean[0, 0]).abs().max()) < 0.01


# The restorer.


def small_restorer(trained: bool) -> tuple[Restorer, Any, Any]:
    torch.manual_seed(0)
    network = Restorer(RestorerShape((8, 16), (1, 1))).eval()
    if trained:
        torch.nn.init.normal_(network.leave.weight, std=0.3)
    seen = observe(1 + torch.rand(3, 1, 32, 32), Draws.seeded(7, "cpu"))
    return network, seen.frames, seen.mask


def test_the_restorer_follows_gain_and_offset():
    network, frames, mask = small_restorer(trained=True)
    with torch.no_grad():
        plain = network(frames, mask)
        for gain, offset in ((1.0, 30.0), (25.0, 0.0), (0.01, -0.2)):
            expected = gain * plain + offset
            torch.testing.assert_close(
                network(gain * frames + offset, mask), expected, rtol=1e-3, atol=1e-3 * gain
            )
    assert plain.shape == (3, 1, 32, 32)
    assert float(plain.std()) > 0.01


def test_an_untrained_restorer_returns_the_mean_of_the_frame():
    network, frames, mask = small_restorer(trained=False)
    with torch.no_grad():
        found = network(frames, mask)
    mean = (frames[:, 0] * mask[:, 0]).sum((1, 2)) / mask[:, 0].sum((1, 2))
    torch.testing.assert_close(found, mean[:, None, None, None].expand_as(found))


def test_pixels_that_are_not_valid_change_nothing():
    network, frames, mask = small_restorer(trained=True)
    with torch.no_grad():
        plain = network(frames, mask)
        other = network(torch.where(mask > 0, frames, 77.0 * torch.ones_like(frames)), mask)
    torch.testing.assert_close(plain, other, rtol=1e-3, atol=1e-4)

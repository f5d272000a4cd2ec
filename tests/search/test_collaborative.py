"""The collaborative filter, alone and as a candidate of the mixture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.engines.restorer import RestorerSession
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON, Array, NoiseLaw
from gdn.search import collaborative
from gdn.search.collaborative import (
    LEAST,
    CollaborativeCandidate,
    best_pixel,
    filter_collaboratively,
    invert_stabilise,
    stabilise,
)
from gdn.search.restored import RestorerCandidate
from gdn.search.thinning import Recorded


@pytest.fixture(scope="module")
def lattice() -> Array:
    """Columns 7 and 8 px apart on a slope, (96, 88)."""
    y, x = np.mgrid[:96, :88].astype(np.float32)
    return np.asarray(
        np.cos(2 * np.pi * x / 7) * np.cos(2 * np.pi * y / 8) + 0.01 * y, dtype=np.float32
    )


@pytest.fixture(scope="module")
def noisy(lattice: Array) -> Array:
    return lattice + np.random.default_rng(0).normal(size=lattice.shape).astype(np.float32)


def rms(image: Array) -> float:
    return float(np.sqrt(np.square(image).mean()))


def test_a_lattice_comes_out_better_than_by_any_blur(lattice: Array, noisy: Array) -> None:
    blurred = min(rms(gaussian_filter(noisy, s) - lattice) for s in (0.5, 0.75, 1.0, 1.5, 2.0, 4.0))
    assert rms(filter_collaboratively(noisy) - lattice) < 0.5 * blurred


def test_noise_alone_becomes_flat() -> None:
    noise = np.random.default_rng(1).normal(size=(80, 80)).astype(np.float32)
    assert rms(filter_collaboratively(noise)) < 0.15


def test_an_offset_comes_back_and_a_small_image_is_its_mean(noisy: Array) -> None:
    np.testing.assert_allclose(
        filter_collaboratively(noisy + 50) - 50, filter_collaboratively(noisy), atol=0.03
    )
    small = noisy[: LEAST - 1]
    assert (filter_collaboratively(small) == small.mean()).all()


def test_a_better_image_as_a_guide_helps(lattice: Array, noisy: Array) -> None:
    guided = filter_collaboratively(noisy, lattice)
    assert rms(guided - lattice) < 0.95 * rms(filter_collaboratively(noisy) - lattice)
    # It only says what is alike: another lattice's image is not what comes out.
    wrong = filter_collaboratively(noisy, np.ascontiguousarray(lattice[::-1, ::-1] * 3))
    assert rms(wrong - lattice) < 0.5 * rms(noisy - lattice)


def with_adatom(lattice: Array, height: float) -> tuple[Array, Array]:
    """The lattice with a spot between its columns, and where it is."""
    y, x = np.mgrid[: lattice.shape[0], : lattice.shape[1]]
    near = ((y - 45) ** 2 + (x - 40) ** 2).astype(np.float32)
    return lattice + height * np.exp(-near / (2 * 1.4**2)), near < 4


def test_what_stands_out_of_its_group_is_kept(lattice: Array, noisy: Array) -> None:
    planted, here = with_adatom(lattice, 4.0)
    image = filter_collaboratively(noisy + (planted - lattice))
    assert (image - lattice)[here].mean() > 0.7 * (planted - lattice)[here].mean()
    elsewhere = np.abs(image - filter_collaboratively(noisy))
    assert elsewhere[:20].max() < 0.1  # and nothing else changes


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 4.0), (0.0, 9.0)])
def test_stabilised_noise_has_deviation_one_and_the_inverse_no_bias(
    alpha: float, beta: float
) -> None:
    rng = np.random.default_rng(2)
    for mean in (8.0, 30.0, 200.0):
        draws = (alpha * rng.poisson(mean, 200_000) if alpha else np.full(200_000, mean)) + np.sqrt(
            beta
        ) * rng.normal(size=200_000)
        law = NoiseLaw(alpha, beta)
        values = stabilise(draws.astype(np.float32), law)
        assert values.std() == pytest.approx(1, abs=0.03)
        assert invert_stabilise(np.array([values.mean()], np.float32), law)[0] == pytest.approx(
            mean, rel=5e-3
        )


def test_contrast_that_varies_over_a_particle_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does with thickness. A group of many blocks averages it away."""
    y, x = np.mgrid[:128, :128]
    waves = np.cos(2 * np.pi * (0.131 * y + 0.02 * x)) + np.cos(2 * np.pi * (0.137 * x - 0.03 * y))
    true = (waves * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / (2 * 25**2))).astype(np.float32)
    errors = []
    for put_back in (True, False):
        if not put_back:
            monkeypatch.setattr(collaborative, "fit_waves", lambda image, *_: np.zeros_like(image))
        images = [
            filter_collaboratively(true + np.random.default_rng(seed).normal(size=true.shape))
            for seed in range(4)
        ]
        errors.append(np.mean([np.square(image - true).mean() for image in images]))
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("shape", [(430, 391), (97, 230)])
def test_the_candidate_works_on_any_shape(shape: tuple[int, int]) -> None:
    frame = demo_frames()[0]
    clean = np.ascontiguousarray(frame.image[: shape[0], : shape[1]])
    counts = DEMO_NOISE.apply(clean, 3)
    grids = grids_for(shape, frame.sampling_angstrom, 0.4)
    image = CollaborativeCandidate()(Recorded(electrons=counts, law=POISSON, grids=grids))
    assert image.shape == grids.binned_shape
    assert image.mean() / grids.area == pytest.approx(counts.mean(), rel=0.01)


class CountingSession:
    """A restorer's session that counts its runs; its image is the counts'."""

    def __init__(self, model: object) -> None:
        self.model, self.runs = model, 0

    def restore(self, counts: Array, turns: int) -> Array:
        self.runs += 1
        return counts[0]


def test_the_guide_is_made_once_for_the_same_counts(restorer_session: RestorerSession) -> None:
    session = CountingSession(restorer_session.model)
    restorer = RestorerCandidate(session)
    guided = CollaborativeCandidate(restorer)
    frame = demo_frames()[0]
    counts = DEMO_NOISE.apply(np.ascontiguousarray(frame.image[:200, :180]), 3)
    grids = grids_for((200, 180), frame.sampling_angstrom, 0.4)
    recorded, same = (Recorded(electrons=counts, law=POISSON, grids=grids) for _ in range(2))
    for candidate in (guided, restorer, guided):
        candidate(recorded)
    assert session.runs == 1
    restorer(same)
    assert session.runs == 2
    assert guided.identity != CollaborativeCandidate().identity
    assert restorer.identity in guided.identity


def counts_of(dose: float, pixel: float, rng: np.random.Generator) -> Recorded:
    """A flat frame of `dose` electrons per Å^2."""
    counts = rng.poisson(dose * pixel**2, (300, 300)).astype(np.float32)
    return Recorded(electrons=counts, law=POISSON, grids=grids_for((300, 300), pixel, 0.4))


def test_pixels_are_finer_at_a_higher_dose(rng: np.random.Generator) -> None:
    pixels = [best_pixel(counts_of(dose, 0.06, rng)) for dose in (1, 12, 120, 1200, 1e6)]
    assert pixels == sorted(pixels, reverse=True)
    assert pixels[0] == 0.5
    assert pixels[2] == pytest.approx(0.35, rel=0.01)
    assert pixels[-1] == 0.2
    # Not of the frame's own pixel, and not of how often its counts were thinned.
    assert best_pixel(counts_of(120, 0.1, rng)) == pytest.approx(0.35, rel=0.01)
    whole = counts_of(1200, 0.06, rng)
    _, first = whole.split(1)
    assert best_pixel(first) == pytest.approx(best_pixel(whole), rel=0.002)


def test_noise_that_is_no_counting_noise_has_the_pixel_of_as_many_electrons(
    rng: np.random.Generator,
) -> None:
    counts = counts_of(1200, 0.06, rng)
    mean = float(counts.electrons.mean())
    same = replace(counts, law=NoiseLaw(0.0, mean))
    assert best_pixel(same) == pytest.approx(best_pixel(counts), rel=0.001)

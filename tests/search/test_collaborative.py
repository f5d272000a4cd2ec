"""The collaborative filter, alone and as a candidate of the mixture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON, Array, NoiseLaw
from gdn.search import collaborative
from gdn.search.collaborative import (
    CollaborativeCandidate,
    filter_collaboratively,
    invert_stabilise,
    stabilise,
)
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
    small = noisy[: collaborative.LEAST - 1]
    assert (filter_collaboratively(small) == small.mean()).all()


def test_strips_do_not_show(noisy: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filter_collaboratively(noisy)
    monkeypatch.setattr(collaborative, "STRIP", 100)
    np.testing.assert_allclose(filter_collaboratively(noisy), whole, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 52), (37, 16), (43, 30)])
def test_distances_are_those_of_the_blocks(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    top, left = collaborative.references(shape[0]), collaborative.references(shape[1])
    reach, block = collaborative.REACH, collaborative.BLOCK
    found = collaborative.distances(image, top, left).reshape(
        2 * reach + 1, 2 * reach + 1, len(top), len(left)
    )
    for i, j in ((0, 0), (len(top) - 1, len(left) - 1), (1, len(left) - 1)):
        y, x = top[i], left[j]
        for dy, dx in ((0, 3), (-4, 1), (5, -2), (9, 9), (-30, 0)):
            inside = 0 <= y + dy <= shape[0] - block and 0 <= x + dx <= shape[1] - block
            own, other = (
                image[y : y + block, x : x + block],
                image[y + dy :, x + dx :][:block, :block] if inside else np.inf,
            )
            assert found[reach + dy, reach + dx, i, j] == pytest.approx(
                float(np.square(own - other).mean()), rel=1e-5
            )
    assert (found[reach, reach] == -1).all()


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


@pytest.mark.parametrize("shape", [(430, 391), (97, 230)])
def test_the_candidate_works_on_any_shape(shape: tuple[int, int]) -> None:
    frame = demo_frames()[0]
    clean = np.ascontiguousarray(frame.image[: shape[0], : shape[1]])
    counts = DEMO_NOISE.apply(clean, 3)
    grids = grids_for(shape, frame.sampling_angstrom, 0.4)
    image = CollaborativeCandidate()(Recorded(electrons=counts, law=POISSON, grids=grids))
    assert image.shape == grids.binned_shape
    assert image.mean() / grids.area == pytest.approx(counts.mean(), rel=0.01)

"""Where a mixture owes its contrast to which candidate."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from gdn.search.band_mixture import CENTRES, Mixing
from gdn.search.share_map import LONGEST, map_shares

SAMPLING = (0.4, 0.4)


def mixing_of(weights: list[float]) -> Mixing:
    """The same weights in all bands."""
    each = np.tile(weights, (len(CENTRES), 1))
    return Mixing(
        names=("generator", "filter", "restore")[: len(weights)],
        weights=each,
        prior=each[0],
        gain=np.zeros(len(CENTRES)),
        alone=np.zeros_like(each),
        contrast=np.full(len(CENTRES), 1 / len(CENTRES)),
    )


def texture(rng: np.random.Generator, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    image = gaussian_filter(rng.standard_normal(shape), 1.5)
    return (20 + image / image.std()).astype(np.float32)


def test_candidates_alike_have_their_weights_everywhere(rng: np.random.Generator) -> None:
    image = texture(rng)
    found = map_shares([image, image, image], mixing_of([0.2, 0.0, 0.8]), SAMPLING)
    assert found is not None
    assert found.names == ("restore", "generator")  # the largest first, those of none left out
    assert np.abs(found.shares[0] / 255 - 0.8).max() < 0.01
    np.testing.assert_allclose(found.overall, (0.8, 0.2))


def test_each_has_the_half_that_it_drew(rng: np.random.Generator) -> None:
    left, right = texture(rng), texture(rng)
    left[:, 80:], right[:, :80] = 20, 20
    found = map_shares([left, right], mixing_of([0.5, 0.5]), SAMPLING)
    assert found is not None
    own = found.shares[found.names.index("generator")] / 255
    assert own[:, :60].mean() > 0.9
    assert own[:, 100:].mean() < 0.1
    assert found.shares.dtype == np.uint8
    assert abs(found.shares.astype(int).sum(0) - 255).max() <= 1


def test_flat_places_have_no_contrast(rng: np.random.Generator) -> None:
    image = texture(rng)
    image[:, 80:] = 20
    found = map_shares([image, image], mixing_of([0.5, 0.5]), SAMPLING)
    assert found is not None
    assert np.median(found.contrast[:, :60]) > 200
    assert np.median(found.contrast[:, 110:]) < 10


def test_one_candidate_alone_has_no_map(rng: np.random.Generator) -> None:
    image = texture(rng)
    assert map_shares([image, image], mixing_of([1.0, 0.0]), SAMPLING) is None
    assert map_shares([image, image], mixing_of([0.999, 0.001]), SAMPLING) is None


def test_a_large_frame_has_a_small_map(rng: np.random.Generator) -> None:
    image = texture(rng, (611, 300))
    found = map_shares([image, image], mixing_of([0.4, 0.6]), SAMPLING)
    assert found is not None
    assert found.shares.shape == (2, 204, 100)
    assert max(found.shares.shape) <= LONGEST
    assert np.abs(found.shares[0] / 255 - 0.6).max() < 0.01

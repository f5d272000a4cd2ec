"""Where the counts show nothing, nothing is added to the generator's image."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.likelihood import POISSON
from gdn.search.flat_places import (
    LEVELS,
    MixtureRecipe,
    Weighing,
    choose_recipe,
    structure_weight,
)
from gdn.search.held_out_shares import Choice
from gdn.search.mixture_weights import OWN
from gdn.search.thinning import Split, split

SAMPLING = (0.4, 0.4)
DOSE = 19.0
SIDE = 96
FLAT, LATTICE = np.s_[:, 60:], np.s_[:, :36]


def half_lattice() -> np.ndarray:
    """Columns 2.4 Å apart in the left half of the field, nothing in the right."""
    y, x = np.indices((SIDE, SIDE))
    wave = np.cos(2 * np.pi * x / 6) * np.cos(2 * np.pi * y / 6)
    return np.where(x < SIDE // 2, DOSE * (1 + 0.15 * wave), DOSE).astype(np.float32)


def ripples(rng: np.random.Generator, size: float) -> np.ndarray:
    return (size * DOSE * rng.standard_normal((SIDE, SIDE))).astype(np.float32)


@pytest.fixture
def parts(rng: np.random.Generator) -> Split:
    return split(rng.poisson(half_lattice()).astype(np.float32), POISSON, seed=1)


def candidates(parts: Split, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The generator's flat image of the first part; and, from the truth with ripples everywhere,
    what generator and filter make with all that they add."""
    share = np.float32(parts.share)
    guess = np.full((SIDE, SIDE), DOSE * share, np.float32)
    return guess, [share * (half_lattice() + ripples(rng, 0.03)) for _ in range(2)]


def test_the_weight_is_large_only_where_there_is_structure() -> None:
    sigma = np.full((SIDE, SIDE), np.sqrt(DOSE), np.float32)
    weight = structure_weight(half_lattice(), sigma, 0.02, SAMPLING)
    assert weight[LATTICE].min() > 0.9
    assert weight[FLAT].max() < 0.05
    assert 0 <= weight.min() <= weight.max() <= 1


def weighing(names: tuple[str, ...], **more) -> Weighing:
    return Weighing(names=names, choice=Choice(), sampling=SAMPLING, **more)


def test_held_out_counts_choose_to_add_nothing_to_flat_places(
    parts: Split, rng: np.random.Generator
) -> None:
    guess, images = candidates(parts, rng)
    recipe = choose_recipe(parts, images, guess, weighing(OWN))
    assert recipe.level > 0
    made = recipe.structured(images, guess, parts.law.deviation(guess))
    before, after = (np.std(image[FLAT] - guess[FLAT]) for image in (images[0], made[0]))
    assert after < 0.3 * before
    lost = np.std((made[0] - images[0])[LATTICE])
    assert lost < 0.2 * np.std((images[0] - guess)[LATTICE])


def test_structure_that_only_the_filter_draws_is_kept(
    parts: Split, rng: np.random.Generator
) -> None:
    """Weak structure everywhere: a level above it would lose it, and the held-out counts say so."""
    y, x = np.indices((256, 256))
    clean = DOSE * (1 + 0.07 * np.cos(2 * np.pi * x / 6) * np.cos(2 * np.pi * y / 6))
    whole = split(rng.poisson(clean).astype(np.float32), POISSON, seed=2)
    guess = np.full(clean.shape, DOSE * whole.share, np.float32)
    image = (clean * whole.share).astype(np.float32)
    power = 0.07**2 / 4 * DOSE * whole.share
    recipe = choose_recipe(whole, [image, image], guess, weighing(OWN))
    assert recipe.level < power < LEVELS[-1]


def test_learned_candidates_are_left_alone(parts: Split, rng: np.random.Generator) -> None:
    guess, images = candidates(parts, rng)
    sigma = parts.law.deviation(guess)
    names = (*OWN, "collaborative", "restore")
    four = [*images, *images]
    recipe = choose_recipe(parts, four, guess, weighing(names))
    assert recipe.mixing is not None
    made = recipe.structured(four, guess, sigma)
    assert made[3] is four[3]
    for plain in made[:3]:
        assert np.abs(plain - guess)[FLAT].max() < np.abs(four[3] - guess)[FLAT].max()
    nothing = MixtureRecipe(names=OWN, share=0.0, sampling=SAMPLING)
    assert nothing.structured(images, guess, sigma) == images


def test_a_frame_of_a_movie_gets_the_filters_everywhere(
    parts: Split, rng: np.random.Generator
) -> None:
    """The evidence of the other frames is of images with the filters everywhere."""
    guess, images = candidates(parts, rng)
    assert choose_recipe(parts, images, guess, weighing(OWN)).level > 0
    assert choose_recipe(parts, images, guess, weighing(OWN, beside=())).level == 0

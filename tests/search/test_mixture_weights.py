"""Weights of candidates from what held-out counts say of them."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.search.mixture_weights import (
    Evidence,
    average_of_sets,
    least_on_simplex,
    weigh_bands,
)

Form = tuple[np.ndarray, np.ndarray]


def form(errors: list[list[float]]) -> Form:
    """Gram matrix and linear part of candidates with these errors: vectors, their squared length
    in nats. Gains are counted from the first."""
    values = np.array(errors, float)
    offsets, target = values - values[0], -values[0]
    return offsets @ offsets.T, offsets @ target


def evidence(forms: list[Form]) -> Evidence:
    count = len(forms[0][1])
    return Evidence(
        names=("generator", "filter", "restore", "another")[:count],
        prior=np.eye(count)[0],
        grams=np.array([gram for gram, _ in forms]),
        linears=np.array([linear for _, linear in forms]),
        contrast=np.ones(len(forms)),
    )


def test_one_that_is_far_better_gets_all() -> None:
    weights = average_of_sets(*form([[9, 0], [0, 9], [0.1, 0.1]]))
    np.testing.assert_allclose(weights, [0, 0, 1], atol=1e-6)


def test_two_whose_errors_cancel_share() -> None:
    weights = average_of_sets(*form([[9, 9], [6, -1], [-6, 1]]))
    np.testing.assert_allclose(weights, [0, 0.5, 0.5], atol=0.01)


def test_counts_that_say_nothing_choose_nothing() -> None:
    """Of a frame of a few electrons no candidate is taken alone."""
    weights = average_of_sets(np.zeros((3, 3)), np.zeros(3))
    assert weights.max() < 0.6
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[2]  # the first two have the benefit of the doubt


@pytest.mark.parametrize("nats", [0.5, 2.0, 8.0])
def test_the_share_follows_the_odds(nats: float) -> None:
    """Of two candidates beside a hopeless one, at the same place but for `nats`."""
    worse = np.sqrt(1 + nats)
    weights = average_of_sets(*form([[99.0], [99.0], [worse], [1.0]]))
    odds = np.exp(-nats)
    share = odds / (1 + odds)
    assert weights[2] == pytest.approx(share if share >= 0.05 else 0, abs=0.01)


def test_what_explains_nothing_has_no_small_part() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = average_of_sets(*form(rng.normal(size=(4, 8)).tolist()))
        assert ((weights == 0) | (weights >= 0.05)).all()
        assert weights.sum() == pytest.approx(1)


def test_the_best_of_all_sets_is_the_minimum_on_the_simplex() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        gram, linear = form(rng.normal(size=(4, 8)).tolist())
        best = least_on_simplex(gram, linear)
        others = rng.dirichlet(np.ones(4), 2000)
        gains = 2 * others @ linear - np.einsum("ni,ij,nj->n", others, gram, others)
        assert 2 * linear @ best - best @ gram @ best >= gains.max() - 1e-9


def test_other_bands_count_a_little() -> None:
    """A band of which the counts say nothing takes what they say of others; one of which they say
    enough does not."""
    nothing, third = (np.zeros((3, 3)), np.zeros(3)), form([[9, 0], [0, 9], [0, 0]])
    first = form([[0, 0], [0, 9], [9, 0]])
    weights, _, _ = weigh_bands(evidence([nothing, third, first]))
    assert weights[1, 2] > 0.8
    assert weights[2, 0] > 0.8
    alone, _, _ = weigh_bands(evidence([nothing, third, nothing]))
    assert alone[0, 2] > 0.8

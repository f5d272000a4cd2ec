"""Gauss-Newton steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, TileData
from gdn.models import find_model
from gdn.models.graphs import STEP_ITERATIONS
from gdn.restarts import restart_latents
from gdn.search import candidates as refinement
from gdn.search.laplace import curvature, linearise
from gdn.search.objective import Objective, conjugate_gradients
from gdn.search.refine import take_newton_steps


@pytest.fixture(scope="module")
def turned_starts() -> tuple[TileData, refinement.Candidates, np.ndarray]:
    """Counts at 19 electrons a pixel of four generated patches, the encoder's guesses of them, and
    the truth."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(11, range(4), 128))
        data = TileData(
            np.random.default_rng(4).poisson(19 * truth).astype(np.float32),
            np.ones_like(truth),
            POISSON,
        )
        z = engine.encode(data.counts / np.float32(19), np.full(4, 19**-0.5, np.float32))
        assert z is not None
        starts = refinement.start(z, np.arange(4), np.array([0, 1, 4, 7]), 19, np.zeros(4, bool))
        return data, refinement.evaluate(engine, data, starts), truth


@pytest.mark.slow
def test_many_conjugate_gradient_iterations_are_the_gauss_newton_step(turned_starts: Any) -> None:
    data, starts, _ = turned_starts
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        objective = Objective(engine, data)
        theta = np.concatenate([starts.z, starts.nuisance], 1)
        point = objective.at(theta)
        step = conjugate_gradients(objective, theta, point, 200)
        for i in range(2):
            one = Objective(engine, data.take(np.array([i])))
            mu, derivative = linearise(one, theta[i])
            h = curvature(mu, derivative, one.data)
            exact = -np.linalg.solve(h, point.gradient[i].astype(np.float64))
            assert np.linalg.norm(step.direction[i] - exact) < 0.02 * np.linalg.norm(exact)
            assert step.curvature[i] == pytest.approx(exact @ h @ exact, rel=0.02)
        few = [conjugate_gradients(objective, theta, point, k).promised(1.0) for k in (1, 2, 4, 8)]
        assert (np.diff(few, axis=0) > 0).all()  # each iteration promises more than the one before
        free, damped = (
            conjugate_gradients(objective, theta, point, 3, d).direction[:, :128]
            for d in (0.0, 1000.0)
        )
        assert (np.linalg.norm(damped, axis=1) < 0.5 * np.linalg.norm(free, axis=1)).all()


def test_gauss_newton_lowers_the_objective_and_the_error(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, starts, truth = turned_starts
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        starts = refinement.evaluate(engine, data, starts)
        found = take_newton_steps(engine, data, starts, 1, 2)
        assert (found.objective < starts.objective).all()
        monkeypatch.setattr(refinement, "BATCH_PIXELS", 1)
        alone = take_newton_steps(engine, data, starts, 1, 2)
        monkeypatch.undo()
        np.testing.assert_allclose(alone.objective, found.objective, atol=0.05)
        again = refinement.evaluate(engine, data, replace(found, nuisance=found.nuisance.copy()))
        assert (
            found.objective < again.objective + 0.5
        ).all()  # what is reported belongs to the latents

    def error(c: refinement.Candidates) -> float:
        return float(((c.mean / 19 - truth) ** 2).mean())

    assert error(found) < error(starts)


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_a_step_in_one_graph_is_the_step_by_products(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    data, starts, _ = turned_starts
    with open_engine(find_model("pt-ceo2-64"), name, "cpu", threads=1) as engine:
        whole = [
            take_newton_steps(engine, data, starts, 2, STEP_ITERATIONS, damping)
            for damping in (0.0, 100.0)
        ]
        monkeypatch.setattr(
            type(engine), "step", lambda *_: None
        )  # as of a model that has no such graph
        parts = [
            take_newton_steps(engine, data, starts, 2, STEP_ITERATIONS, damping)
            for damping in (0.0, 100.0)
        ]
    for mine, theirs in zip(whole, parts, strict=True):
        assert (mine.objective < starts.objective).all()
        np.testing.assert_allclose(mine.objective, theirs.objective, atol=0.05)
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=2e-3)
        np.testing.assert_allclose(mine.z, theirs.z, atol=2e-3 * np.abs(theirs.z).max())


def test_a_step_starts_from_where_a_candidate_stands(turned_starts: Any) -> None:
    data, starts, _ = turned_starts
    unknown = refinement.start(starts.z, starts.tile, starts.symmetry, 19, np.zeros(4, bool))
    unknown = replace(unknown, nuisance=starts.nuisance)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        found = [
            take_newton_steps(engine, data, some, 1, STEP_ITERATIONS) for some in (starts, unknown)
        ]
        still = take_newton_steps(engine, data, unknown, 0, STEP_ITERATIONS)
    np.testing.assert_allclose(found[0].objective, found[1].objective, atol=1e-3)
    np.testing.assert_array_equal(found[0].z, found[1].z)
    np.testing.assert_allclose(still.objective, starts.objective, atol=1e-3)
    np.testing.assert_allclose(still.mean, starts.mean, rtol=1e-5)


def test_a_step_that_breaks_its_promise_is_shortened_or_not_taken(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, starts, _ = turned_starts
    taken: list[int] = []

    def far(self: Objective, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken.append(len(theta))
        return np.zeros((len(theta), 64, 64), np.float32), np.full(len(theta), 1e9)

    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        monkeypatch.setattr(Objective, "mean_and_value", far)
        found = take_newton_steps(engine, data, starts, 1, 2)
    assert taken == [4, 4, 4, 4]
    np.testing.assert_array_equal(found.z, starts.z)
    np.testing.assert_allclose(found.objective, starts.objective, atol=0.05)


def test_a_step_that_overflows_leaves_its_candidate_alone(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    data, starts, _ = turned_starts

    def overflowing(
        self: Objective, theta: np.ndarray, point: Any, tangent: np.ndarray
    ) -> np.ndarray:
        out = np.zeros((len(theta), *self.data.counts.shape[1:]), np.float32)
        out[0] = np.inf
        return out

    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        monkeypatch.setattr(Objective, "push_forward", overflowing)
        found = take_newton_steps(engine, data, starts, 1, 2, 100.0)
    np.testing.assert_array_equal(found.z[0], starts.z[0])
    assert np.isfinite(found.objective).all()
    assert np.isfinite(found.mean).all()

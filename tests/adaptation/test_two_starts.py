"""Two starts: each learns, the better one by kept counts has the rest of the time, and both are
models."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the adapt extra (torch)")

import torch

from gdn.adaptation.learn import Learning, LearningSettings
from gdn.adaptation.lessons import Lesson, error_nats, lesson_of
from gdn.adaptation.model_folder import (
    NOTHING,
    SMALL,
    SMALL_ANGSTROM,
    network_of,
    write_adapted,
)
from gdn.adaptation.steps import images
from gdn.adaptation.two_starts import leader, learn_from, small_network, small_settings
from gdn.engines.restorer import RestorerSession
from gdn.frames.noise import parse_noise
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.interruption import interrupted, remember_signals
from gdn.models import ANEW, RestorerModel, find_any, learned_models

SETTINGS = LearningSettings(steps=20, rate=3e-3, window=48, look_every=2, threads=1)


@pytest.fixture
def lesson(rng: np.random.Generator) -> Lesson:
    y, x = np.mgrid[:96, :112]
    counts = rng.poisson(30 * (1 + 0.4 * np.cos(y) * np.cos(x))).astype(np.float32)
    return lesson_of(counts, 0.35, 0.35, parse_noise("poisson"), 0)


def network() -> Restorer:
    torch.manual_seed(0)
    return Restorer(RestorerShape((16, 32), (1, 1)))


def test_each_start_takes_its_steps(lesson: Lesson) -> None:
    still = replace(SETTINGS, rate=0.0, steps=8)
    shares: list[float] = []
    runs = learn_from(
        {"still": (network(), [lesson], still), "learns": (network(), [lesson], SETTINGS)},
        SETTINGS,
        lambda share, best: shares.append(share),
    )
    assert [run.learned.steps for run in runs.values()] == [8, 20]
    assert leader(runs) is runs["learns"]
    assert runs["still"].lead == pytest.approx(0, abs=1e-3)  # flat images
    assert runs["learns"].lead > 1
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert runs["learns"].record()["gain_nats"] > 20


def test_the_better_one_has_the_rest_of_the_time(lesson: Lesson) -> None:
    timed = replace(SETTINGS, steps=None, seconds=1.5)
    still = replace(timed, rate=0.0)
    runs = learn_from(
        {"still": (network(), [lesson], still), "learns": (network(), [lesson], timed)}, timed
    )
    both = runs["still"].seconds, runs["learns"].seconds
    assert 1.5 <= sum(both) < 2.5
    assert both[1] > both[0] >= 0.3 * 1.5 or runs["still"].idle


def test_the_gain_is_in_decibels_where_the_error_is_known(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:96, :112]
    clean = 1 + 0.4 * np.cos(y) * np.cos(x)
    bright, faint = (
        lesson_of(
            rng.poisson(dose * clean).astype(np.float32), 0.35, 0.35, parse_noise("poisson"), 0
        )
        for dose in (300, 0.05)
    )
    learning = Learning(network(), [bright], SETTINGS)
    error, doubt = error_nats([bright], images(network(), [bright]))
    assert error > 10 * doubt
    assert learning.gain_db == pytest.approx(0, abs=1e-6)
    learning.learned.curve.append((1, 1.0, 0.5 * error))
    assert learning.gain_db == pytest.approx(10 * np.log10(2), abs=1e-6)
    learning.learned.curve.append((2, 2.0, error))  # what is left is not known
    assert learning.gain_db is None
    assert Learning(network(), [faint], SETTINGS).gain_db is None


def test_interrupted_it_keeps_the_best_so_far(lesson: Lesson) -> None:
    def stop(share: float, best: Learning) -> None:
        if best.nats > 5:
            raise KeyboardInterrupt

    learned = learn_from({"a": (network(), [lesson], SETTINGS)}, SETTINGS, stop)["a"].learned
    assert 0 < learned.best <= learned.steps < 20


@pytest.mark.parametrize(("name", "goes_on"), [("SIGINT", True), ("SIGTERM", False)])
def test_ctrl_c_ends_the_learning_alone_and_other_signals_the_run(
    lesson: Lesson, name: str, goes_on: bool
) -> None:
    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    remember_signals()

    def stop(share: float, best: Learning) -> None:
        signal.raise_signal(number)

    expected = contextlib.nullcontext() if goes_on else pytest.raises(KeyboardInterrupt)
    try:
        with expected:
            learn_from({"a": (network(), [lesson], SETTINGS)}, SETTINGS, stop)
        assert interrupted() != goes_on
    finally:
        remember_signals()  # of an end that was told here nothing is remembered
        for each, handler in before.items():
            signal.signal(each, handler)


def test_the_small_network_is_a_model_without_torch(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    base = find_any("restore")
    assert isinstance(base, RestorerModel)
    small = small_network(0)
    with torch.no_grad():
        torch.nn.init.normal_(small.leave.weight, std=0.1)
    write_adapted(tmp_path / "mine" / ANEW, base, small.state_dict(), {"from": NOTHING})
    (model,) = learned_models(tmp_path / "mine")
    assert model.card.shape == SMALL.record()
    assert model.card.sampling_angstrom == SMALL_ANGSTROM
    assert "sha256" not in model.card.training
    counts = rng.poisson(9, (32, 48)).astype(np.float32)
    frames = torch.zeros(1, 5, 32, 48)
    frames[0, 0] = torch.from_numpy(counts)
    mask = (torch.arange(5) == 0).float()[None, :, None, None].expand_as(frames)
    with torch.no_grad():
        expected = network_of(model).eval()(frames, mask)[0, 0].numpy()
    with RestorerSession(model, "cpu", 1) as session:
        np.testing.assert_allclose(session.restore(counts[None]), expected, atol=2e-3)


def test_a_seed_gives_the_same_small_network() -> None:
    one, again = (small_network(3).enter.weight for _ in range(2))
    assert torch.equal(one, again)
    assert small_settings(SETTINGS).steps == 10 * 20
    assert small_settings(replace(SETTINGS, anew_steps=7)).steps == 7

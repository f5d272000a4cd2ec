"""Two starts race: the better one by kept counts goes on, and what it makes is a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the adapt extra (torch)")

import torch

from gdn.adaptation.learn import LearningSettings
from gdn.adaptation.lessons import Lesson, lesson_of
from gdn.adaptation.model_folder import (
    NOTHING,
    SMALL,
    SMALL_ANGSTROM,
    network_of,
    write_adapted,
)
from gdn.adaptation.race import race, small_network, small_settings
from gdn.engines.restorer import RestorerSession
from gdn.frames.noise import parse_noise
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.models import RestorerModel, find_any

SETTINGS = LearningSettings(steps=20, rate=3e-3, window=48, look_every=2, threads=1)


@pytest.fixture
def lesson(rng: np.random.Generator) -> Lesson:
    y, x = np.mgrid[:96, :112]
    counts = rng.poisson(30 * (1 + 0.4 * np.cos(y) * np.cos(x))).astype(np.float32)
    return lesson_of(counts, 0.35, 0.35, parse_noise("poisson"), 0)


def network() -> Restorer:
    torch.manual_seed(0)
    return Restorer(RestorerShape((16, 32), (1, 1)))


def test_the_start_that_explains_kept_counts_better_goes_on(lesson: Lesson) -> None:
    still = LearningSettings(steps=20, rate=0.0, window=48, look_every=2, threads=1)
    shares: list[float] = []
    won = race(
        {"still": (network(), [lesson], still), "learns": (network(), [lesson], SETTINGS)},
        SETTINGS,
        lambda share, nats: shares.append(share),
    )
    assert won.name == "learns"
    assert won.steps == 20
    assert won.learned.steps == 16  # a fifth of the twenty went to the other
    assert won.leads["still"] == pytest.approx(0, abs=1e-3)  # flat images
    assert won.leads["learns"] > 1
    assert shares == sorted(shares)
    assert shares[-1] == 1
    record = won.record()
    assert record["steps"] == 20
    assert record["gain_nats"] > 20


def test_interrupted_it_keeps_the_best_so_far(lesson: Lesson) -> None:
    def stop(share: float, nats: float) -> None:
        if nats > 5:
            raise KeyboardInterrupt

    one = (network(), [lesson], SETTINGS)
    won = race({"a": one}, SETTINGS, stop)
    assert 0 < won.learned.best <= won.steps < 20


def test_the_small_network_is_a_model_without_torch(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    base = find_any("restore")
    assert isinstance(base, RestorerModel)
    small = small_network(0)
    with torch.no_grad():
        torch.nn.init.normal_(small.leave.weight, std=0.1)
    model = write_adapted(base, small.state_dict(), {"from": NOTHING}, tmp_path / "mine")
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
    assert small_settings(SETTINGS).steps == SETTINGS.steps

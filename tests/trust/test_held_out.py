"""Scores on held-out electrons against simulation, where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, grids_for
from gdn.likelihood import POISSON, NoiseLaw
from gdn.search.denoise_frame import FrameResult
from gdn.search.held_out_shares import Choice
from gdn.search.tiles import Binned
from gdn.trust.comparison import Comparison, Expected, pool_comparisons
from gdn.trust.held_out_score import HeldOut, recover_recorded
from gdn.trust.judge import Trust

SAMPLING = 0.4  # Å per binned pixel


def test_held_out_difference_is_unbiased_and_its_error_right(rng: np.random.Generator) -> None:
    x = (20 + 4 * np.sin(np.indices((60, 60)).sum(0) / 5)).astype(np.float32)
    mine, other = x + 1.0, np.full_like(x, x.mean())
    true = float(((other - x) ** 2).mean() - 1.0) / float(mine.mean()) ** 2
    z, gains, own = [], [], []
    for _ in range(200):
        held = Binned(rng.poisson(0.25 * x).astype(np.float32), POISSON)
        c = HeldOut(mine, held, 0.25, Expected(1e-3)).compare("constant", other)
        z.append((c.difference - true) / c.error)
        gains.append((c.nats, c.nats_error))
        own.append(
            (c.measured - float(((mine - x) ** 2).mean()) / float(mine.mean()) ** 2)
            / c.measured_error
        )
    assert abs(np.mean(z)) < 4 / np.sqrt(200)
    assert np.std(z) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(own)) < 4 / np.sqrt(200)
    assert np.std(own) == pytest.approx(1, abs=0.2)
    nats = np.array(gains)
    assert nats[:, 0].std() == pytest.approx(nats[:, 1].mean(), rel=0.2)


def test_held_out_difference_of_gaussian_noise(rng: np.random.Generator) -> None:
    x = (5 + np.sin(np.indices((50, 50))[0] / 4)).astype(np.float32)
    z = []
    for _ in range(200):
        held = Binned(
            (0.25 * x + rng.standard_normal(x.shape)).astype(np.float32), NoiseLaw(0.0, 1.0)
        )
        c = HeldOut(x, held, 0.25, Expected(1e-3)).compare("constant", np.full_like(x, x.mean()))
        z.append((c.difference * float(x.mean()) ** 2 - x.var()) / (c.error * float(x.mean()) ** 2))
    assert abs(np.mean(z)) < 0.3
    assert np.std(z) == pytest.approx(1, abs=0.2)


def test_parts_of_a_frame_are_independent_on_the_generators_grid() -> None:
    """Bins that cut pixels are the hard case: their sums have less than Poisson's variance."""
    grids = grids_for((300, 300), 0.0612, SAMPLING)
    products = []
    for seed in range(12):
        counts = np.random.default_rng(seed).poisson(2.0, (300, 300)).astype(np.float32)
        parts, again = recover_recorded(counts, bare_result(grids)).split(seed)
        # The first part is a frame of its own: thinned again, its parts are independent too.
        twice = again.split(seed)[0]
        c, d = twice.first - twice.first.mean(), twice.second - twice.second.mean()
        products.append(float((c * d).mean()) / (1.5 * grids.area))
        a, b = parts.first - parts.first.mean(), parts.second - parts.second.mean()
        products.append(float((a * b).mean()) / (2.0 * grids.area))
    assert abs(np.mean(products)) < 4 * np.std(products) / np.sqrt(24) + 1e-3
    assert abs(np.mean(products)) < 0.01  # thinning the sums instead: -0.02


def bare_result(grids: Grids) -> FrameResult:
    blank = np.zeros((1, 1), np.float32)
    return FrameResult(
        image=blank,
        raw_spread=blank,
        noise=NoiseModel(kind="poisson"),
        grids=grids,
        dose=2.0,
        objective=0.0,
        objectives=[],
        bank_share=0.0,
        residual_share=0.0,
        held_out=Choice(),
        tiles=0,
    )


def test_verdicts_and_pooling_of_comparisons() -> None:
    c = Comparison(
        against="best blur", difference=3e-3, error=1e-3, expected=1e-3, nats=5.0, nats_error=2.0
    )
    assert c.verdict == "better"
    assert c.gain_db == pytest.approx(10 * np.log10(4))
    # 1 + difference / own = 4: the difference's error is a quarter of it, own's tenth counts with 3
    # / 4.
    assert c.gain_error_db == pytest.approx(10 / np.log(10) * 0.25)
    unsure = replace(c, expected_error=1e-4)
    assert unsure.gain_error_db == pytest.approx(10 / np.log(10) * np.hypot(0.25, 0.075))
    bright = replace(unsure, measured=3e-3, measured_error=1e-4)
    assert bright.own == 3e-3
    assert bright.gain_db == pytest.approx(10 * np.log10(2))
    assert replace(bright, measured_error=2e-3).own == 1e-3
    assert replace(c, difference=-3e-3).verdict == "worse"
    assert replace(c, difference=1e-3).verdict == "not resolved"
    assert c.record()["gain_db"] == pytest.approx(10 * np.log10(4), abs=1e-3)
    assert c.record()["gain_why"] is None
    both = pool_comparisons([c, replace(c, difference=1e-3)])
    assert both.difference == pytest.approx(2e-3)
    assert both.error == pytest.approx(1e-3 / np.sqrt(2))
    with pytest.raises(ValueError, match="no comparison"):
        pool_comparisons([])


def test_the_json_of_an_empty_field_has_no_gain_but_says_why() -> None:
    """Noise may make the difference less than gdn's own error: there are no decibels of that."""
    empty = Comparison(
        against="best blur", difference=-1e-5, error=1e-4, expected=1e-12, nats=0, nats_error=1
    )
    assert empty.gain_db < -29
    off = replace(empty, difference=-4e-4)
    for comparison, why in (
        (empty, "nothing to resolve"),
        (off, "nothing to resolve; gdn is off by 2 % of the vacuum level"),
    ):
        blank = np.zeros((1, 1), np.float32)
        trust = Trust(
            spread=blank,
            intervals={},
            calibrated=True,
            fit=None,
            scores=[comparison],
            atoms=None,
            own=Expected(1e-12),
        )
        row = trust.row()
        assert (row["heldout_gain_db"], row["heldout_gain_se_db"]) == (None, None)
        assert row["heldout_gain_why"] == why
        (score,) = trust.detail()["held_out_scores"]
        assert (score["gain_db"], score["gain_why"]) == (None, why)
        assert score["verdict"] == comparison.verdict

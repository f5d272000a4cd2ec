"""Does the generator explain a frame: each piece against simulation, where the truth is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.signal.windows import tukey
from scipy.stats import kstest

from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import bin_sum, grids_for
from gdn.likelihood import POISSON, NoiseLaw
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search.tiles import Binned, tile_frame
from gdn.trust.calibration import calibration_of
from gdn.trust.fit import (
    deviance_moments,
    measure_misfit,
    names,
    shown_share,
    tile_features,
)
from gdn.trust.fit_law import Tail, Trend, conformal_p
from gdn.trust.scaling import Scaling
from gdn.trust.spectrum import frequencies, measure_rings, tapered_cosine
from tests.helpers.needs import needs_training

SAMPLING = 0.4  # Å per binned pixel


@pytest.mark.parametrize("mean", [0.05, 0.45, 3.0, 19.0, 150.0])
def test_moments_of_the_deviance_at_low_counts(rng: np.random.Generator, mean: float) -> None:
    counts = rng.poisson(mean, (400, 400)).astype(np.float32)
    expected, variance = deviance_moments(np.full(counts.shape, mean))
    over, _ = measure_misfit(np.full_like(counts, mean), counts, Binned(counts, POISSON))
    error = np.sqrt(variance.mean() / counts.size)
    assert abs(over.mean()) < 4 * error + 1e-3 * expected.mean()
    assert over.var() == pytest.approx(variance.mean(), rel=0.05)


def test_pearson_moments_of_poisson_gaussian_noise(rng: np.random.Generator) -> None:
    binned = Binned(np.zeros((300, 300), np.float32), NoiseLaw(1.0, 2.0))
    counts = (
        rng.poisson(4.0, binned.counts.shape)
        + np.sqrt(2.0) * rng.standard_normal(binned.counts.shape)
    ).astype(np.float32)
    over, variance = measure_misfit(np.full_like(counts, 4.0), counts, binned)
    assert abs(over.mean()) < 0.03
    assert over.var() == pytest.approx(variance.mean(), rel=0.05)


@needs_training
def test_p_values_are_uniform_on_what_the_law_was_fitted_to_and_small_elsewhere(
    rng: np.random.Generator,
) -> None:
    # The features are correlated and drift with the noise level.
    mix = rng.standard_normal((4, 4))

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        level = rng.uniform(-3, 0, n)
        return np.concatenate(
            [rng.standard_normal((n, 4)) @ mix + level[:, None] ** 2, level[:, None]], 1
        )[:, :4], level

    features, level = sample(2000)
    from gdn.evaluation.calibrate import tile_law

    law = tile_law(features[:1000], level[:1000])
    null = sorted(law.distances(features[1000:], level[1000:]))
    fresh, at = sample(500)
    assert kstest(conformal_p(null, law.distances(fresh, at)), "uniform").pvalue > 0.01
    assert (conformal_p(null, law.distances(fresh + 8 * np.abs(mix).sum(0), at)) < 0.01).all()


def test_surprise_goes_on_where_the_scores_end(rng: np.random.Generator) -> None:
    flat = Trend(level=Scaling(mean=[0], scale=[1]), mean=[[0], [0], [0]], log_scale=[[0], [0]])
    tail = Tail(trend=flat, sorted=np.sort(rng.exponential(size=500)).tolist())
    found = tail.surprise(np.array([-1.0, 0.7, 2.0, 5.0, 20.0, 40.0]), np.zeros(6))
    assert found[0] == pytest.approx(0, abs=0.01)
    assert found[1] == pytest.approx(0.7, abs=0.15)
    assert (np.diff(found) > 0).all()
    assert found[-1] - found[-2] == pytest.approx(20, rel=0.3)  # exponential law: a nat each


def test_frequencies_are_those_of_the_transform() -> None:
    """A wave of 4 px along the rows and of 8 px along the columns, of pixels of 0.5 Å."""
    wave = np.cos(2 * np.pi * (np.indices((16, 24)) / np.array([4, 8])[:, None, None]).sum(0))
    strongest = np.abs(np.fft.rfft2(wave)).argmax()
    radius = frequencies((16, 24), 0.5)
    assert radius.shape == np.fft.rfft2(wave).shape
    assert radius.ravel()[strongest] == pytest.approx(np.hypot(1 / 2, 1 / 4))


def test_a_wrong_pixel_size_shows_in_the_spectrum(demo_wave: Path) -> None:
    """The shipped classifier on a frame that it has not seen: rings of the true and of a wrong
    sampling."""
    law = calibration_of(find_model(DEFAULT_MODEL))
    assert law is not None
    frame = demo_frames()[0]
    counts = DEMO_NOISE.apply(frame.image, 1)
    odds = []
    for factor in (1.0, 1.3, 1 / 1.3):
        grids = grids_for((850, 850), frame.sampling_angstrom * factor, SAMPLING)
        rings = measure_rings(
            Binned(bin_sum(counts, grids), POISSON), float(np.mean(grids.binned_sampling))
        )
        odds.append(float(law.fit.spectrum.odds(rings[None])[0]))
    assert odds[0] < 0 < min(odds[1:])


def test_rings_of_pure_noise_do_not_depend_on_the_field(rng: np.random.Generator) -> None:
    means = []
    for side in (70, 140):
        rings = [
            measure_rings(
                Binned(rng.poisson(20, (side, side)).astype(np.float32), POISSON), SAMPLING
            )
            for _ in range(20)
        ]
        means.append(np.mean(rings, 0)[:-2])
    strongest, mean = (
        np.array([m[part].mean() for m in means]) for part in (slice(10, 40), slice(50, None))
    )
    assert abs(np.diff(strongest)[0]) < 0.2
    np.testing.assert_allclose(mean, 0, atol=0.1)


def flat_estimate(side: int, rng: np.random.Generator) -> Any:
    """What `tile_features` reads of the estimate of a flat frame of side x side px."""
    tiling = tile_frame((side, side), 64, 32)
    nothing = np.zeros((side, side), np.float32)
    return SimpleNamespace(
        binned=Binned(rng.poisson(20, (side, side)).astype(np.float32), POISSON),
        tiling=tiling,
        generated=nothing + 20,
        restarts=nothing,
        added=nothing,
        fit=SimpleNamespace(energy=np.ones(len(tiling.corners))),
        choice=SimpleNamespace(filter=0.0, generator=0.0),
    )


def test_pure_noise_has_the_same_bands_in_a_field_smaller_than_a_tile(
    rng: np.random.Generator,
) -> None:
    at = [name.startswith("residual 0.4") or name.startswith("residual 0.6") for name in names()]
    full, small = (
        np.mean([tile_features(flat_estimate(side, rng), SAMPLING)[0] for _ in range(40)], 0)
        for side in (64, 36)
    )
    assert np.abs(full - small)[at].max() < 0.2  # it was 1.0
    assert shown_share(tile_frame((36, 64), 64, 32)) == pytest.approx(np.log(36 / 64))
    assert shown_share(tile_frame((64, 90), 64, 32)) == 0


@needs_training
def test_strange_images_are_positive_and_have_contrast() -> None:
    from gdn.evaluation.spectrum_law import draw_strange_image

    for seed in range(30):
        image = draw_strange_image(96, SAMPLING, 0.1, np.random.default_rng(seed))
        assert image.min() > 0
        assert image.mean() == pytest.approx(1, abs=0.05)
        assert image.std() == pytest.approx(0.1, rel=0.2)


def test_a_score_that_drifts_with_the_noise_surprises_alike_at_every_level(
    rng: np.random.Generator,
) -> None:
    level = rng.uniform(-4, -1, 1200)
    score = level**2 + np.exp(0.4 * level) * rng.standard_normal(1200)
    tail = Tail.of(score[:600], level[:600])
    fresh = tail.surprise(score[600:], level[600:])
    null = np.sort(tail.surprise(score[:600], level[:600])).tolist()
    p = conformal_p(null, fresh)
    for low, high in ((-4, -3), (-3, -2), (-2, -1)):
        part = p[(level[600:] >= low) & (level[600:] < high)]
        assert (part < 0.1).mean() == pytest.approx(0.1, abs=0.07)


def test_scaling_clips_what_was_never_seen(rng: np.random.Generator) -> None:
    scaling = Scaling.of(rng.standard_normal((100, 2)))
    assert scaling.apply(np.array([[1e9, -1e9]])).tolist() == [[4.0, -4.0]]
    null = [float(i) for i in range(20)]
    assert conformal_p(null, np.array([-1.0, 1e9])).tolist() == [1.0, 1 / 21]


@pytest.mark.parametrize("length", [2, 7, 60, 133])
def test_the_window_is_tukeys(length: int) -> None:
    np.testing.assert_allclose(tapered_cosine(length), tukey(length, 0.5), atol=1e-12)


def test_the_packages_that_take_a_second_to_import_are_not_imported() -> None:
    code = (
        "import sys, gdn.cli.denoise, gdn.pipeline.denoiser, gdn.report\n"
        "print([name for name in ('scipy.stats', 'scipy.signal') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

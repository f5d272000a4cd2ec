"""Noise that a camera or a program has spread over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.engines.choose import open_engine
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.evaluation.metrics import psnr
from gdn.frames import examined
from gdn.frames.coarse_noise import find_spread
from gdn.frames.examined import Examiner
from gdn.frames.noise_model import NoiseModel, parse_noise
from gdn.likelihood import POISSON, Array
from gdn.models import find_model
from gdn.search.bank import bank_for
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher
from gdn.search.thinning import split

PIXEL = 0.07  # Å
FLAT = np.full((700, 640), 0.5, np.float32)


def spread(image: Array, seed: int, width: float) -> Array:
    counts = np.random.default_rng(seed).poisson(image).astype(np.float32)
    return np.asarray(gaussian_filter(counts, width, mode="wrap"), dtype=np.float32)


@pytest.mark.parametrize("width", [0.4, 0.7, 1.2])
def test_the_law_is_that_of_coarse_detail(width: float) -> None:
    frame = spread(FLAT, 1, width)
    defects, whole, model = Examiner()(frame, None, PIXEL)
    electrons = model.electrons(whole)
    sums = electrons[:696, :636].reshape(58, 12, 53, 12).sum((1, 3))
    expected = float(model.law.of_sum(144).variance(sums.mean()))
    assert sums.var() == pytest.approx(expected, rel=0.15)
    assert any("times as strong as neighbours differ" in note for note in defects.notes)
    before = Examiner()(frame)[2]  # without the pixel size nothing is known of coarse detail
    sums /= (model.gain / before.gain) ** -1
    assert sums.var() > 1.3 * float(before.law.of_sum(144).variance(sums.mean()))


@pytest.mark.parametrize("dose", [0.2, 1.0, 20.0])
@pytest.mark.parametrize("number", [0, 2])
def test_white_noise_is_left_as_it_is(dose: float, number: int) -> None:
    clean = demo_frames()[number]
    counts = np.random.default_rng(number).poisson(dose * clean.image).astype(np.float32)
    assert find_spread(counts, POISSON, clean.sampling_angstrom) is None
    assert Examiner()(counts, None, clean.sampling_angstrom)[2] == Examiner()(counts)[2]


def dark_field(sampling_angstrom: float = PIXEL) -> Array:
    """Columns of a particle on a vacuum of a twentieth of their brightness."""
    y, x = np.mgrid[:700, :640] * sampling_angstrom
    columns = np.cos(np.pi * y / 2.0) ** 8 * np.cos(np.pi * x / 2.3) ** 8
    inside = np.hypot(y - 24, x - 22) < 18
    return np.asarray(0.05 + inside * (0.1 + 0.8 * columns), dtype=np.float32)


@pytest.mark.parametrize("width", [0.4, 0.7, 1.2])
@pytest.mark.parametrize("dose", [0.5, 10.0])
def test_gain_and_zero_are_those_before_the_spread(width: float, dose: float) -> None:
    """Rows that share noise would sort bright and noisy pixels together, and the line through them
    would not end at zero."""
    model = Examiner()(spread(dose * dark_field(), 5, width), None, PIXEL)[2]
    assert abs(model.offset) < 0.05 * dose
    # The variance is that of detail of 0.7 1/Å.
    expected = np.exp(-((2 * np.pi * 0.7 * width * PIXEL) ** 2))
    assert model.gain == pytest.approx(expected, rel=0.2)
    # scipy's Gaussian of 0.4 px, at whole pixels only, is one of 0.28.
    assert model.spread == pytest.approx({0.4: 0.28}.get(width, width), abs=0.1)


def test_a_filter_that_cuts_fine_detail_off_leaves_the_law_of_what_is_left() -> None:
    """It is no Gaussian: fine detail, where nothing is left, says nothing of the level."""
    frame = np.random.default_rng(4).poisson(20 * FLAT).astype(np.float32)
    k = np.hypot(np.fft.fftfreq(700)[:, None], np.fft.rfftfreq(640)[None])
    cut = np.fft.irfft2(np.fft.rfft2(frame) * (k < 0.25), s=frame.shape).astype(np.float32)
    _, whole, model = Examiner()(cut, None, PIXEL)
    electrons = model.electrons(whole)
    law = float(model.law.variance(electrons.mean())) * model.gain**2
    assert law == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("width", [0.4, 0.7])
def test_an_empty_vacuum_is_no_dead_part_of_the_detector(width: float) -> None:
    """Where few electrons were spread, empty pixels lie together more often than by chance."""
    defects = Examiner()(spread(0.3 * dark_field(), 6, width), None, PIXEL)[0]
    assert defects.bad is None or defects.bad.mean() < 0.02


def test_a_dead_part_of_a_detector_that_spreads_is_found() -> None:
    frame = spread(FLAT, 7, 0.7)
    frame[100:220, 50:300] = 0
    bad = Examiner()(frame, None, PIXEL)[0].bad
    assert bad is not None
    assert bad[105:215, 55:295].all()
    assert bad.mean() < 0.08


@pytest.mark.parametrize("dose", [0.4, 30.0])
def test_parts_of_spread_counts_are_independent_in_all_detail(dose: float) -> None:
    frame = spread(np.full_like(FLAT, dose), 8, 1.0)
    _, whole, model = Examiner()(frame, None, PIXEL)
    parts = split(model.electrons(whole), model.law, seed=1)
    for fine in (0.0, 0.6, 1.5, 3.0):  # px: blurred by so much
        first, second = (
            gaussian_filter(part - part.mean(), fine) for part in (parts.first, parts.second)
        )
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_a_kind_that_was_given_takes_its_strength_from_coarse_detail() -> None:
    kind = parse_noise("poisson")
    frame = spread(FLAT, 9, 0.7)
    assert Examiner()(frame, kind, PIXEL)[2].gain > 3 * Examiner()(frame, kind)[2].gain


@pytest.mark.parametrize("shape", [(70, 900), (900, 70), (64, 64)])
def test_narrow_frames_of_wide_spreads_have_a_law(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(12).poisson(20.0, shape).astype(np.float32)
    frame = gaussian_filter(counts, 4.0, mode="wrap")
    model = Examiner()(frame, None, 0.02)[2]
    assert np.isfinite([model.gain, model.offset, model.read_noise]).all()


def test_large_pixels_tell_nothing() -> None:
    """They show no detail that has noise alone."""
    assert find_spread(spread(FLAT, 2, 1.0), POISSON, 0.35) is None


def test_a_model_that_was_given_stays() -> None:
    given = NoiseModel(kind="gaussian", read_noise=0.2)
    assert Examiner()(spread(FLAT, 3, 0.8), given, PIXEL)[2].read_noise == 0.2


@pytest.mark.slow
def test_a_frame_of_a_camera_that_spreads_is_denoised_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held-out counts that share their noise with the others would choose images that follow it."""
    clean = demo_frames()[2]
    cut = np.ascontiguousarray(clean.image[200:640, 200:640])
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    searcher = Searcher(
        engine=engine,
        bank=bank_for(engine, 0, 16, use_cache=False),
        others=[CollaborativeCandidate()],
    )
    counts = DEMO_NOISE.apply(cut, 4)
    blurred, truth = (
        np.asarray(gaussian_filter(image, 0.7), dtype=np.float32) for image in (counts, cut)
    )

    def quality(noisy: Array, true: Array) -> float:
        return psnr(true, denoise_frame(noisy, clean.sampling_angstrom, searcher).image)

    white, spread_out = quality(counts, cut), quality(blurred, truth)
    monkeypatch.setattr(examined, "of_coarse_detail", lambda model, *_: (model, 1.0))
    blurred[0, 0] *= 1.0001  # another frame: the last one's model is kept
    untold = quality(blurred, truth)
    assert spread_out > white - 1.5
    assert spread_out > untold + 5

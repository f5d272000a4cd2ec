"""The mixture of candidates, band by band."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.engines.choose import open_engine
from gdn.engines.restorer import RestorerSession
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import Grids, bin_sum
from gdn.likelihood import POISSON
from gdn.models import find_model
from gdn.search.band_mixture import CENTRES, Mixing, bands, choose_mixing, mix_images
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.held_out_shares import Choice
from gdn.search.restored import RestorerCandidate
from gdn.search.settings import Searcher
from gdn.search.thinning import HELD_OUT, Recorded, Split
from gdn.trust.held_out_score import denoise_part, recover_recorded
from tests.helpers.needs import needs_training

pytestmark = needs_training
SAMPLING = (0.4, 0.4)
NAMES = ("generator", "filter", "restore")


# The mixture


def synthetic(seed: int = 0, size: int = 160) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A clean image (electrons per px) and another one."""
    rng = np.random.default_rng(seed)
    clean, other = (gaussian_filter(rng.standard_normal((size, size)), 2.0) for _ in range(2))
    return (
        np.maximum(20 * (1 + 0.2 * clean / clean.std()), 1).astype(np.float32),
        (other / other.std()).astype(np.float32),
        rng,
    )


def split_of(clean: np.ndarray, seed: int) -> tuple[Split, Recorded]:
    counts = np.random.default_rng(seed).poisson(clean).astype(np.float32)
    return Recorded(
        electrons=counts, law=POISSON, grids=Grids(clean.shape, clean.shape, 0.4)
    ).split(seed)


def test_bands_sum_to_one() -> None:
    windows = list(bands((50, 70), SAMPLING))
    assert len(windows) == len(CENTRES)
    np.testing.assert_allclose(sum(windows), 1.0, atol=1e-12)


def test_the_truth_gets_the_weight() -> None:
    clean, wrong, _ = synthetic()
    parts, _ = split_of(clean, 1)
    images = [0.75 * (clean + 3 * wrong), gaussian_filter(parts.first, 3.0), 0.75 * clean]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    assert mixing.changed
    assert mixing.share("restore") > 0.9
    image, apart = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    assert np.square(image - clean).mean() < 0.05 * np.square(3 * wrong).mean()
    assert apart.min() >= 0
    record = mixing.record()
    assert json.loads(json.dumps(record)) == record
    assert record["alone_nats"]["restore"] > 100


def test_each_band_takes_its_own_candidate() -> None:
    """One candidate lacks the coarse part of the image, the other the fine one."""
    clean, _, rng = synthetic(3)
    coarse = (
        5
        * gaussian_filter(rng.standard_normal(clean.shape), 8)
        / gaussian_filter(rng.standard_normal(clean.shape), 8).std()
    )
    whole = (clean + coarse - coarse.min()).astype(np.float32)
    parts, _ = split_of(whole, 4)
    fine = whole - gaussian_filter(whole, 4) + whole.mean()
    images = [
        0.75 * fine,
        0.75 * np.full_like(whole, whole.mean()),
        0.75 * gaussian_filter(whole, 4),
    ]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    image, _ = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    errors = [np.square(im / 0.75 - whole).mean() for im in images]
    assert np.square(image - whole).mean() < 0.5 * min(errors)


@pytest.mark.parametrize("seed", range(6))
def test_garbage_changes_nothing(seed: int) -> None:
    """Within 0.05 dB of the result without it, also where the generator is good but not perfect."""
    clean, wrong, _ = synthetic(seed)
    parts, _ = split_of(clean, seed + 10)
    good = clean + 0.3 * wrong
    images = [
        0.75 * good,
        gaussian_filter(parts.first, 2.0),
        0.75 * np.random.default_rng(seed).permuted(clean),
    ]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    image, _ = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    before, after = (float(np.square(im - clean).mean()) for im in (good, image))
    assert 10 * np.log10(after / before) < 0.05
    assert mixing.share("restore") < 0.1


def test_weights_lie_on_the_simplex() -> None:
    clean, wrong, _ = synthetic(7)
    parts, _ = split_of(clean, 7)
    images = [
        0.75 * (clean + wrong),
        0.75 * (clean + wrong),
        0.75 * (clean - wrong),
        parts.first,
    ]  # two the same
    mixing = choose_mixing(parts, images, (*NAMES, "another"), Choice(share=0.5), SAMPLING)
    assert (mixing.weights >= 0).all()
    np.testing.assert_allclose(mixing.weights.sum(1), 1)
    assert mixing.prior.tolist() == [0.5, 0.5, 0, 0]


class Truth:
    """A candidate that knows the clean frame (electrons per recorded pixel), of the share of counts
    it is given."""

    name = "truth"
    identity = "of a test"

    def __init__(self, clean: np.ndarray) -> None:
        self.clean = clean
        self.asked: list[int] = []

    def __call__(self, recorded: Recorded) -> np.ndarray:
        self.asked.append(recorded.depth)
        return bin_sum(self.clean, recorded.grids) * np.float32(0.75**recorded.depth)


@pytest.mark.slow
def test_a_result_is_mixed_and_scored_with_all_its_candidates() -> None:
    frame = demo_frames()[1]
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    cut = np.ascontiguousarray(frame.image[:430, :440])
    noisy, truth = DEMO_NOISE.apply(cut, 3), Truth(cut)
    alone = denoise_frame(noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank))
    result = denoise_frame(
        noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank, others=[truth])
    )
    assert alone.mixing is None
    assert isinstance(result.mixing, Mixing)
    assert result.mixing.share("truth") > 0.7
    before, after = (float(np.square(r.image - cut).mean()) for r in (alone, result))
    assert after < 0.3 * before
    assert alone.estimate is not None
    assert result.estimate is not None
    # What the p-value is made of is the generator's own.
    np.testing.assert_array_equal(result.estimate.generated, alone.estimate.generated)
    np.testing.assert_array_equal(result.estimate.added, alone.estimate.added)
    assert alone.estimate.mixed is None
    assert result.estimate.mixed is not None
    shares = result.estimate.mixed.map  # small, and for the report
    assert shares is None or shares.overall[0] == result.mixing.share("truth")
    assert (result.estimate.raw_spread >= alone.estimate.raw_spread).all()
    truth.asked.clear()
    halves = denoise_part(
        result.estimate,
        lambda: recover_recorded(noisy, result),
        0,
        Searcher(engine=engine, bank=bank, others=[truth]),
    )
    assert truth.asked == [
        2
    ]  # of the part's part: its image of the part is that by which the mixture was chosen
    assert (
        np.square(halves.mine - bin_sum(cut, result.grids)).mean()
        < 0.3 * before * result.grids.area**2
    )


def test_a_restorer_of_random_weights_costs_nothing(restorer_session: RestorerSession) -> None:
    frame = demo_frames()[0]
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    cut = np.ascontiguousarray(frame.image[:430, :430])
    noisy = DEMO_NOISE.apply(cut, 5)
    images = [
        denoise_frame(
            noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank, others=others)
        ).image
        for others in ([], [RestorerCandidate(restorer_session)])
    ]
    before, after = (float(np.square(image - cut).mean()) for image in images)
    # In an image that is nearly empty: a tenth of what one nat of its held-out electrons is.
    nat = 2 * 0.45 / HELD_OUT / cut.size
    assert after - before < 0.1 * nat

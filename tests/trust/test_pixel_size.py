"""The pixel size that a generator explains best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from gdn import Denoiser
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import Grids
from gdn.models import DEFAULT_MODEL, GENERAL, RESTORER, ModelCard, find_any, find_model
from gdn.trust.pixel_size import Explainer, PixelSize, Trial, decide, untold
from tests.helpers.commands import FAST, gdn
from tests.helpers.frames import noisy_frame

SIZES = 0.06 * np.exp(np.linspace(-1, 1, 31) * np.log(1.5))
PLAIN = np.zeros(31)


class OfCard:
    """Stands for an explainer: it has a card."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card


def decided(nats: np.ndarray, odds: np.ndarray) -> PixelSize:
    """What is decided from one generator's trials at all sizes."""
    grids, explainer = Grids((9, 9), (9, 9), 0.06), cast(Explainer, OfCard(card()))
    trials = [
        Trial(size=k, explainer=explainer, grids=grids, odds=float(value))
        for k, value in enumerate(odds)
    ]
    return decide(SIZES, trials, nats)


def card() -> ModelCard:
    return find_model(DEFAULT_MODEL).card


def hill(at: int, height: float, width: float = 2.0) -> np.ndarray:
    return height * np.exp(-0.5 * ((np.arange(31) - at) / width) ** 2)


def test_a_size_that_is_far_better_contradicts_the_given_one() -> None:
    size = decided(hill(22, 300), PLAIN)
    assert size.best == pytest.approx(SIZES[22])
    assert size.contradicts
    assert "explains this frame far better than the 0.06 given" in size.words
    assert json.loads(json.dumps(size.record()))["contradicts"] is True


def test_the_best_size_lies_between_those_that_were_tried() -> None:
    nats = 300 - 20.0 * (np.arange(31) - 21.6) ** 2
    best = decided(nats, PLAIN).best
    assert best == pytest.approx(SIZES[21] * (SIZES[22] / SIZES[21]) ** 0.6)


@pytest.mark.parametrize(
    ("nats", "odds"),
    [
        (hill(15, 300), PLAIN),  # the given size is the best
        (hill(16, 300), PLAIN),  # the neighbour of the given size
        (hill(22, 8), PLAIN),  # too few counts
        (hill(22, 300, width=40), PLAIN),  # all sizes are alike
        (hill(22, 300), np.full(31, 5.0)),  # the spectrum is strange at every size
    ],
)
def test_the_given_size_is_not_contradicted(nats: np.ndarray, odds: np.ndarray) -> None:
    size = decided(nats, odds)
    assert not size.contradicts
    assert "far better" not in size.words


def test_the_spectrum_decides_between_sizes_that_the_counts_like_equally() -> None:
    nats, odds = hill(5, 100) + hill(22, 101), np.full(31, 12.0)
    odds[5] = 0.0
    assert decided(nats, odds).best == pytest.approx(SIZES[5], rel=0.02)


def test_a_model_for_any_crystal_cannot_tell() -> None:
    general = card().specimen.model_copy(update={"material": GENERAL})
    size = untold(0.06, card().model_copy(update={"specimen": general}))
    assert (size.best, size.contradicts) == (None, False)
    assert "cannot tell" in size.words
    assert find_any(RESTORER).card.specimen.material == GENERAL


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_the_pixel_size_of_a_demo_frame(factor: float) -> None:
    frame = demo_frames()[0]
    noisy = DEMO_NOISE.apply(frame.image, 1).astype(np.float32)
    given = frame.sampling_angstrom * factor
    with Denoiser(DEFAULT_MODEL, restarts=8, cache=False, threads=1) as denoiser:
        size = denoiser.for_recording(noisy, given).find_pixel_size(noisy, given)
    assert size.contradicts == (factor != 1)
    assert size.best == pytest.approx(frame.sampling_angstrom, rel=0.04)
    assert size.given == given


def test_denoiser_says_so_and_keeps_to_the_given_size() -> None:
    noisy = noisy_frame()
    found = replace(untold(0.0612, card()), best=0.05, gain_nats=500.0)
    with Denoiser("pt-ceo2-64", restarts=8, cache=False, score=False) as denoiser:
        recording = denoiser.for_recording(noisy.astype(np.float32), 0.0612)
        trust = recording.denoise(noisy.astype(np.float32), 0.0612).trust
    assert trust.with_pixel_size(found).warnings == [*trust.warnings, found.words]
    assert trust.with_pixel_size(untold(0.0612, card())).warnings == trust.warnings
    with Denoiser(
        "pt-ceo2-64", restarts=8, cache=False, score=False, find_sampling=True
    ) as denoiser:
        result = denoiser.denoise(noisy, 0.0612)
    assert isinstance(result.pixel_size, PixelSize)
    assert result.sampling_angstrom == result.pixel_size.given == 0.0612
    assert result.record["pixel_size"] == result.pixel_size.record()


def test_the_command_says_what_it_found(frame_file: Path, tmp_path: Path) -> None:
    options = ["--model", "pt-ceo2-64", "--find-sampling", "-o", tmp_path]
    result = gdn("denoise", frame_file, *FAST, *options)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "frame_gdn.json").read_text())
    size = record["frames"][0]["pixel_size"]
    assert size["given_angstrom"] == record["sampling_angstrom"]
    assert size["words"] in " ".join(result.stderr.split())
    assert record["search"]["find_sampling"] is True


def test_a_restorer_alone_says_that_it_cannot_tell(frame_file: Path, tmp_path: Path) -> None:
    options = ["--model", RESTORER, "--find-sampling", "-o", tmp_path]
    result = gdn("denoise", frame_file, *FAST, *options)
    assert result.returncode == 0, result.stderr
    assert "it cannot tell" in " ".join(result.stderr.split())

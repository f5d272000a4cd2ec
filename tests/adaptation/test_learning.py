"""The restorer tuned on a recording: it gains, repeats, ends in time and becomes a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

pytest.importorskip("torch", reason="needs the adapt extra (torch)")

import torch

from gdn.adaptation import learn as learning
from gdn.adaptation.adapt import adapt, recordings_of
from gdn.adaptation.learn import Learned, Learning, LearningSettings
from gdn.adaptation.lessons import CorrelatedNoise, Lesson, lesson_of
from gdn.adaptation.model_folder import network_of
from gdn.adaptation.steps import Batch, take_step
from gdn.adaptation.two_starts import Progress, learn_from
from gdn.engines.restorer import RestorerSession
from gdn.errors import InputError
from gdn.frames.noise import parse_noise
from gdn.frames.source import FrameFile, of_array
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.models import RestorerModel, find_any
from tests.helpers.commands import gdn, one_line, unwrapped
from tests.helpers.frames import noisy_frame

SETTINGS = LearningSettings(steps=40, rate=3e-3, window=48, look_every=8, threads=1)


def lattice(rng: np.random.Generator, dose: float = 30) -> np.ndarray:
    y, x = np.mgrid[:96, :112]
    return rng.poisson(dose * (1 + 0.4 * np.cos(y) * np.cos(x))).astype(np.float32)


@pytest.fixture
def lesson(rng: np.random.Generator) -> Lesson:
    return lesson_of(lattice(rng), 0.35, 0.35, parse_noise("poisson"), 0)


def small() -> Restorer:
    torch.manual_seed(0)
    return Restorer(RestorerShape((16, 32), (1, 1)))


def learn(
    network: Restorer,
    lessons: list[Lesson],
    settings: LearningSettings,
    progress: Progress = lambda share, best: None,
) -> Learned:
    return learn_from({"only": (network, lessons, settings)}, settings, progress)["only"].learned


def test_learning_gains_and_repeats_to_the_bit(lesson: Lesson) -> None:
    first, again = (learn(small(), [lesson], SETTINGS) for _ in range(2))
    assert first.best > 0
    assert max(nats for *_, nats in first.curve) > 20
    assert first.record()["best_step"] == first.best
    for name, value in first.weights.items():
        assert torch.equal(value, again.weights[name])


def test_where_nothing_gains_the_weights_stay(lesson: Lesson) -> None:
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = replace(SETTINGS, rate=0.0, steps=200, look_every=4)
    learned = learn(network, [lesson], settings)
    assert learned.best == 0
    assert learned.steps == 40  # it ends by itself
    for name, value in learned.weights.items():
        assert torch.equal(value, before[name])


def test_interrupted_it_keeps_the_best_so_far(lesson: Lesson) -> None:
    def stop(share: float, best: Learning) -> None:
        if best.nats > 5:
            raise KeyboardInterrupt

    learned = learn(small(), [lesson], SETTINGS, stop)
    assert 0 < learned.best <= learned.steps < SETTINGS.steps  # type: ignore[operator]


def test_a_clock_ends_it(lesson: Lesson) -> None:
    learned = learn(small(), [lesson], replace(SETTINGS, steps=None, seconds=0.2))
    assert learned.steps > 0


class Failing:
    """A step that fails for batches of more than some windows, or so many times."""

    def __init__(self, error: Exception, most: int = 0, times: int = 99) -> None:
        self.error, self.most, self.times, self.calls = error, most, times, 0

    def __call__(self, network: Any, optimiser: Any, batch: Batch, rate: float) -> None:
        self.calls += 1
        if len(batch.frames) > self.most and self.calls <= self.times:
            raise self.error
        take_step(network, optimiser, batch, rate)


def test_where_memory_runs_out_the_batch_is_halved(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    monkeypatch.setattr(learning, "take_step", Failing(full, most=2))
    run = learning.Learning(small(), [lesson], replace(SETTINGS, steps=3, batch=8))
    run.until(float("inf"), 3)
    assert run.batch == 2
    assert run.learned.steps == 3
    assert [note.split(": ")[1] for note in run.notes] == ["4 windows a step", "2 windows a step"]


def test_where_a_card_fails_learning_goes_on_on_the_processor(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(RuntimeError("CUDA error: an illegal memory access"), times=1)
    run = learning.Learning(small(), [lesson], SETTINGS)
    run.device = torch.device("cuda:0")  # where the networks would be
    monkeypatch.setattr(learning, "take_step", failing)
    run.until(float("inf"), 2)
    assert run.learned.steps == 2
    assert failing.calls == 3
    assert "cuda:0 failed (CUDA error" in run.notes[0]


def test_a_fault_on_the_processor_is_a_fault(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "take_step", Failing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        learning.Learning(small(), [lesson], SETTINGS).until(float("inf"), 1)


def test_a_card_that_is_not_there_is_said(lesson: Lesson) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    run = learning.Learning(small(), [lesson], replace(SETTINGS, device="cuda"))
    assert run.device.type == "cpu"
    assert "cuda failed" in run.notes[0]


def test_of_correlated_noise_nothing_is_learned(tmp_path: Path, rng: np.random.Generator) -> None:
    """In pixels of 0.3 Å no detail has noise alone, by which its spread would be known."""
    smooth = gaussian_filter(rng.poisson(50, (200, 200)).astype(np.float32), 1.0)
    with pytest.raises(CorrelatedNoise):
        lesson_of(smooth, 0.3, 0.35, None, 0)
    files = [(source(tmp_path / "a", smooth), 0.3)]
    (recording,) = recordings_of(files, opener(files), None)
    base = find_any("restore")
    assert isinstance(base, RestorerModel)
    with pytest.raises(InputError, match="correlated"):
        adapt(recording, base, None, SETTINGS, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def source(path: Path, frames: np.ndarray) -> FrameFile:
    axes = "TYX" if frames.ndim == 3 else "YX"
    return of_array(path, frames, axes, [(0.1, "Å")] * 2, "array")


def opener(files: list[tuple[FrameFile, float]]) -> Callable[[Path], FrameFile]:
    return lambda path: next(file for file, _ in files if file.path == path)


def test_files_alike_are_one_recording_and_stacks_their_own(tmp_path: Path) -> None:
    one, two = (noisy_frame((64, 64), n, dose=5).astype(np.float32) for n in range(2))
    stack, blank = np.stack([one, two]), np.zeros((64, 64), np.float32)
    files = [
        (source(tmp_path / "a", one), 0.1),
        (source(tmp_path / "b", two), 0.1001),
        (source(tmp_path / "s", stack), 0.1),
        (source(tmp_path / "c", one), 0.2),
        (source(tmp_path / "empty", blank), 0.1),
    ]
    found = recordings_of(files, opener(files), parse_noise("poisson"))
    assert [[file.path.name for file in one.files] for one in found] == [["a", "b"], ["s"], ["c"]]
    assert found[0].words() == "2 files, 0.1 Å/px, poisson"
    assert found[1].words() == "s of 2 frames, 0.1 Å/px, poisson"


@pytest.mark.slow
def test_what_was_learned_is_a_model_without_torch(tmp_path: Path) -> None:
    base = find_any("restore")
    assert isinstance(base, RestorerModel)
    frame = noisy_frame((200, 200), 5, dose=5).astype(np.float32)
    files = [(source(tmp_path / "a", frame), 0.1)]
    recording = recordings_of(files, opener(files), None)[0]
    settings = LearningSettings(steps=2, look_every=2, rate=1e-4, threads=1)
    settings = replace(settings, anew_steps=0)
    (model,) = adapt(recording, base, None, settings, tmp_path / "mine")
    assert model.folder == tmp_path / "mine" / "adapted"
    about = model.card.training
    assert about["from"] == "restore"
    assert about["steps"] == [2, 0]
    assert about["frames"] == [["a", 0]]
    assert about["learned"]["steps"] == 2
    network = network_of(model).eval()
    counts = np.random.default_rng(0).poisson(9, (32, 48)).astype(np.float32)
    frames = torch.zeros(1, 5, 32, 48)
    frames[0, 0] = torch.from_numpy(counts)
    mask = (torch.arange(5) == 0).float()[None, :, None, None].expand_as(frames)
    with torch.no_grad():
        expected = network(frames, mask)[0, 0].numpy()
    with RestorerSession(model, "cpu", 1) as session:
        np.testing.assert_allclose(session.restore(counts[None]), expected, atol=2e-3)


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", noisy_frame((150, 160), 2, dose=5).astype(np.uint16))
    common = ("--sampling", "0.1", "--threads", "1")
    quick = (
        *common,
        "--restarts",
        "8",
        "--no-score",
        "--no-cache",
        "--model",
        "pt-ceo2-64,restore",
    )
    learned = gdn("adapt", tmp_path / "f.tif", *common, "--steps", "2,60", "-o", tmp_path / "mine")
    assert learned.returncode == 0, learned.stderr
    assert "learning from f.tif" in unwrapped(learned.stderr)
    use = gdn(
        "denoise", tmp_path / "f.tif", *quick, "--adapted", tmp_path / "mine", "-o", tmp_path / "a"
    )
    assert use.returncode == 0, use.stderr
    both = gdn("denoise", tmp_path / "f.tif", *quick, "--adapt", "--adapt-steps", "2,60", "-o",
               tmp_path / "b")  # fmt: skip
    assert both.returncode == 0, both.stderr
    records = [json.loads((tmp_path / d / "f_gdn.json").read_text()) for d in "ab"]
    for record in records:
        shares = record["frames"][0]["mixture"]["shares"]
        taught = {one["name"]: one["training"] for one in record["others"] if "training" in one}
        assert taught
        assert set(taught) <= set(shares)
        assert all(one["steps"] == [2, 60] for one in taught.values())
    images = [tifffile.imread(tmp_path / d / "f_denoised.tif") for d in "ab"]
    np.testing.assert_array_equal(*images)  # the same steps, the same bits
    one_line(gdn("adapt", tmp_path / "f.tif", "-o", tmp_path / "a"), 2, "did not write it")


def test_what_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    one_line(gdn("denoise", "--watch", tmp_path, "--adapt"), 2, "cannot be used with --watch")
    tifffile.imwrite(tmp_path / "f.tif", np.ones((64, 64), np.float32))
    both = gdn("denoise", tmp_path / "f.tif", "--adapt", "--adapted", tmp_path)
    one_line(both, 2, "not both")
    one_line(
        gdn("denoise", tmp_path / "f.tif", "--adapt", "--method", "original"),
        2,
        "mixes no candidates",
    )
    for wrong in ("x", "0", "1,2,3", "-4"):
        one_line(gdn("denoise", tmp_path / "f.tif", "--adapt", "--adapt-steps", wrong), 2, "steps")
    one_line(
        gdn("adapt", tmp_path / "f.tif", "--sampling", "0.1", "-o", tmp_path / "m"),
        2,
        "no frame that can be used",
    )

"""What gdn is measured with: comparators and metrics."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import gdn, needs_training
from scipy.ndimage import gaussian_filter, shift
from test_cli import one_line

from gdn.batch.terminal import UsageFault
from gdn.cli.evaluate import _methods, _unets
from gdn.evaluation import comparators
from gdn.evaluation.comparators import COMPARATORS, Case, binnings, bm3d_binned
from gdn.evaluation.metrics import column_score, psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.simulation.imaging import read_wave, render
from gdn.simulation.simulate import FRAME_SAMPLING, frame_optics

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("far")


def test_bm3d_is_shown_at_its_best_binning(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = np.full((24, 24), 0.45, np.float32)
    monkeypatch.setattr(
        comparators, "bm3d_at", lambda case, n: case.clean + np.float32(0.01 * (1 + abs(n - 8)))
    )
    image = bm3d_binned(Case(clean, clean, Noise("poisson", 1.0), 0.0612))
    assert np.allclose(image - clean, 0.01, atol=1e-6)


def test_bm3d_is_tried_at_pixels_that_show_a_crystal() -> None:
    assert binnings(0.0612) == [4, 6, 8, 10, 12]
    assert binnings(0.05) == [4, 6, 8, 10, 12]
    assert binnings(0.2) == [1, 2, 3, 4]


def test_position_errors_are_of_the_columns_matched() -> None:
    spots = np.zeros((400, 400))
    spots[40:380:40, 40:380:40] = 1
    clean = (0.45 + 60 * gaussian_filter(spots, 8)).astype(np.float32)
    moved = shift(clean, (0.3, -1.0), order=3, mode="nearest")
    score = column_score(clean, moved.astype(np.float32), 0.05)
    assert score.f1 == 1
    assert score.bias_pm == pytest.approx(100 * 0.05 * np.hypot(0.3, 1.0), rel=0.02)
    assert score.rms_pm == pytest.approx(score.bias_pm, rel=0.02)


def test_the_repository_s_unets_denoise(demo_wave: Path) -> None:
    unets = comparators.unet_comparators(BENCHMARKS / "unets")
    assert list(unets) == ["unet-blind", "unet-poisson1"]
    assert not unets.keys() & COMPARATORS.keys()  # they are of this call alone
    wave = read_wave(demo_wave)
    clean = render(
        wave, frame_optics(int(wave.record["seed"]), 0), FRAME_SAMPLING, (450, 460)
    ) * np.float32(STUDY_VACUUM)
    noise = Noise("poisson", 1.0)
    case = Case(clean, noise.apply(clean, 3), noise, FRAME_SAMPLING)
    flat = psnr(clean, comparators.constant(case))
    for unet in unets.values():
        image = unet(case)
        assert image.shape == clean.shape
        assert psnr(clean, image) > flat + 3


def test_unets_are_compared_where_they_are_asked_for(tmp_path: Path) -> None:
    unets = BENCHMARKS / "unets"
    assert _methods("blur,unet,noisy", _unets([unets])) == (
        "blur",
        "unet-blind",
        "unet-poisson1",
        "noisy",
    )
    assert _methods("blur", _unets([unets / "blind"])) == ("blur", "unet-blind")
    assert _methods("unet-poisson1,blur", _unets([unets])) == ("unet-poisson1", "blur")
    with pytest.raises(
        UsageFault, match="--unet: two of these have one name: unet-blind, unet-blind"
    ):
        _unets([unets / "blind", unets / "blind"])
    with pytest.raises(
        UsageFault,
        match=f"--unet {tmp_path}: no unet.json in it or in its folders; make one with 'gdn export",
    ):
        _unets([tmp_path])


def test_without_a_unet_it_is_said_where_they_lie(frame_file: Path) -> None:
    result = gdn("evaluate", frame_file, "--against", "blur,unet")
    one_line(result, 2, "--against unet: give --unet DIR", "benchmarks/unets")
    assert len(result.stderr.splitlines()) == 1
    with pytest.raises(UsageFault, match="--against unet-blind: give --unet DIR"):
        _methods("unet-blind", {})


@needs_training
def test_the_far_set_is_what_it_says(far: Any) -> None:
    assert Counter(frame.group for frame in far.FRAMES) == {"pt-ceo2": 12, "other": 20}
    assert len({frame.name for frame in far.FRAMES}) == 32
    wanted = Counter(frame.contrast for frame in far.FRAMES if frame.group == "pt-ceo2")
    assert wanted == {"bright": 4, "dark": 4, "intermediate": 4}
    others = [frame for frame in far.FRAMES if frame.group == "other"]
    assert len({frame.specimen.replace(",", " ").split()[0] for frame in others}) >= 10
    assert {frame.mode for frame in others} == {"HRTEM", "HAADF", "ABF"}
    assert {frame.optics.voltage_kv for frame in others} == {80, 200, 300}


@needs_training
@pytest.mark.parametrize("name", ["mos2-platinum", "graphene-vacancies"])
def test_a_far_frame_is_built_and_read(far: Any, tmp_path: Path, name: str) -> None:
    frame = replace(
        next(f for f in far.FRAMES if f.name == name), sampling_angstrom=0.2, shape=(150, 140)
    )
    if frame.mode == "HRTEM":
        frame = replace(frame, foci_nm=(2, 4, 6))
    far.write(tmp_path / "frame.npz", far.make(frame, 7))
    found = far.read(tmp_path / "frame.npz")
    assert found["image"].shape == (150, 140)
    assert 0.1 < found["image"].mean() < 0.6
    assert found["record"]["periodic"]
    assert len(found["columns"]) == len(found["weights"]) == len(found["elements"]) > 50
    assert len(found["vacancies"]) + len(found["adatoms"]) >= 1

"""What gdn is measured with: comparators and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from gdn.batch.terminal import UsageFault
from gdn.cli.evaluate import methods_named, unets_in
from gdn.evaluation import comparators
from gdn.evaluation.comparators import COMPARATORS, Case, binnings, bm3d_binned
from gdn.evaluation.metrics import column_score, psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.simulation.imaging import FRAME_SAMPLING, read_wave, render
from gdn.simulation.simulate import frame_optics
from tests.helpers.commands import gdn, one_line, unwrapped
from tests.helpers.places import BENCHMARKS


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
    assert methods_named("blur,unet,noisy", unets_in([unets])) == (
        "blur",
        "unet-blind",
        "unet-poisson1",
        "noisy",
    )
    assert methods_named("blur", unets_in([unets / "blind"])) == ("blur", "unet-blind")
    assert methods_named("unet-poisson1,blur", unets_in([unets])) == ("unet-poisson1", "blur")
    with pytest.raises(
        UsageFault, match="--unet: two of these have the same name: unet-blind, unet-blind"
    ):
        unets_in([unets / "blind", unets / "blind"])
    with pytest.raises(
        UsageFault,
        match=f"--unet {tmp_path}: no unet.json in it or in its folders; make one with 'gdn export",
    ):
        unets_in([tmp_path])


def test_without_a_unet_it_is_said_where_they_lie(frame_file: Path) -> None:
    result = gdn("evaluate", frame_file, "--against", "blur,unet")
    one_line(result, 2, "--against unet: give --unet DIR", "benchmarks/unets")
    assert len(unwrapped(result.stderr).splitlines()) == 1
    with pytest.raises(UsageFault, match="--against unet-blind: give --unet DIR"):
        methods_named("unet-blind", {})

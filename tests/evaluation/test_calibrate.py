"""The calibration of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from gdn.evaluation.error_samples import FitSample, Judged, Observation
from gdn.models import ModelError, find_model
from gdn.trust.columns import Columns
from gdn.trust.evidence import ColumnEvidence
from gdn.trust.fit import names
from gdn.trust.fit_law import SpectrumLaw
from gdn.trust.scaling import Scaling
from tests.helpers.needs import needs_training
from tests.helpers.places import ROOT


@pytest.mark.slow
@needs_training
def test_calibration_of_made_up_frames_covers_what_it_says() -> None:
    """Errors whose size a feature knows: the fitted law must find it, on structures it has not
    seen."""
    from gdn.evaluation.calibrate import calibrate

    rng = np.random.default_rng(0)
    observations = [made_up(n, rng) for n in range(40)]
    flat = SpectrumLaw(
        scaling=Scaling(mean=[0, 0], scale=[1, 1]), weights=[[[1, -1]]], biases=[[0]]
    )
    found = calibrate(observations, flat, "validation", 0)
    assert found.structures == 40
    fresh = [made_up(100 + n, rng) for n in range(20)]
    features = np.concatenate([o.pixels for o in fresh])
    error = np.abs(np.concatenate([o.errors for o in fresh]))
    inside = 100 * (error[:, None] <= found.spread.half_widths(features)).mean(0)
    np.testing.assert_allclose(inside, [50, 68.27, 90, 99], atol=4)
    noisy = features[:, 0] > -2.5
    assert 100 * (
        error[noisy] <= found.spread.half_widths(features[noisy])[:, 2]
    ).mean() == pytest.approx(90, abs=6)
    ratio = [
        np.mean(o.errors**2) / np.mean(found.spread.half_widths(o.pixels)[:, 1] ** 2) for o in fresh
    ]
    assert found.spread.frame_factor == pytest.approx(np.median(ratio), rel=0.2)
    assert 0.01 < found.spread.frame_log_error < 0.5
    far = [found.fit.tiles.distances(o.tiles, np.full(1, o.level)) for o in fresh]
    assert kstest(found.fit.tile_p(np.concatenate(far)), "uniform").pvalue > 0.001
    frames = [found.fit.frame_p(d, o.rings, o.level) for d, o in zip(far, fresh, strict=True)]
    assert kstest(frames, "uniform").pvalue > 0.001
    assert (
        found.fit.frame_p(10 * far[0], fresh[0].rings + np.array([20, -20]), fresh[0].level) < 0.03
    )

    evidence = np.concatenate([o.drawn[0].evidence.features() for o in fresh])
    true = np.concatenate([o.drawn[0].true for o in fresh])
    assert abs(found.columns.drawn.probability(evidence).mean() - true.mean()) < 0.1
    with pytest.raises(ValueError, match="at least 20"):
        calibrate(observations[:10], flat, "validation", 0)


def made_up(structure: int, rng: np.random.Generator) -> Observation:
    pixels = rng.normal(-3, 1, (300, 3))
    errors = rng.laplace(size=300) * np.exp(pixels[:, 0])
    tiles = rng.standard_normal((1, len(names())))

    def judged(n: int, drawn: bool) -> Judged:
        nats = rng.normal(2, 3, n)
        true = rng.uniform(size=n) < 1 / (1 + np.exp(-nats))
        one = np.ones(n)
        columns = Columns(np.zeros((n, 2)), one, 0.5 * one, np.full(n, drawn))
        return Judged(
            columns,
            ColumnEvidence(
                nats=nats, information=4 * one, doubt=0.1 * one, relative=one, amplitude=one
            ),
            true,
            rng.rayleigh(0.05, n),
        )

    return Observation(
        structure=structure,
        level=float(rng.normal(-2, 0.5)),
        pixels=pixels,
        errors=errors,
        tiles=tiles,
        rings=rng.standard_normal(2),
        drawn=[judged(30, True)] * 2,
        sites=[judged(8, False)] * 2,
    )


pytestmark = needs_training


def test_a_model_of_any_crystal_is_not_calibrated_on_ours(tmp_path: Path, dataset: Path) -> None:
    from gdn.evaluation.calibration_run import calibrate_folder

    model = shutil.copytree(ROOT / "gdn" / "models" / "pt-ceo2-64", tmp_path / "any")
    card = json.loads((model / "model.json").read_text())
    card["recipe"]["specimen"] = {"source": "any"}
    (model / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r".gdn simulate. does not make the recipe's .any."):
        calibrate_folder(model, dataset, 20)


def test_a_model_is_calibrated_on_frames_imaged_as_its_training_images_were(dataset: Path) -> None:
    from gdn.evaluation.calibration_run import CalibrationTask, draw_clean_view

    card = find_model("pt-ceo2-64").card
    path = min((dataset / "waves").glob("*.npz"))
    seen = []
    for blur in (0.05, 0.8):
        changed = card.model_copy(
            update={"recipe": card.recipe | {"imaging": {"blur_angstrom": [blur, blur]}}}
        )
        image = draw_clean_view(
            CalibrationTask(number=0, path=path, view=0, model=Path("unused"), seed=0),
            changed,
            np.random.default_rng(0),
        )
        seen.append(np.abs(np.diff(image)).mean())
    assert seen[0] > 1.5 * seen[1] > 0


def test_a_calibration_knows_its_data_and_its_time_beforehand(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame takes as long as 25 lessons of the classifier of spectra."""
    from gdn.evaluation import calibration_run

    with pytest.raises(ValueError, match=r"only 1 structures.*at least 20: simulate about 200"):
        calibration_run.calibrate_folder(find_model("pt-ceo2-64").folder, dataset, 20)
    for name in ("observe_structure", "lesson_of", "fit_spectrum", "calibrate", "store"):
        monkeypatch.setattr(calibration_run, name, lambda *args, **settings: None)
    monkeypatch.setattr(calibration_run, "check_enough", lambda structures, split: None)
    seen: list[tuple[float, float]] = []
    calibration_run.calibrate_folder(
        find_model("pt-ceo2-64").folder,
        dataset,
        20,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert [done for done, _ in seen[:20]] == list(range(1, 21))
    assert [done for done, _ in seen[20:]] == pytest.approx([20 + n / 25 for n in range(1, 5)])
    assert {of for _, of in seen} == {seen[-1][0]}


def test_small_fields_have_a_law_of_their_own(rng: np.random.Generator) -> None:
    """Their features depend on the share of a tile that is covered; p is uniform at every share."""
    from gdn.evaluation.calibrate import fit_law, folds_of

    def sample(structure: int, share: float, off: float = 0.0) -> FitSample:
        scale = np.exp(-0.5 * share)
        features = off + share + scale * rng.standard_normal((1, len(names())))
        level = float(rng.normal(-2, 0.5))
        return FitSample(
            structure=structure,
            level=level,
            tiles=features,
            rings=rng.standard_normal(2),
            share=share,
        )

    flat = SpectrumLaw(
        scaling=Scaling(mean=[0, 0], scale=[1, 1]), weights=[[[1, -1]]], biases=[[0]]
    )
    samples = [sample(n % 40, float(rng.uniform(-2, 0))) for n in range(400)]
    law = fit_law(samples, folds_of(samples, "validation"), flat, small=True)

    def p_of(made: FitSample) -> float:
        at = np.array([[made.level, made.share]])
        return law.frame_p(law.tiles.distances(made.tiles, at), made.rings, at)

    for share in (-1.8, -0.2):
        right = [p_of(sample(100, share)) for _ in range(60)]
        assert kstest(right, "uniform").pvalue > 0.001
        wrong = [p_of(sample(100, share, 3 * np.exp(-0.5 * share))) for _ in range(20)]
        assert np.median(wrong) < 0.01


def test_a_small_field_is_observed_as_a_user_would_denoise_it(
    dataset: Path, tmp_path: Path
) -> None:
    from gdn.evaluation.calibration_run import CalibrationTask
    from gdn.evaluation.small_fields import calibrate_small_fields, observe_small_field

    folder = find_model("pt-ceo2-64").folder
    with pytest.raises(ValueError, match=r"only 1 structures.*at least 20"):
        calibrate_small_fields(folder, dataset, 20)
    bare = shutil.copytree(folder, tmp_path / "bare")
    card = json.loads((bare / "model.json").read_text())
    del card["files"]["calibration.json"]
    (bare / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="no calibration"):
        calibrate_small_fields(bare, dataset, 20)
    path = min((dataset / "waves").glob("*.npz"))
    task = CalibrationTask(number=0, path=path, view=0, model=folder, seed=0)
    sample = observe_small_field(task)
    assert sample is not None
    assert 2 * np.log(0.3) - 0.1 < sample.share < 0
    assert sample.tiles.shape == (1, len(names()))

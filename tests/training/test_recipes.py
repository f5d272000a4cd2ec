"""The kinds of recipe beyond the plain ones: flow, rungs, style, plane waves, adversaries, labels,
the U-Net."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.commands import gdn
from tests.helpers.frames import noisy_frame
from tests.helpers.needs import needs_training
from tests.helpers.recipes import FULL, tiny, trained

pytestmark = needs_training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "recorded"),
    [
        ({"network": FULL}, {"fit", "kl", "psnr_study_db"}),
        ({"network": {"body": "style"}}, {"fit", "kl"}),
        ({"network": {"body": "waves", "waves": 4}}, {"fit", "kl"}),
        ({"network": {"stem": "linear"}, "loss": {"condition_weight": 50.0}}, {"condition"}),
        ({"network": {"patch": 24, "coarse": 6, "latent": 36}}, {"fit"}),
        (
            {
                "network": {"discriminator_norm": False},
                "loss": {"adversary": "relativistic", "gradient_penalty": 1.0},
            },
            {"d_loss"},
        ),
        (
            {"loss": {"kind": "gan", "adversary": "relativistic", "gradient_penalty": 1.0}},
            {"g_loss", "d_loss"},
        ),
        ({"stream": {"augment": False}}, {"fit"}),
        ({"loss": {"detector_share": 0.5}}, {"fit", "psnr_study_db"}),
    ],
)
def test_recipes_run_and_leave_finite_statistics(
    tmp_path: Path, dataset: Path, sections: dict[str, Any], recorded: set[str]
) -> None:
    row = trained(tiny(**sections), tmp_path / "run", dataset)
    assert recorded <= set(row)
    assert all(np.isfinite(v) for v in row.values() if isinstance(v, float))


@pytest.mark.slow
def test_flow_and_rungs_export_and_agree_with_torch(tmp_path: Path, full_run: Path) -> None:
    from gdn.engines.choose import open_engine
    from gdn.models import load_model
    from gdn.training.export import Trained, export_model
    from gdn.training.state import networks_of_run

    generator, encoder, recipe, training = networks_of_run(full_run)
    report = export_model(generator, encoder, Trained(recipe, training), tmp_path / "m")
    assert report.generator_error < 1e-4
    model = load_model(tmp_path / "m")
    image, sigma = (
        1 + np.random.default_rng(0).normal(0, 0.2, (9, 32, 32)).astype(np.float32),
        np.full(9, 0.2, np.float32),
    )
    with open_engine(model, "onnxruntime") as a, open_engine(model, "torch") as b:
        first, second = a.encode(image, sigma), b.encode(image, sigma)
        assert first is not None
        assert first.shape == (9, 80)
        np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.slow
def test_a_generator_without_a_folded_form_still_searches(tmp_path: Path, dataset: Path) -> None:
    from generators import open_networks

    from gdn.engines.torch import TorchEngine
    from gdn.generator.folding import fold
    from gdn.search.bank import bank_for
    from gdn.search.denoise_frame import denoise_frame
    from gdn.search.settings import Searcher

    trained(tiny(network={"body": "waves", "waves": 4}), tmp_path / "run", dataset)
    generator, encoder, _, _, model = open_networks(str(tmp_path / "run"))
    with pytest.raises(ValueError, match="cannot be exported"):
        fold(generator, 0.9)
    with TorchEngine(model, "cpu", networks=(generator, encoder)) as engine:
        z = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
        t = np.random.default_rng(1).normal(size=(2, 3, 16)).astype(np.float32)
        v = np.random.default_rng(2).normal(size=(2, 32, 32)).astype(np.float32)
        pushed, pulled = engine.push_forward(z, t), engine.pull_back(z, v)
        left = np.einsum("nkij,nij->nk", pushed, v)
        np.testing.assert_allclose(left, np.einsum("nkd,nd->nk", t, pulled), rtol=1e-3, atol=1e-4)
        frame = noisy_frame((150, 170)).astype(np.float32)
        found = denoise_frame(
            frame, 0.1, Searcher(engine=engine, bank=bank_for(engine, 0, 8, use_cache=False))
        )
        assert np.isfinite(found.image).all()


def test_weights_without_flow_and_rungs_start_a_run_with_them(
    tmp_path: Path, tiny_model: Path
) -> None:
    import torch

    from gdn.generator.loading import networks_of_model
    from gdn.training.state import State

    state = State(tiny(network=FULL), "cpu")
    state.start_from(tiny_model)
    old = networks_of_model(tiny_model)[0]
    torch.testing.assert_close(state.generator.stem.conv.weight, old.stem.conv.weight)
    with pytest.raises(ValueError, match="do not have the shape"):
        State(tiny(network=FULL | {"base_channels": 12}), "cpu").start_from(tiny_model)


@pytest.mark.slow
def test_a_unet_trains_exports_and_compares(
    tmp_path: Path, dataset: Path, frame_file: Path
) -> None:
    from gdn.evaluation.unet import unet_frame

    recipe = tiny(
        network={"patch": 32, "coarse": 4, "scales": 3, "channel_cap": 16}, loss={"kind": "unet"}
    )
    row = trained(recipe, tmp_path / "run", dataset)
    assert {"squared_error", "psnr_study_db"} <= set(row)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        made = gdn("export", tmp_path / "run", "-o", tmp_path / "mine")
    assert made.returncode == 0, made.stderr
    for shape in ((150, 170), (61, 93)):
        frame = np.random.default_rng(0).poisson(0.45, shape).astype(np.float32)
        found = unet_frame(frame, 0.45, 0.1, tmp_path / "mine")
        assert found.shape == shape
        assert np.isfinite(found).all()
    options = [
        "--vacuum",
        "0.45",
        "--against",
        "constant",
        "--unet",
        tmp_path / "mine",
        "--restarts",
        "8",
    ]
    compared = gdn("evaluate", frame_file, *options)
    assert compared.returncode == 0, compared.stderr
    assert "| poisson:1 | unet-mine |" in compared.stdout


def test_frames_edges_cut_some_images_and_what_lies_beyond_does_not_count() -> None:
    import torch

    from gdn.training.losses import random_windows, reconstruction
    from gdn.training.shared_randomness import StepDraws

    torch.manual_seed(0)
    inside = random_windows(400, 32, 0.5, StepDraws.single(0, "cpu"))
    assert inside.shape == (400, 1, 32, 32)
    seen = inside.mean((1, 2, 3))
    assert (
        0.4 < float((seen < 1).float().mean()) < 0.55
    )  # half, less those of which no side was cut
    for one in inside[:50, 0]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, (rows[:, None] & columns[None]).float())  # a rectangle
        assert min(int(rows.sum()), int(columns.sum())) >= 0.2 * 32 - 1
    assert random_windows(5, 16, 0.0, StepDraws.single(0, "cpu")).min() == 1
    target, images = torch.zeros(400, 1, 32, 32), torch.randn(400, 1, 32, 32)
    changed = torch.where(inside == 1, images, 1e3)
    variance = torch.ones(400)
    torch.testing.assert_close(
        reconstruction(images, target, variance, inside),
        reconstruction(changed, target, variance, inside),
    )
    assert (
        reconstruction(images, target, variance, inside)
        < reconstruction(images, target, variance, torch.ones(1))
    ).any()


def test_low_doses_count_for_more_where_less_is_called_unknown() -> None:
    """The weight of a noisy image against a clean one grows as `unknown_share` falls."""
    import torch

    from gdn.recipes import Recipe, load_recipe
    from gdn.training.shared_randomness import StepDraws
    from gdn.training.state import State
    from gdn.training.training_step import LOSSES

    fits = []
    for share in (1.0, 0.1):
        content = load_recipe("range").model_dump()
        content["network"] |= {"latent": 32, "patch": 32, "base_channels": 8, "coarse": 4}
        content["loss"] |= {"noisy_share": 1.0, "unknown_share": share, "cut_share": 0.5}
        state = State(recipe := Recipe.model_validate(content), "cpu")
        real = 0.2 * torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
        draws = StepDraws.single(2, "cpu")
        fits.append(
            LOSSES["range"](state, recipe, real, torch.zeros(8, 2), "cpu", draws)["fit"].item()
        )
    assert fits[1] > 1.5 * fits[0]


def test_detector_noise_comes_with_its_share_and_keeps_what_is_clean() -> None:
    import torch

    from gdn.training.losses import add_detector_noise, sample_noise
    from gdn.training.shared_randomness import StepDraws

    n, scale = 400, 0.5
    images, dose = torch.zeros(n, 1, 32, 32), torch.full((n,), 20.0)
    dose[:100] = 1e6
    draws = StepDraws.single(3, "cpu")
    white = sample_noise(images, dose, scale, draws)
    seen = add_detector_noise(white, images, dose, scale, 0.5, draws)
    changed = (seen != white).flatten(1).any(1)
    assert not changed[:100].any()
    assert 0.4 < changed[100:].float().mean() < 0.6
    neighbours = (seen[..., 1:] * seen[..., :-1]).mean((1, 2, 3)) / (seen**2).mean((1, 2, 3))
    assert (neighbours[~changed].abs() < 0.15).all()
    assert 0.3 < (neighbours[changed] > 0.15).float().mean() < 0.9  # blurred, or in lines
    rows = seen.mean((1, 3)).var(1) * 32 / seen.var((1, 2, 3))
    assert 0.1 < (rows[changed] > 3).float().mean() < 0.6
    again = add_detector_noise(white, images, dose, scale, 0.5, StepDraws.single(4, "cpu"))
    assert torch.equal(
        again, add_detector_noise(white, images, dose, scale, 0.5, StepDraws.single(4, "cpu"))
    )

"""The kinds of recipe beyond the plain ones: flow, rungs, style, plane waves, adversaries, labels,
the U-Net."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TINY, gdn, needs_training

pytestmark = needs_training
sys.path.insert(0, str(ROOT / "benchmarks"))


def tiny(**sections: dict[str, Any]):  # type: ignore[no-untyped-def]
    """The tiny recipe with changed settings."""
    import tomllib

    from gdn.recipes import Recipe

    content = tomllib.loads(TINY)
    content["optimiser"]["images"] = 64
    for section, changes in sections.items():
        content[section] |= changes
    return Recipe.model_validate(content)


def trained(recipe: Any, folder: Path, dataset: Path) -> dict[str, Any]:
    """The last line of the statistics of a short run."""
    from gdn.training.loop import RunOptions, train

    train(recipe, RunOptions(run=folder, data=dataset, threads=1, status_every=64))
    found: dict[str, Any] = json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])
    return found


FULL = {"latent": 80, "rungs": (1,), "rung_width": 8, "flow": 4, "flow_width": 8}


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
    ],
)
def test_recipes_run_and_leave_finite_statistics(
    tmp_path: Path, dataset: Path, sections: dict[str, Any], recorded: set[str]
) -> None:
    row = trained(tiny(**sections), tmp_path / "run", dataset)
    assert recorded <= set(row)
    assert all(np.isfinite(v) for v in row.values() if isinstance(v, float))


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A run with flow and rungs."""
    run = tmp_path_factory.mktemp("runs") / "full"
    trained(tiny(network=FULL), run, dataset)
    return run


def test_flow_and_rungs_export_and_agree_with_torch(tmp_path: Path, full_run: Path) -> None:
    from gdn.engines.choose import open_engine
    from gdn.models import load_model
    from gdn.training.export import export_model
    from gdn.training.state import networks_of_run

    generator, encoder, recipe, training = networks_of_run(full_run)
    report = export_model(generator, encoder, recipe, training, tmp_path / "m")
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


def test_a_flow_is_its_inverses_inverse_and_knows_its_volume() -> None:
    import torch

    from gdn.generator.prior_flow import PriorFlow

    torch.manual_seed(1)
    for shape in ((3, 4, 4), (6, 1, 1)):
        flow = PriorFlow(6, shape, 8).double()
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
        u = torch.randn(2, int(np.prod(shape))).double()
        e = flow(u)
        back, log_determinant = flow.inverse(e)
        torch.testing.assert_close(back, u)
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0], u[0])  # noqa: B023 - used at once
        torch.testing.assert_close(log_determinant[0], -torch.linalg.slogdet(jacobian).logabsdet)


def test_without_training_a_flow_changes_nothing() -> None:
    import torch

    from gdn.generator.networks import Generator, initialise

    generator = Generator(tiny(network=FULL).network)
    initialise(generator, "he")
    u = torch.randn(3, 80)
    torch.testing.assert_close(generator.to_latents(u), u)
    e, log_determinant = generator.to_normal(u)
    torch.testing.assert_close(e, u)
    assert log_determinant.abs().max() == 0


def test_every_latent_reaches_the_image() -> None:
    import torch

    from gdn.generator.networks import Generator

    for changes in (FULL, {"body": "style"}, {"body": "waves"}):
        generator = Generator(tiny(network=changes).network).eval()
        z = torch.randn(1, generator.latent, requires_grad=True)
        (gradient,) = torch.autograd.grad(generator(z).square().sum(), z)
        assert (gradient != 0).all(), changes


def test_a_generator_without_a_folded_form_still_searches(tmp_path: Path, dataset: Path) -> None:
    from conftest import noisy_frame
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
    torch.testing.assert_close(state.generator.stem.conv.weight, old.stem.conv.weight)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="another shape"):
        State(tiny(network=FULL | {"base_channels": 12}), "cpu").start_from(tiny_model)


@pytest.mark.parametrize(
    "bad",
    [
        {"latent": 15},
        {"patch": 48},
        {"rungs": (9,), "latent": 80},
        {"rungs": (1, 1, 1), "latent": 900},
    ],
)
def test_shapes_that_do_not_fit_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"patch|latent|rungs"):
        tiny(network=bad)


def test_labels_follow_defocus_and_thickness(dataset: Path) -> None:
    from gdn.simulation.imaging import Optics
    from gdn.training.patch_stream import wave_patches

    path = sorted((dataset / "waves").glob("*.npz"))[0]
    near, far = (
        wave_patches(path, Optics(defocus_nm=d), np.random.default_rng(0), 3, 32, 0.4)[1]
        for d in (4, 16)
    )
    np.testing.assert_allclose(far[:, 0] - near[:, 0], 2)
    np.testing.assert_array_equal(far[:, 1], near[:, 1])


def test_large_patches_never_leave_the_cell() -> None:
    from gdn.training.patch_stream import _angle

    rng = np.random.default_rng(0)
    angles = np.array([_angle(rng, 25.6, 64.0) for _ in range(500)])
    assert (25.6 * (np.abs(np.cos(angles)) + np.abs(np.sin(angles))) + 1 <= 32.001).all()
    assert np.ptp(np.array([_angle(rng, 12.8, 64.0) for _ in range(500)]) % (np.pi / 2)) > 1.4


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


def test_generators_of_a_kind_are_alike_and_noise_is_not() -> None:
    from distribution import likeness

    rng = np.random.default_rng(0)
    y, x = np.indices((32, 32))

    def lattices(n: int) -> np.ndarray:
        k, phase = rng.uniform(0.3, 0.6, (n, 1, 1)), rng.uniform(0, 6, (2, n, 1, 1))
        return (1 + 0.2 * np.cos(k * x + phase[0]) * np.cos(k * y + phase[1])).astype(np.float32)

    data = lattices(80)
    same = likeness(lattices(80), data)
    assert same.precision > 0.7
    assert same.recall > 0.7
    few = likeness(
        np.repeat(data[:2], 40, 0) + rng.normal(0, 1e-4, (80, 32, 32)).astype(np.float32), data
    )
    assert few.precision > 0.9
    assert few.recall < 0.5
    noise = likeness((1 + rng.normal(0, 0.2, (80, 32, 32))).astype(np.float32), data)
    assert noise.precision < 0.1
    assert noise.spectrum_db > same.spectrum_db + 3


def test_tiles_know_what_they_show(dataset: Path) -> None:
    from content import column_contrast, contrast_class, kind_of

    grid = np.stack(np.meshgrid(np.arange(1, 26, 1.5), np.arange(1, 26, 1.5)), -1).reshape(-1, 2)
    assert kind_of(np.full(len(grid), 78), grid, 26) == "particle"
    assert kind_of(np.full(len(grid), 58), grid, 26) == "support"
    part = grid[grid[:, 0] < 10]
    assert kind_of(np.full(len(part), 58), part, 26) == "edge"
    assert kind_of(np.zeros(0, int), np.zeros((0, 2)), 26) == "vacuum"
    y, x = np.indices((64, 64))
    places = (
        np.stack(np.meshgrid(np.arange(8, 60, 8), np.arange(8, 60, 8)), -1)
        .reshape(-1, 2)
        .astype(float)
    )
    dots = np.exp(
        -0.5 * (((y[..., None] - places[:, 0]) ** 2 + (x[..., None] - places[:, 1]) ** 2) / 2)
    ).sum(-1)
    for sign, name in ((-1, "black"), (1, "white"), (0.01, "intermediate")):
        assert (
            contrast_class(column_contrast((1 + 0.3 * sign * dots).astype(np.float32), places, 0.4))
            == name
        )
    assert (
        contrast_class(column_contrast(np.ones((8, 8), np.float32), np.zeros((0, 2)), 0.4))
        == "none"
    )


def test_every_experiment_is_a_valid_recipe() -> None:
    from experiments import EXPERIMENTS, recipe_of

    for name in EXPERIMENTS:
        recipe = recipe_of(name, 16_000)
        assert recipe.optimiser.images * recipe.network.patch**2 <= 16_000 * 64**2


@pytest.mark.slow
def test_the_instrument_prints_a_row_for_a_run(tmp_path: Path, full_run: Path) -> None:
    pytest.importorskip("abtem")  # the unseen structures are simulated on the spot
    script = [
        sys.executable,
        str(ROOT / "benchmarks" / "generators.py"),
        str(full_run),
        "--rows",
        str(tmp_path / "rows.jsonl"),
    ]
    small = [
        "--tiles",
        "4",
        "--targets",
        "2",
        "--samples",
        "16",
        "--steps",
        "2",
        "--frames",
        "0",
        "--threads",
        "1",
    ]
    command = [*script, *small, "--data", str(tmp_path / "data")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["test_2"]["all"]["n"] == 4
    assert {"precision", "recall", "spectrum_db"} == set(row["likeness"])
    assert "| full | 80 |" in result.stdout


def test_frames_edges_cut_some_images_and_what_lies_beyond_does_not_count() -> None:
    import torch

    from gdn.training.losses import random_windows, reconstruction
    from gdn.training.shared_randomness import StepDraws

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

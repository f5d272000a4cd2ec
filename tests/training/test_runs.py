"""Runs of training: what they leave, how they go on, what starts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.commands import gdn, unwrapped
from tests.helpers.needs import needs_training

pytestmark = needs_training


def test_a_smaller_generator_takes_the_weights_of_a_larger_one() -> None:
    from gdn.recipes import Recipe, load_recipe
    from gdn.training.state import State, load_common

    def half_as_large(name: str, **changes: int) -> State:
        content = load_recipe(name).model_dump()
        content["network"] |= {"base_channels": 4, "channel_cap": 8, "rung_width": 8, **changes}
        return State(Recipe.model_validate(content), "cpu")

    large, small = half_as_large("range-128-fine"), half_as_large("wide-64")
    load_common(small.generator, large.generator)
    load_common(small.encoder, large.encoder)
    mine = dict(small.generator.named_parameters())
    for name, its in large.generator.named_parameters():
        assert (mine[name] == its).all()


@pytest.mark.slow
def test_a_run_leaves_what_it_promises_and_resumes(
    tmp_path: Path, dataset: Path, tiny_recipe: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        "train",
        "--recipe",
        tiny_recipe,
        "--data",
        dataset,
        "-o",
        run,
        "--threads",
        "1",
        "--status-every",
        "64",
    ]
    assert gdn(*arguments, "--images", "128").returncode == 0
    images = [json.loads(line)["images"] for line in (run / "stats.jsonl").read_text().splitlines()]
    assert images[-1] == 128
    assert (run / "recipe.json").exists()
    assert list((run / "grids").glob("*.png"))
    result = gdn(*arguments, "--images", "256")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [r["images"] for r in rows] == sorted({r["images"] for r in rows})
    assert rows[-1]["images"] == 256
    assert {"fit", "kl", "diversity", "psnr_study_db", "warnings"} <= set(rows[-1])
    other = gdn(*arguments, "--latent", "32")
    assert other.returncode == 1
    assert "other settings" in " ".join(other.stderr.split())


@pytest.mark.slow
def test_a_run_says_after_every_step_how_far_it_is(
    tmp_path: Path, dataset: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gdn.batch.terminal import Log
    from gdn.recipes import load_recipe
    from gdn.training.loop import RunOptions, train

    recipe = load_recipe(str(tiny_recipe))
    seen: list[int] = []
    train(recipe, RunOptions(run=tmp_path, data=dataset, threads=1, progress=seen.append))
    assert seen == list(range(16, 257, 16))
    # As the command shows it: the first step also makes the first patches, and is not counted.
    times = iter([0.0, 0.0, 10.0])
    log = Log("training", 256, lambda: next(times))
    for images in (16, 36):
        log(images)
    assert "about 2 min left" in capsys.readouterr().err


def test_a_checkpoint_restores_networks_and_counters(tmp_path: Path, tiny_recipe: Path) -> None:
    import torch

    from gdn.recipes import load_recipe
    from gdn.training.state import State
    from gdn.training.training_step import learning_rate_factor

    torch.manual_seed(0)
    recipe = load_recipe(str(tiny_recipe))
    state = State(recipe, "cpu")
    state.images = 77
    state.save(tmp_path / "checkpoint.pt")
    other = State(
        recipe.model_copy(update={"stream": recipe.stream.model_copy(update={"seed": 5})}), "cpu"
    )
    other.load(tmp_path / "checkpoint.pt", "cpu")
    assert other.images == 77
    for a, b in zip(state.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert learning_rate_factor(recipe, 0) == 1


def test_the_study_recipe_is_the_studys() -> None:
    from gdn.generator.networks import Discriminator, Generator
    from gdn.recipes import load_recipe

    recipe = load_recipe("dcgan")
    assert (
        recipe.optimiser.lr_discriminator,
        recipe.optimiser.lr_generator,
        recipe.optimiser.beta1,
    ) == (4e-4, 1e-4, 0.5)
    assert (recipe.optimiser.batch, recipe.loss.label_smoothing, recipe.network.base_channels) == (
        36,
        0.9,
        64,
    )
    import torch

    from gdn.recipes import Network

    torch.manual_seed(0)
    for patch in (32, 512):
        network = Network(latent=50, patch=patch, base_channels=8, channel_cap=64)
        generator, discriminator = Generator(network), Discriminator(network)
        x = generator(torch.randn(2, 50))
        assert x.shape == (2, 1, patch, patch)
        assert x.abs().max() <= 1
        assert discriminator(x).shape == (2, 1)


def test_collapse_is_said_aloud() -> None:
    from gdn.training.run_log import collapse_warnings

    assert not collapse_warnings({"diversity": 0.9, "d_real": 0.7, "d_fake": 0.3})
    assert "collapse" in collapse_warnings({"diversity": 0.05})[0]
    assert "no gradient" in collapse_warnings({"diversity": 0.9, "d_real": 0.9, "d_fake": 0.001})[0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name = 3", "schema_version"),
        ("x = [", "TOML"),
        ('schema_version = 1\nname = "a"\n[network]\npatch = 33', "patch"),
        ('schema_version = 1\nname = "a"\nfoo = 1', "foo"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    result = gdn("train", "--recipe", path)
    assert result.returncode == 2
    assert word in result.stderr or "name" in result.stderr
    assert "Traceback" not in result.stderr


def test_training_without_data_is_one_line(tmp_path: Path) -> None:
    result = gdn("train", "--data", tmp_path, "-o", tmp_path / "r")
    assert result.returncode == 1
    assert "gdn simulate" in " ".join(result.stderr.split())
    assert len(unwrapped(result.stderr).strip().splitlines()) == 1


def test_dry_run_prints_settings() -> None:
    result = gdn("train", "--recipe", "dcgan", "--latent", "50", "--patch", "512", "--dry-run")
    assert json.loads(result.stdout)["network"]["latent"] == 50


def test_start_from_a_model(
    tmp_path: Path, tiny_model: Path, tiny_recipe: Path, dataset: Path
) -> None:
    arguments = [
        "train",
        "--recipe",
        tiny_recipe,
        "--data",
        dataset,
        "--images",
        "32",
        "--threads",
        "1",
    ]
    assert gdn(*arguments, "-o", tmp_path / "a", "--from", tiny_model).returncode == 0
    wrong = gdn(*arguments, "-o", tmp_path / "b", "--from", tiny_model, "--latent", "32")
    assert wrong.returncode == 1
    assert "do not have the shape" in " ".join(wrong.stderr.split())


@pytest.mark.slow
def test_start_from_what_a_sitting_left(
    tmp_path: Path, tiny_run: Path, tiny_recipe: Path, dataset: Path
) -> None:
    from gdn.recipes import load_recipe
    from gdn.training.state import State

    sitting = tmp_path / "sitting"
    sitting.mkdir()
    state = State(load_recipe(str(tiny_recipe)), "cpu")
    state.load(tiny_run / "checkpoint.pt", "cpu")
    state.save_weights(sitting / "weights.safetensors")
    content = json.loads((tiny_run / "recipe.json").read_text()) | {
        "training": {"images": 256, "seconds": 3.1}
    }
    (sitting / "recipe.json").write_text(json.dumps(content))
    arguments = [
        "train",
        "--recipe",
        tiny_recipe,
        "--data",
        dataset,
        "--images",
        "16",
        "--threads",
        "1",
        "--from",
        sitting,
    ]
    done = gdn(*arguments, "-o", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    (sitting / "recipe.json").write_text("{}")
    wrong = gdn(*arguments, "-o", tmp_path / "b")
    assert wrong.returncode == 1
    assert "not the settings of a run" in unwrapped(wrong.stderr)
    assert len(unwrapped(wrong.stderr).strip().splitlines()) == 1

"""`benchmarks/sitting.py` at toy size on a CPU: what it leaves is whole, run to its end or stopped
at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.places import ROOT
from tests.helpers.scripts import run_script

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gdn[train]'")


from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.recipes import Recipe
from gdn.simulation.breadth import any_structure
from gdn.simulation.structures import seeds_of
from gdn.simulation.workers import StructureWorkers
from gdn.training import restoring
from gdn.training.restoring import RestorerRecipe, RestorerRun, rate_factor, train_restorer
from gdn.training.state import State
from gdn.training.timed_run import ResidentRun

MODEL = ROOT / "gdn" / "models" / "pt-ceo2-128"
RECIPES = {
    "restore": ("restore.json", []),
    "pt-ceo2-wide-128": ("recipe.json", ["--from", str(MODEL)]),
    "crystals-128": ("recipe.json", []),
}
PATIENCE = 400  # seconds: on a loaded machine torch alone takes half a minute to import


def start_sitting(recipe: str, out: Path, seconds: float, status: float) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "sitting.py"),
        "--toy",
        "--recipe",
        recipe,
        *RECIPES[recipe][1],
    ]
    command += ["--seconds", str(seconds), "--status", str(status), "-o", str(out)]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def check_whole(out: Path, recipe: str) -> list[dict[str, float]]:
    """Everything under a final name loads, weights into the networks that they are of; returns the
    status rows."""
    from PIL import Image
    from safetensors.torch import load_file

    content = json.loads((out / RECIPES[recipe][0]).read_text())
    if recipe == "restore":
        shape = RestorerShape(**{name: tuple(value) for name, value in content["shape"].items()})
        weights = load_file(str(out / "restore.safetensors"))
        Restorer(shape).load_state_dict(weights)
        assert {value.dtype for value in weights.values()} == {torch.float16}
    else:
        State(Recipe.model_validate(content["recipe"]), "cpu").start_from(out)
        weights = load_file(str(out / "weights.safetensors"))
    assert all(torch.isfinite(value).all() for value in weights.values())
    for picture in out.glob("*.png"):
        with Image.open(picture) as image:
            image.load()
    rows = out / "stats.jsonl"  # written after the weights
    return [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []


def whole_sitting(recipe: str, out: Path, *more: str) -> str:
    """One of the least time, in this process; what it said."""
    options = ("--toy", "--recipe", recipe, *RECIPES[recipe][1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return run_script("sitting", *options, "--seconds", 2, "--status", 60, "-o", out, *more)


@pytest.fixture(scope="module")
def restored(tmp_path_factory) -> tuple[Path, str]:
    """A sitting for a restorer: what it left, and said."""
    out = tmp_path_factory.mktemp("sitting") / "out"
    return out, whole_sitting("restore", out)


@pytest.mark.benchmark
@pytest.mark.parametrize("recipe", ["restore", "pt-ceo2-wide-128"])
def test_a_sitting_leaves_weights_settings_statistics_and_its_throughput(
    tmp_path, restored, recipe
):
    out, said = (
        restored
        if recipe == "restore"
        else (tmp_path / "out", whole_sitting(recipe, tmp_path / "out"))
    )
    rows = check_whole(out, recipe)
    assert rows
    assert rows[-1]["patches" if recipe == "restore" else "images"] >= 0
    assert {"patches_a_second", "drawn_a_second", "drawing_share"} == set(
        json.loads(said.splitlines()[-1])
    )
    assert [json.loads(line) for line in said.splitlines()[:-1]] == rows
    assert list(out.glob("*.png"))
    assert not list(out.glob("*.part"))


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("recipe", "number"),
    [
        ("restore", signal.SIGTERM),
        ("restore", signal.SIGKILL),
        ("pt-ceo2-wide-128", signal.SIGKILL),
    ],
)
def test_a_sitting_stopped_at_any_moment_leaves_whole_files(tmp_path, recipe, number):
    out = tmp_path / "out"
    process = start_sitting(recipe, out, 100 * PATIENCE, 0.05)  # one snapshot after another
    try:
        until = time.monotonic() + PATIENCE
        while not (out / RECIPES[recipe][0]).exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, "no snapshot came"
            time.sleep(0.05)
        wait = np.random.default_rng(int(number)).uniform(0, 2)
        print(f"stopped {wait:.3f} s after the first snapshot")  # shown if the test fails
        time.sleep(wait)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -number
    check_whole(out, recipe)


@pytest.mark.slow
def test_a_generator_is_trained_on_any_crystal(tmp_path):
    run = ResidentRun("crystals-128", None, "cpu", toy=True)
    assert run.source.make is any_structure
    seeds = seeds_of("train", np.random.default_rng(0))
    for _ in range(4):
        run.source.add(run.source.make(next(seeds)))
    rows = list(run.train(tmp_path, 0.1, StructureWorkers(run.source.make, seeds, 0)))
    assert rows[-1]["images"] >= 4
    assert check_whole(tmp_path, "crystals-128") == rows
    assert run.held_out.shape == (16, 1, 128, 128)
    assert (
        float(run.held_out.abs().max()) * run.recipe.network.intensity_scale < 1.99 + 1e-4
    )  # most_contrast
    assert len(torch.unique(run.held_out.flatten(1), dim=0)) == 16


@pytest.mark.benchmark
def test_a_sitting_goes_on_from_what_another_left(tmp_path, restored):
    whole_sitting("restore", tmp_path / "second", "--from", str(restored[0]))
    check_whole(tmp_path / "second", "restore")


def test_a_span_is_its_part_of_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RestorerRecipe(
        shape=RestorerShape((8, 16), (1, 1)), patch=48, images=2, per_image=1, batch=2, pool=2
    )
    run = RestorerRun(recipe, "cpu", compiled=False)
    shares: list[float] = []

    def step(clean: object, done: float) -> object:
        shares.append(done)
        return torch.zeros(())

    monkeypatch.setattr(run, "step", step)
    monkeypatch.setattr(run, "clean", lambda: torch.ones(2, 1, 48, 48))
    monkeypatch.setattr(restoring, "snapshot", lambda *_: {})
    list(train_restorer(run, tmp_path, 0.2, lambda _: None, 60.0, (0.7, 1.0)))
    assert shares[0] == pytest.approx(0.7, abs=0.01)
    assert 0.95 < shares[-1] <= 1.0
    # Where one sitting ends, the rate is that at which the next one begins, after its warm-up.
    assert rate_factor(recipe, 10_000, 0.7) < 0.5 < rate_factor(recipe, 10_000, 0.4)


def test_a_span_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("1,0.7", "0.5", "a,b", "0,1.2"):
        with pytest.raises(SystemExit) as stopped:
            run_script("sitting", "--seconds", 1, "-o", tmp_path, "--span", text)
        assert stopped.value.code == 2
        assert "--span" in capsys.readouterr().err

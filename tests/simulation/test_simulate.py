"""`gdn simulate`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.recipes import Imaging
from gdn.simulation.dataset import structure_seed
from gdn.simulation.imaging import Optics, oversampled, read_wave
from gdn.simulation.simulate import seed_of_path
from gdn.simulation.structures import split_of
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import needs_training

pytestmark = needs_training


@pytest.mark.slow
def test_simulate_in_parallel_resumes_and_repeats(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert (
        gdn(
            "simulate", a, "--count", "3", "--seed", "9", "--frames", "1", "--workers", "2"
        ).returncode
        == 0
    )
    waves = sorted((a / "waves").iterdir())
    assert len(waves) == 3
    assert len(list((a / "frames").iterdir())) == 1
    before = {p: p.stat().st_mtime_ns for p in waves}
    waves[1].unlink()
    (a / "waves" / "000001.123.part").write_text("left by a kill")
    assert gdn("simulate", a, "--count", "3", "--seed", "9").returncode == 0
    assert sorted((a / "waves").iterdir()) == waves
    assert waves[0].stat().st_mtime_ns == before[waves[0]]
    assert gdn("simulate", b, "--count", "2", "--seed", "9").returncode == 0
    for p in waves[:2]:
        one, two = read_wave(p), read_wave(b / "waves" / p.name)
        scale = np.abs(one.spectrum).max()
        np.testing.assert_allclose(one.spectrum / scale, two.spectrum / scale, atol=1e-5)
        assert one.record == two.record
        assert one.record["seed"] == seed_of_path(p)


@pytest.mark.slow
def test_abtem_makes_waves_if_asked_to_and_never_in_a_folder_of_the_others(tmp_path: Path) -> None:
    pytest.importorskip("abtem")
    waves = []
    for name in ("torch", "abtem"):
        done = gdn("simulate", tmp_path / name, "--count", "1", "--seed", "9", "--multislice", name)
        assert done.returncode == 0, done.stderr
        waves.append(read_wave(next((tmp_path / name / "waves").iterdir())))
    assert [w.record["simulation"] for w in waves] == ["gdn", "abTEM"]
    assert waves[0].record["structure"] == waves[1].record["structure"]
    images = [oversampled(w, Optics(defocus_nm=5), 160, 0.4) for w in waves]
    assert (
        np.sqrt(np.mean((images[0] - images[1]) ** 2)) < 0.1 * images[1].std()
    )  # docs/measurements/simulation.md: what is left
    one_line(
        gdn("simulate", tmp_path / "abtem", "--count", "2", "--seed", "9"),
        1,
        "or abtem (--multislice)",
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--multislice", "magic"), "torch or abtem"),
        (("--device", "tpu"), "cpu, cuda or cuda:N"),
        (("--device", "cuda:99"), "torch sees"),
    ],
)
def test_waves_by_nobody_and_nowhere_are_refused(
    tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    one_line(gdn("simulate", tmp_path / "d", "--count", "1", "--seed", "1", *more), 2, words)
    assert not list(tmp_path.glob("d/waves/*"))


def test_frames_are_of_the_split_and_the_recipe_that_are_named(
    tmp_path: Path, dataset: Path
) -> None:
    from gdn.simulation.simulate import FrameChoice, SimulationPlan, simulate, wave_path

    seeds = [structure_seed(4, index) for index in range(30)]
    tests = [index for index, seed in enumerate(seeds) if split_of(seed) == "test"]
    (tmp_path / "waves").mkdir()
    stored = min((dataset / "waves").glob("*.npz"))
    for index, seed in enumerate(seeds):  # copies: nothing is left to be computed
        shutil.copy(stored, wave_path(tmp_path, index, seed))

    def frames(choice: FrameChoice) -> list[str]:
        plan = SimulationPlan(out=tmp_path, count=30, seed=4, frames=3, imaged=choice)
        simulate(plan)
        return sorted(path.name for path in (tmp_path / choice.folder).iterdir())

    assert len(frames(FrameChoice(split="test"))) == 3
    blurred = FrameChoice(Imaging(blur_angstrom=(0.9, 0.9)), "blurred", "test")
    names = frames(blurred)
    assert names == frames(FrameChoice(split="test"))
    assert all(name.startswith("test_") for name in names)
    assert {int(name.split("_")[1]) for name in names} <= set(tests)
    sharp, soft = (
        tifffile.imread(tmp_path / folder / names[0]) for folder in ("frames", "frames-blurred")
    )
    assert np.abs(np.diff(soft)).mean() < 0.7 * np.abs(np.diff(sharp)).mean()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--frames-of", "tests"), "--frames-of tests: all, train, validation, test"),
        (("--recipe", "nothing"), "--recipe unknown recipe 'nothing'"),
    ],
)
def test_frames_of_nothing_are_refused(tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    made = ("simulate", tmp_path / "d", "--count", "1", "--seed", "1", "--frames", "1")
    one_line(gdn(*made, *more), 2, words)

"""Shared pieces: a tiny simulated data set, a tiny trained run, a tiny exported model, frames on
disk."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.engines.restorer import RestorerSession
from gdn.models import RestorerModel, load_any
from tests.helpers.frames import noisy_frame
from tests.helpers.models import Exported, exported, made_once
from tests.helpers.places import DEMO_WAVES
from tests.helpers.recipes import FULL, TINY, tiny, trained

# Fixtures that take long, and make slow whatever asks for them: exports, trainings, a demo frame.
SLOW_FIXTURES = {"tiny_export", "full_run", "restorer_sitting", "running", "restored"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["GDN_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["GDN_THREADS"] = "1"


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers of one test alone: they do not depend on which tests run before it."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def demo_wave() -> Path:
    """One of the shipped exit waves."""
    return sorted(DEMO_WAVES.glob("*.npz"))[0]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of copies of small perturbed waves: training code runs on it, nothing can be
    learnt."""
    from dataclasses import replace

    from gdn.simulation.imaging import read_wave, write_wave

    folder = tmp_path_factory.mktemp("dataset")
    (folder / "waves").mkdir()
    wave = read_wave(sorted(DEMO_WAVES.glob("*.npz"))[0])
    for index, seed in enumerate((2, 3, 4, 5, 11)):  # 11 is a validation seed
        turned = np.ascontiguousarray(np.rot90(np.fft.fftshift(wave.spectrum), index))
        write_wave(
            folder / "waves" / f"{index:06d}_{seed}.npz",
            replace(wave, spectrum=np.fft.ifftshift(turned)),
        )
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, dataset: Path, tiny_recipe: Path) -> Path:
    """A finished run of the tiny recipe."""
    from gdn.recipes import load_recipe
    from gdn.training.loop import RunOptions, train

    def make(run: Path) -> None:
        train(
            load_recipe(str(tiny_recipe)),
            RunOptions(run=run, data=dataset, threads=1, status_every=128),
        )

    return made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A run with flow and rungs."""

    def make(run: Path) -> None:
        trained(tiny(network=FULL | {"residual": 0}), run, dataset)

    return made_once(tmp_path_factory, "full", make)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Exported:
    """The tiny run, exported by the command: many seconds, so once for all tests."""
    return exported(tmp_path_factory, "export", tiny_run, called="tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_export: Exported) -> Path:
    """The tiny run's model."""
    return tiny_export.folder


@pytest.fixture(scope="session")
def tiny_half(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Exported:
    """That model in half precision; with plans of its graphs where tensorrt_rtx is there to build
    them."""
    plans = () if importlib.util.find_spec("tensorrt_rtx") is None else ("--engine", "tensorrt")
    return exported(tmp_path_factory, "half-export", tiny_model, "--fp16", *plans, called="half")


@pytest.fixture(scope="session")
def restorer_sitting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of a tiny restorer leaves: random weights."""
    import torch
    from safetensors.torch import save_file

    from gdn.generator.restorer_network import Restorer, RestorerShape

    folder = tmp_path_factory.mktemp("sitting")
    torch.manual_seed(0)
    network = Restorer(RestorerShape((8, 8), (1, 1)))
    with torch.no_grad():
        network.leave.weight.normal_(0, 0.05)
    save_file(network.state_dict(), str(folder / "restore.safetensors"))
    about = {
        "shape": network.shape.record(),
        "sampling_angstrom": 0.35,
        "seeds": [0],
        "images": 0,
        "recipe": {"name": "none"},
    }
    (folder / "restore.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def restorer(tmp_path_factory: pytest.TempPathFactory, restorer_sitting: Path) -> Path:
    """Its model folder, by the command."""
    made = exported(tmp_path_factory, "restorer", restorer_sitting, called="restore")
    assert "a restorer" in made.said
    return made.folder


@pytest.fixture
def restorer_session(restorer: Path) -> RestorerSession:
    model = load_any(restorer)
    assert isinstance(model, RestorerModel)
    return RestorerSession(model, "cpu", 1)


@pytest.fixture
def frame_file(tmp_path: Path) -> Path:
    """An ImageJ TIFF of one noisy frame at 0.061 Å per pixel."""
    path = tmp_path / "frame.tif"
    tifffile.imwrite(
        path,
        noisy_frame(),
        imagej=True,
        resolution=(10 / 0.061, 10 / 0.061),
        metadata={"unit": "nm", "axes": "YX"},
    )
    return path


@pytest.fixture
def not_for_ever() -> Iterator[None]:
    """A test that waits for a pipe, or follows links without end, fails after two minutes."""

    def late(number: int, frame: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)

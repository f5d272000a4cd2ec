"""Shared pieces: a tiny simulated data set, a tiny trained run, a tiny exported model, frames on
disk."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.cli import main

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def have_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


needs_training = pytest.mark.skipif(not have_torch(), reason="needs the train extra (torch)")
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"internal test data not found at {SHARED}"
)


def gdn_process(
    *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "gdn", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


def gdn(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in this process, which is a second cheaper than one of its own: its exit code and
    what it wrote."""
    logger, terminated = logging.getLogger("gdn"), signal.getsignal(signal.SIGTERM)
    handlers, propagate = logger.handlers, logger.propagate
    said, errors = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as end,
        ):
            main([str(a) for a in arguments])
    finally:
        signal.signal(signal.SIGTERM, terminated)
        logger.handlers, logger.propagate = handlers, propagate
    return subprocess.CompletedProcess(
        arguments, end.value.code, said.getvalue(), errors.getvalue()
    )


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["GDN_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["GDN_THREADS"] = "1"


@pytest.fixture(scope="session")
def demo_wave() -> Path:
    """One of the shipped exit waves."""
    return sorted((ROOT / "gdn" / "evaluation" / "demo_waves").glob("*.npz"))[0]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of copies of small perturbed waves: training code runs on it, nothing can be
    learnt."""
    from dataclasses import replace

    from gdn.simulation.imaging import read_wave, write_wave

    folder = tmp_path_factory.mktemp("dataset")
    (folder / "waves").mkdir()
    wave = read_wave(sorted((ROOT / "gdn" / "evaluation" / "demo_waves").glob("*.npz"))[0])
    for index, seed in enumerate((2, 3, 4, 5, 11)):  # 11 is a validation seed
        turned = np.ascontiguousarray(np.rot90(np.fft.fftshift(wave.spectrum), index))
        write_wave(
            folder / "waves" / f"{index:06d}_{seed}.npz",
            replace(wave, spectrum=np.fft.ifftshift(turned)),
        )
    return folder


TINY = """
schema_version = 1
name = "tiny"
[specimen]
description = "nothing in particular"
[network]
latent = 16
patch = 32
base_channels = 8
channel_cap = 16
stem = "grid"
residual = 1
initialisation = "he"
[optimiser]
images = 256
batch = 16
lr_generator = 1e-3
beta1 = 0.9
ema_images = 64
[loss]
kind = "range"
adversarial_weight = 0.01
[stream]
reservoir = 64
patches_per_image = 8
"""


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

    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(
        load_recipe(str(tiny_recipe)),
        RunOptions(run=run, data=dataset, threads=1, status_every=128),
    )
    return run


@dataclass(frozen=True)
class Exported:
    """A model folder and what the command said that made it."""

    folder: Path
    said: str


def _export(source: Path, folder: Path, *options: str) -> Exported:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        done = gdn("export", source, "-o", folder, *options)
    assert done.returncode == 0, done.stderr
    return Exported(folder, done.stdout)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Exported:
    """The tiny run, exported by the command: many seconds, so once for all tests."""
    return _export(tiny_run, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_export: Exported) -> Path:
    """The tiny run's model."""
    return tiny_export.folder


@pytest.fixture(scope="session")
def tiny_half(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Exported:
    """That model in half precision; with plans of its graphs where tensorrt_rtx is there to build
    them."""
    plans = () if importlib.util.find_spec("tensorrt_rtx") is None else ("--engine", "tensorrt")
    return _export(tiny_model, tmp_path_factory.mktemp("models") / "half", "--fp16", *plans)


def noisy_frame(
    shape: tuple[int, int] = (220, 240), seed: int = 0, dose: float = 0.45
) -> np.ndarray:
    """Poisson counts of a lattice, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    clean = 1 + 0.2 * np.cos(2 * np.pi * x / 33) * np.cos(2 * np.pi * y / 40)
    return rng.poisson(dose * clean).astype(np.uint8)


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

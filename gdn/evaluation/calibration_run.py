"""Calibrate a model folder: denoise simulated frames of the validation split, fit, and store
`calibration.json` (docs/method.md, "Trust")."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gdn.evaluation.calibrate import calibrate, check_enough
from gdn.evaluation.error_samples import Observation, observe
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.evaluation.spectrum_law import fit_spectrum, lesson_of
from gdn.frames.resampling import bin_sum
from gdn.likelihood import Array
from gdn.models import Model, ModelCard, load_model, sha256_of
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.open_models import beside_restorer
from gdn.pipeline.options import Options
from gdn.recipes import Imaging, Specimen
from gdn.search.denoise_frame import FrameResult
from gdn.simulation.clean_images import (
    check_fields,
    is_clean_image,
    read_clean_image,
    stored_scenes,
)
from gdn.simulation.dataset import check_specimen
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, read_wave, render
from gdn.simulation.simulate import frame_optics, seed_of_path
from gdn.simulation.structures import split_of
from gdn.storage import json_line, writing
from gdn.trust.calibration import FILE, Calibration

SPLIT = "validation"
LESSONS = "train"  # for the classifier of spectra, whose null comes from SPLIT
RESTARTS = 256
POISSON_SHARE = 0.6
LOG10_POISSON = (-0.5, 1.6)  # of the noise suite's s: 0.14 to 18 electrons per recorded pixel
LOG10_GAUSSIAN = (-1.3, 0.18)
LESSONS_PER_FRAME = 25  # in the time that one frame takes
LARGEST_FIELD = 2.0  # patches: smaller generators are for smaller frames

Progress = Callable[[float, float], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CalibrationTask:
    """A frame of a calibration.

    - `number`: of the frame.
    - `path`: of its structure's wave or image.
    - `view`: of the structure.
    - `model`: the folder.
    - `seed`: of the calibration.
    """

    number: int
    path: Path
    view: int
    model: Path
    seed: int


def calibrate_folder(
    folder: Path,
    data: Path,
    frames: int,
    workers: int = 1,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Calibration:
    """Calibrate the model in `folder` on `frames` frames of the validation structures in the data
    set `data`.

    Raises ValueError if there are too few structures, or if the model is for another specimen or
    voltage.
    """
    card = load_model(folder).card
    specimen = Specimen.model_validate(card.recipe.get("specimen", {}))
    check_specimen(data, specimen)
    check_fields(data, specimen, card.patch * card.sampling_angstrom)
    paths, lessons = (scenes_of(data, split) for split in (SPLIT, LESSONS))
    tasks = tasks_of(paths, frames, folder, seed)
    total = frames + len(lessons) / LESSONS_PER_FRAME
    teach = partial(
        lesson_of,
        sampling_angstrom=card.sampling_angstrom,
        patch=card.patch,
        ranges=imaging_of(card),
    )
    with mapping(workers) as mapped:
        observations = counted(mapped(observe_structure, tasks), lambda n: progress(n, total))
        taught = counted(
            mapped(teach, lessons, range(len(lessons))),
            lambda n: progress(frames + n / LESSONS_PER_FRAME, total),
        )
    result = calibrate(observations, fit_spectrum(taught, seed), SPLIT, seed)
    store(folder, result)
    return result


def tasks_of(
    paths: Sequence[Path], frames: int, model: Path, seed: int, per_view: int = 1
) -> list[CalibrationTask]:
    """The frames of a calibration: structure after structure, each view after `per_view` frames
    another one. Raises ValueError, before any work, if there are too few structures."""
    check_enough(len({seed_of_path(path) for path in paths[:frames]}), SPLIT)
    return [
        CalibrationTask(
            number=n,
            path=paths[n % len(paths)],
            view=n // len(paths) // per_view,
            model=model,
            seed=seed,
        )
        for n in range(frames)
    ]


def scenes_of(data: Path, split: str) -> list[Path]:
    """Waves or clean images of a split of a data set, in order."""
    paths = [p for p in stored_scenes(data) if split_of(seed_of_path(p)) == split]
    if not paths:
        raise ValueError(
            f"{data}: no exit waves or images of the {split} split; 'gdn simulate' makes them"
        )
    return paths


@contextmanager
def mapping(workers: int) -> Iterator[Callable[..., Any]]:
    """`map`, over processes of one thread each if there are several."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield pool.map


def counted(items: Iterable[T], progress: Callable[[int], None]) -> list[T]:
    """Yield all `items` and report each."""
    results = []
    for item in items:
        results.append(item)
        progress(len(results))
    return results


def store(folder: Path, calibration: Calibration) -> None:
    """Write `calibration.json` and its hash into a model folder."""
    path, card = folder / FILE, folder / "model.json"
    with writing(path) as temporary:
        temporary.write_text(calibration.model_dump_json() + "\n")
    content = json.loads(card.read_text())
    content["files"][FILE] = sha256_of(path)
    with writing(card) as temporary:
        temporary.write_text(json_line(content, indent=1) + "\n")
    load_model(folder)


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


@cache
def model_in(folder: Path) -> Model:
    """The model in `folder`. Its files are hashed once per process."""
    return load_model(folder)


@cache
def denoiser_of(folder: Path) -> Denoiser:
    """The model in `folder`, used as `gdn denoise` uses a model that was chosen. Opened once per
    process."""
    return Denoiser.of(beside_restorer(model_in(folder)), Options(restarts=RESTARTS, threads=1))


def draw_noise(rng: np.random.Generator) -> Noise:
    """A random noise of the suite's kinds, at a level within its range or somewhat beyond."""
    if rng.random() < POISSON_SHARE:
        return Noise("poisson", float(10 ** rng.uniform(*LOG10_POISSON)))
    return Noise("gaussian", float(10 ** rng.uniform(*LOG10_GAUSSIAN)))


def imaging_of(card: ModelCard) -> Imaging:
    """The imaging conditions of a model's training images. The frames for its calibration have the
    same conditions."""
    return Imaging.model_validate(card.recipe.get("imaging", {}))


def draw_clean_view(task: CalibrationTask, card: ModelCard, rng: np.random.Generator) -> Array:
    """A random clean frame, study units: cut to at most LARGEST_FIELD patches, at a random
    place."""
    patch_angstrom = card.patch * card.sampling_angstrom
    image = np.maximum(whole_view(task, card), 0) * np.float32(STUDY_VACUUM)
    least = patch_angstrom / FRAME_SAMPLING
    side = min(min(image.shape), round(rng.uniform(least, LARGEST_FIELD * least)))
    y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape)
    return np.ascontiguousarray(image[y : y + side, x : x + side])


def whole_view(task: CalibrationTask, card: ModelCard) -> Array:
    """The whole field of a wave under a random setting; of a clean image all, or a part as large as
    the field of a wave at a random place."""
    seed = seed_of_path(task.path)
    if not is_clean_image(task.path):
        optics = frame_optics(seed, task.view, imaging_of(card))
        return render(read_wave(task.path), optics, FRAME_SAMPLING, FRAME_SHAPE)
    clean = read_clean_image(task.path)
    sides = np.array(clean.image.shape) * clean.sampling_angstrom
    rows, columns = np.minimum((sides / FRAME_SAMPLING + 1e-6).astype(int), FRAME_SHAPE)
    room = np.maximum(sides - np.array([rows, columns]) * FRAME_SAMPLING, 0)
    corner = np.random.default_rng([seed, task.view, 0x1A6E]).uniform(0, room)
    return clean.view(FRAME_SAMPLING, (int(rows), int(columns)), (corner[0], corner[1]))


def observe_structure(task: CalibrationTask) -> Observation:
    """Denoise one frame as a user would, without any information, and compare it with the truth."""
    rng = np.random.default_rng([task.seed, task.number, 0xCA1])
    clean = draw_clean_view(task, model_in(task.model).card, rng)
    noisy = draw_noise(rng).apply(clean, int(rng.integers(2**31)))
    result = (
        denoiser_of(task.model).for_recording(noisy, FRAME_SAMPLING).search(noisy, FRAME_SAMPLING)
    )
    return observe_result(seed_of_path(task.path), result, clean, task.number)


def observe_result(structure: int, result: FrameResult, clean: Array, seed: int) -> Observation:
    """Samples of a result whose `clean` frame is known, in the noisy frame's units."""
    assert result.estimate is not None
    truth = bin_sum(result.noise.electrons(clean), result.grids)
    return observe(
        structure, result.estimate, truth, float(np.mean(result.grids.binned_sampling)), seed
    )

"""Calibrate the goodness of fit of fields smaller than a tile (docs/method.md, "Trust").

Such a field is one tile that is only partly covered. Its numbers vary more than those of a full
tile, and in another way, so that they have a law of their own, which also depends on the share of
the tile that is covered. It is fitted like the other one, to frames of the validation split; the
classifier of spectra is that of larger frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gdn.errors import EmptyFrame
from gdn.evaluation.calibrate import fit_law, folds_of
from gdn.evaluation.calibration_run import (
    SPLIT,
    CalibrationTask,
    Progress,
    counted,
    denoiser_of,
    draw_noise,
    mapping,
    model_in,
    scenes_of,
    store,
    tasks_of,
    whole_view,
)
from gdn.evaluation.error_samples import FitSample, observe_fit
from gdn.evaluation.noise_suite import STUDY_VACUUM
from gdn.models import ModelError, load_model
from gdn.simulation.imaging import FRAME_SAMPLING
from gdn.simulation.simulate import seed_of_path
from gdn.trust.calibration import Calibration, calibration_of

SMALL = (0.3, 1.0)  # patches: sides of the fields
VIEWS = 4  # fields of one whole view of a structure


def calibrate_small_fields(
    folder: Path,
    data: Path,
    frames: int,
    workers: int = 1,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Calibration:
    """Add the law of fields smaller than a tile to the calibration in the model's `folder`, from
    `frames` of the validation structures in the data set `data`.

    Raises ValueError if there are too few structures, ModelError if the model has no calibration.
    """
    model = load_model(folder)
    calibration = calibration_of(model)
    if calibration is None:
        raise ModelError(f"{folder}: has no calibration that could be added to; calibrate first")
    paths = scenes_of(data, SPLIT)
    tasks = tasks_of(paths, frames, folder, seed, VIEWS)
    with mapping(workers) as mapped:
        observed = counted(mapped(observe_small_field, tasks), lambda n: progress(n, frames))
    samples = [sample for sample in observed if sample is not None]
    law = fit_law(samples, folds_of(samples, SPLIT), calibration.fit.spectrum, small=True)
    result = calibration.model_copy(update={"small_fit": law})
    store(folder, result)
    return result


def observe_small_field(task: CalibrationTask) -> FitSample | None:
    """Denoise one small field as a user would, without any information. None where there is nothing
    to denoise."""
    card = model_in(task.model).card
    rng = np.random.default_rng([task.seed, task.number, 0x5A11])
    image = np.maximum(whole_view(task, card), 0) * np.float32(STUDY_VACUUM)
    side = round(rng.uniform(*SMALL) * card.patch * card.sampling_angstrom / FRAME_SAMPLING)
    side = min(side, *image.shape)
    y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape)
    clean = np.ascontiguousarray(image[y : y + side, x : x + side])
    noisy = draw_noise(rng).apply(clean, int(rng.integers(2**31)))
    recording = denoiser_of(task.model).for_recording(noisy, FRAME_SAMPLING)
    try:
        result = recording.search(noisy, FRAME_SAMPLING)
    except EmptyFrame:
        return None
    assert result.estimate is not None
    sampling = float(np.mean(result.grids.binned_sampling))
    sample = observe_fit(seed_of_path(task.path), result.estimate, sampling)
    return sample if sample.share < 0 else None  # the side may round up to that of a tile

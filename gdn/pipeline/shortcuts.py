"""`gdn.denoise` and `gdn.read`: a denoising in three lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from gdn.frames.formats import read_frames
from gdn.likelihood import Array
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.result import Result
from gdn.pipeline.signals import Signal, SignalResult, denoise_signal, is_signal


@dataclass(frozen=True, kw_only=True, eq=False)
class Micrograph:
    """The frames of a file with their calibration."""

    image: Array
    """(rows, columns), or (n, rows, columns) of a file of several frames; float32, in the file's
    units; NaN where nothing was recorded."""

    sampling_angstrom: float | None
    """Å per pixel; None where the file carries no pixel size that can be used."""

    path: Path
    """The file."""

    warnings: list[str]
    """How it was opened, and why there is no sampling if there is none."""


def read(path: str | Path, dataset: str | None = None, channel: int | None = None) -> Micrograph:
    """Read every frame of a file of any format that `gdn denoise` reads (docs/files.md) into
    memory. `dataset` names the image meant in a file that holds several, `channel` (from 0) the
    channel of several.

    Raises InputError for a file that is missing, damaged, of no known format, or whose frames
    cannot be denoised.
    """
    frames = read_frames(Path(path), dataset, channel)
    images = [frames.read(index) for index in range(frames.count)]
    calibration = frames.calibration
    single = len(calibration.shape) == 2
    trouble = (
        [f"the file {calibration.trouble}"]
        if calibration.sampling_angstrom is None and calibration.trouble
        else []
    )
    return Micrograph(
        image=images[0] if single else np.stack(images),
        sampling_angstrom=calibration.sampling_angstrom,
        path=Path(path),
        warnings=[*frames.notes, *trouble],
    )


@overload
def denoise(
    image: Signal,
    sampling_angstrom: float | None = None,
    mask: ArrayLike | None = None,
    **options: Any,
) -> SignalResult: ...


@overload
def denoise(
    image: ArrayLike,
    sampling_angstrom: float | None = None,
    mask: ArrayLike | None = None,
    **options: Any,
) -> Result: ...


def denoise(
    image: Any,
    sampling_angstrom: float | None = None,
    mask: ArrayLike | None = None,
    **options: Any,
) -> Result | SignalResult:
    """Denoise one image (rows, columns) or a stack (n, rows, columns) of `sampling_angstrom` Å per
    pixel; or a HyperSpy `Signal2D`, lazy or not, which has its own pixel size
    (`gdn.pipeline.signals.denoise_signal`).

    `mask`, bool: True where a pixel is missing. `options` are those of `gdn.Denoiser`. For many
    images open one Denoiser: it keeps its engines and restarts from one to the next. Raises what
    `Denoiser` and `Denoiser.denoise` raise.
    """
    if is_signal(image):
        return denoise_signal(image, sampling_angstrom, mask, **options)
    with Denoiser(**options) as denoiser:
        return denoiser.denoise(image, sampling_angstrom, mask)

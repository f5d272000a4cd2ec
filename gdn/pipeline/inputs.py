"""Checks images from Python once, and converts them to the form that every later stage expects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdn.errors import EmptyFrame, InputError
from gdn.frames.scan import Scan
from gdn.frames.source import MAXIMUM_PIXELS, MINIMUM_SIDE, MOST_MISSING, one_line
from gdn.likelihood import Array
from gdn.pipeline.pixel_sizes import COARSEST, FINEST
from gdn.pipeline.recording import check_field

WANTED = "(rows, columns), or (n, rows, columns) for a stack"


@dataclass(frozen=True, kw_only=True)
class Input:
    """An image or a stack that can be denoised."""

    frames: Array
    """(n, rows, columns) float32; NaN where nothing was recorded."""

    stacked: bool
    """Whether it came as a stack."""

    sampling_angstrom: float
    """Å per pixel."""

    dtype: np.dtype[Any]
    """The type in which it came."""

    unusable: dict[int, str] = field(default_factory=dict)
    """Frames of a stack in which there is nothing to denoise, and why; never all of them."""

    scans: dict[int, Scan] = field(default_factory=dict)
    """What was taken off the rows of a frame."""

    def name(self, index: int) -> str:
        """What messages call a frame."""
        return f"frame {index}" if self.stacked else "the image"


def check_input(
    image: ArrayLike, sampling_angstrom: float | None, mask: ArrayLike | None = None
) -> Input:
    """An `image` (rows, columns) or stack (n, rows, columns) of integers or real numbers,
    `sampling_angstrom` in Å per pixel, and a `mask`, True where a pixel is missing, of the image's
    shape or of one frame's. Raises InputError."""
    raw = _array(image)
    sampling = _sampling(sampling_angstrom)
    missing = _missing(mask, raw)
    if isinstance(image, np.ma.MaskedArray):
        missing = missing | np.ma.getmaskarray(image)
    with np.errstate(over="ignore"):  # what no float32 holds becomes infinite, and so missing
        frames = np.array(raw, dtype=np.float32)
    frames[missing | ~np.isfinite(frames)] = np.nan
    stacked = frames.ndim == 3
    given = Input(
        frames=frames if stacked else frames[None],
        stacked=stacked,
        sampling_angstrom=sampling,
        dtype=raw.dtype,
    )
    check_field((frames.shape[-2], frames.shape[-1]), sampling)
    for index, frame in enumerate(given.frames):
        try:
            _check_frame(frame, given.name(index))
        except InputError as error:
            given.unusable[index] = str(error)
    if len(given.unusable) == len(given.frames):
        raise InputError(given.unusable[0])
    return given


def _array(image: ArrayLike) -> NDArray[Any]:
    """The image as an array of a usable type and shape."""
    try:
        raw = np.asarray(image)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"image of type {type(image).__name__}: not an array ({one_line(error)}); "
            f"wanted {WANTED}"
        ) from None
    if raw.dtype.kind not in "uif":
        raise InputError(f"image of type {raw.dtype}; wanted integers or real numbers")
    if raw.ndim not in (2, 3) or 0 in raw.shape:
        raise InputError(f"image of shape {raw.shape}; wanted {WANTED}")
    rows, columns = raw.shape[-2:]
    if min(rows, columns) < MINIMUM_SIDE:
        raise InputError(
            f"image of shape {raw.shape}; wanted frames of at least {MINIMUM_SIDE} x "
            f"{MINIMUM_SIDE} px, {WANTED}"
        )
    if rows * columns > MAXIMUM_PIXELS:
        raise InputError(
            f"image of shape {raw.shape}; wanted frames of at most {MAXIMUM_PIXELS >> 20} "
            "million pixels"
        )
    return raw


def _sampling(value: Any) -> float:
    """The pixel size as a number."""
    wanted = f"wanted Å per pixel, from {FINEST:g} to {COARSEST:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"sampling_angstrom {value!r}; {wanted}", "sampling_angstrom")
    if not FINEST <= float(value) <= COARSEST:
        raise InputError(
            f"sampling_angstrom {float(value):g}; {wanted} (1 nm is 10 Å)", "sampling_angstrom"
        )
    return float(value)


def _missing(mask: ArrayLike | None, raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Where `mask` says that a pixel is missing, in the image's shape."""
    if mask is None:
        return np.zeros(raw.shape, bool)
    missing = np.asarray(mask)
    if missing.dtype != bool:
        raise InputError(
            f"mask of type {missing.dtype}; wanted bool, True where a pixel is missing", "mask"
        )
    if missing.shape not in (raw.shape, raw.shape[-2:]):
        raise InputError(
            f"mask of shape {missing.shape}, image of shape {raw.shape}; wanted the same, "
            "or one frame's",
            "mask",
        )
    return np.broadcast_to(missing, raw.shape)


def _check_frame(frame: Array, name: str) -> None:
    """Raises EmptyFrame for a frame in which there is nothing to denoise."""
    missing = int(np.isnan(frame).sum())
    if missing > MOST_MISSING * frame.size:
        raise EmptyFrame(
            f"{name} has {missing} missing pixels of {frame.size} (masked, NaN or "
            f"infinite); wanted at most {MOST_MISSING:.0%}"
        )
    if np.nanmin(frame) == np.nanmax(frame):
        raise EmptyFrame(
            f"{name} is constant (every pixel is {np.nanmin(frame):g}); wanted one with "
            "something recorded in it"
        )

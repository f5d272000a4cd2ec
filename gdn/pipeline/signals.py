"""HyperSpy signals: denoised with their own calibration, and returned as signals.

HyperSpy is never imported: what it needs is in the signal that is given."""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdn.errors import InputError
from gdn.frames.units import pixel_size
from gdn.likelihood import Array
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.inputs import check_input
from gdn.pipeline.record import signature
from gdn.pipeline.recording import RecordingDenoiser
from gdn.pipeline.result import Result


@runtime_checkable
class Signal(Protocol):
    """What is used of a HyperSpy signal of two dimensions (`Signal2D`)."""

    data: Any
    axes_manager: Any
    metadata: Any

    def deepcopy(self) -> Any:
        """The signal, with its own data and metadata."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SignalResult:
    """A denoised signal.

    - `image`, `spread`: signals with the axes and metadata of the input; `metadata.gdn` says how
      they were made. `spread` is None where the result has none (see `Result`).
    - `result`: the `Result`; None of a lazy signal, whose frames are not denoised yet.
    """

    image: Any
    spread: Any
    result: Result | None


def is_signal(image: object) -> TypeGuard[Signal]:
    """Whether it is a HyperSpy signal, without an import of HyperSpy."""
    return any(
        kind.__module__.partition(".")[0] == "hyperspy" and kind.__name__ == "BaseSignal"
        for kind in type(image).__mro__
    )


def denoise_signal(
    signal: Signal,
    sampling_angstrom: float | None = None,
    mask: ArrayLike | None = None,
    **options: Any,
) -> SignalResult:
    """Denoise the images of a `Signal2D`, of any navigation dimensions: its frames are those of one
    recording.

    `sampling_angstrom` is for signals without a calibration. `mask` and `options` are those of
    `gdn.denoise`. A lazy signal gives lazy signals: a frame is denoised when it is computed, and
    once for image and spread where both are computed together (`dask.compute`). Raises what
    `gdn.denoise` raises, and InputError for a signal that has no images or no pixel size.
    """
    axes = signal.axes_manager
    if axes.signal_dimension != 2:
        raise InputError(
            f"a signal of {axes.signal_dimension} dimensions; wanted a Signal2D, whose signal "
            "axes are those of the image (see transpose)"
        )
    sampling = sampling_angstrom or _sampling(axes)
    shape = signal.data.shape
    frames = signal.data.reshape((-1, *shape[-2:]))
    if getattr(signal, "_lazy", False):
        return _denoise_lazily(signal, frames, sampling, mask, options)
    whole = None if mask is None else np.asarray(mask)
    if whole is not None and whole.shape == shape:
        whole = whole.reshape(frames.shape)
    image = frames if len(shape) > 2 else frames[0]
    with Denoiser(**options) as denoiser:
        result = denoiser.denoise(image, sampling, whole)
    how = _made_by(result.signature, sampling) | {
        "dose_e_per_px": result.dose,
        "explained_p": result.explained_p,
        "held_out_gain_db": result.held_out_gain_db,
        "warnings": result.warnings,
    }
    spread = result.spread
    return SignalResult(
        image=_as_signal(signal, result.image.reshape(shape), "denoised", how),
        spread=None if spread is None else _as_signal(signal, spread.reshape(shape), "spread", how),
        result=result,
    )


def _sampling(axes: Any) -> float:
    """Å per pixel. Raises InputError."""
    sizes = [(float(axis.scale), _unit(axis.units)) for axis in reversed(axes.signal_axes)]
    sampling, trouble = pixel_size(sizes)
    if sampling is None:
        raise InputError(
            f"the signal {trouble or 'carries no pixel size'}; set scale and units of its signal "
            "axes, or give sampling_angstrom",
            "sampling_angstrom",
        )
    return sampling


def _unit(units: object) -> str:
    """The unit as text; '' where HyperSpy has none."""
    return units if isinstance(units, str) and units != "<undefined>" else ""


def _made_by(program: str, sampling: float) -> dict[str, Any]:
    return {"made_by": program, "sampling_angstrom": sampling}


def _as_signal(signal: Signal, data: Any, what: str, how: dict[str, Any]) -> Any:
    """A copy of the signal with other data."""
    original = signal.data
    signal.data = data  # so that a large input is not copied, only to be replaced
    try:
        made = signal.deepcopy()
    finally:
        signal.data = original
    title = made.metadata.get_item("General.title", default="")
    made.metadata.set_item("General.title", f"{title} {what}".strip())
    made.metadata.add_dictionary({"gdn": copy.deepcopy(how)})
    return made


def _denoise_lazily(
    signal: Signal,
    frames: Any,
    sampling: float,
    mask: ArrayLike | None,
    options: dict[str, Any],
) -> SignalResult:
    """As `denoise_signal`, of a Dask array."""
    import dask.array

    if options.get("movie", "off") != "off" or options.get("adapt"):
        raise InputError(
            "movie and adapt need all frames at once; compute the signal first (signal.compute())"
        )
    left_out = None if mask is None else np.asarray(mask)
    if left_out is not None and left_out.shape != frames.shape[-2:]:
        raise InputError("the mask of a lazy signal must have the shape of one frame", "mask")
    denoiser = Denoiser(**options)
    recording = _of_first(denoiser, frames, sampling, left_out)
    work = _Frames(recording, sampling, left_out)
    each = frames.rechunk({0: 1, 1: -1, 2: -1})
    both = dask.array.map_blocks(
        work,
        each,
        dtype=np.float32,
        chunks=(each.chunks[0], (2,), *each.chunks[1:]),
        new_axis=1,
        meta=np.zeros((0, 0, 0, 0), np.float32),
    )
    how = _made_by(signature(recording), sampling)
    shape = signal.data.shape
    images, spreads = (both[:, number].reshape(shape) for number in (0, 1))
    return SignalResult(
        image=_as_signal(signal, images, "denoised", how),
        spread=_as_signal(signal, spreads, "spread", how),
        result=None,
    )


def _of_first(
    denoiser: Denoiser, frames: Any, sampling: float, mask: NDArray[np.bool_] | None
) -> RecordingDenoiser:
    """The denoiser of a recording, chosen by the first frame that can be denoised. Raises
    InputError."""
    for index in range(len(frames)):
        try:
            given = check_input(np.asarray(frames[index]), sampling, mask)
        except InputError as error:
            reason = error
            continue
        return denoiser.for_recording(given.frames[0], sampling)
    raise reason


class _Frames:
    """Denoises blocks of a frame, (1, rows, columns) -> (1, 2, rows, columns): image and spread."""

    def __init__(
        self, recording: RecordingDenoiser, sampling: float, mask: NDArray[np.bool_] | None
    ) -> None:
        self._recording, self._sampling, self._mask = recording, sampling, mask
        self._lock = threading.Lock()  # the search uses all cores itself

    def __call__(self, block: NDArray[Any]) -> Array:
        """A block without frames is Dask's question for the type."""
        if not block.size:
            return np.zeros((0, 2, *block.shape[1:]), np.float32)
        try:
            given = check_input(block[0], self._sampling, self._mask)
            with self._lock:
                judged = self._recording.denoise(given.frames[0], self._sampling, dtype=given.dtype)
        except InputError as error:
            warnings.warn(f"a frame is left out: {error}", stacklevel=2)
            flat = np.full(block.shape[1:], np.nanmean(block[0]), np.float32)
            return np.stack([flat, np.full_like(flat, np.nan)])[None]
        return np.stack([judged.result.image, judged.trust.spread])[None].astype(np.float32)

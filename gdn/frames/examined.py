"""Examine a frame before the search: which pixels are bad, and how noisy the others are.

The result for the last frame is kept, because the choice among generators and the search examine
the same frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from gdn.errors import EmptyFrame
from gdn.frames.bad_pixels import CORRELATED, Defects, Mask, fill_bad, find_defects
from gdn.frames.coarse_noise import of_coarse_detail
from gdn.frames.noise import Frame, NoiseModel, noise_of
from gdn.frames.source import MOST_MISSING

FEWEST_COUNTS = 10  # in a frame: of fewer nothing can be estimated
LEAST_NOISE = 1e-5  # of the frame's deviation: less is rounding
_SAMPLE = 2**16  # pixels of which the middle one has the value of a blanked frame
SPREAD = (
    "the noise of neighbouring pixels is correlated (by the camera or by interpolation): gdn takes "
    "noise {factor:.3g} times as strong as neighbours differ, as coarse detail has it; calibrated "
    "numbers are for uncorrelated noise"
)
_SEED = 0xF111  # of the noise in pixels that are filled in


class Examiner:
    """Examines frames, and keeps the result for the last one, without its pixels."""

    def __init__(self) -> None:
        self._last: tuple[str, Defects, NoiseModel] | None = None

    def __call__(
        self,
        frame: Frame,
        wanted: NoiseModel | None = None,
        sampling_angstrom: float | None = None,
    ) -> tuple[Defects, Frame, NoiseModel]:
        """Defects of a `frame` (rows, columns) float32; the frame with the bad pixels filled in
        (`fill_with_noise`); and its noise model, which is `wanted` completed, or the simplest that
        fits. With its `sampling_angstrom`, and if no strength is wanted, the model of noise that
        was spread over pixels is that of coarse detail. Raises EmptyFrame if there is nothing to
        denoise, and InputError if the wanted model contradicts the frame."""
        content = hashlib.sha256(np.ascontiguousarray(frame).data)
        content.update(f"{frame.shape} {frame.dtype} {wanted} {sampling_angstrom}".encode())
        key, last = (
            content.hexdigest(),
            self._last,
        )  # taken once: another thread may put its own there
        if last is not None and last[0] == key:
            defects, noise = last[1:]
        else:
            _check_anything(frame)
            defects = find_defects(frame)
            noise, factor = _noise_of(frame, defects.bad, wanted, sampling_angstrom)
            notes = defects.notes
            if factor != 1:
                notes = [note for note in notes if note != CORRELATED]
                notes.append(SPREAD.format(factor=factor))
            defects = replace(defects, notes=[*notes, *noise.notes])
        whole = frame if defects.bad is None else fill_with_noise(frame, defects.bad, noise)
        self._last = key, defects, noise
        return defects, whole, noise


examine = Examiner()


def fill_with_noise(frame: Frame, bad: Mask, noise: NoiseModel) -> Frame:
    """Fill the `bad` pixels of a frame with draws around the mean of the good ones nearby, with the
    frame's noise. Code that treats them as recorded pixels sees a flat image and no edge. The same
    frame gives the same draws."""
    whole = fill_bad(frame, bad)
    drawn = noise.law.draw(noise.electrons(whole)[bad], np.random.default_rng(_SEED))
    whole[bad] = noise.units(drawn)
    return whole


def _check_anything(frame: Frame) -> None:
    """Raises EmptyFrame if (almost) nothing was recorded."""
    recorded = frame[np.isfinite(frame)]
    _check_share(recorded.size, frame.size)
    sample = np.sort(recorded[:: max(1, recorded.size // _SAMPLE)])
    usual = float(sample[sample.size // 2])
    others = int((recorded != usual).sum())
    if others == 0:
        raise EmptyFrame(f"constant (every pixel is {usual:g}); nothing to denoise")
    if others < FEWEST_COUNTS:
        raise EmptyFrame(
            f"a blanked beam: all but {others} of {recorded.size} pixels are {usual:g}; nothing to "
            "denoise"
        )


def _check_share(good: int, size: int) -> None:
    if good < (1 - MOST_MISSING) * size:
        raise EmptyFrame(
            f"only {good} of {size} pixels are counts (others: missing, masked, saturated, in "
            f"areas of one value); {1 - MOST_MISSING:.0%} are needed"
        )


def _noise_of(
    frame: Frame, bad: Mask | None, wanted: NoiseModel | None, sampling_angstrom: float | None
) -> tuple[NoiseModel, float]:
    """The noise model of the good pixels, and the factor by which it differs from that of
    neighbouring pixels (`of_coarse_detail`). Raises EmptyFrame if there are too few good pixels, or
    if they have no noise."""
    if bad is None:
        good, whole = None, frame
    else:
        good = ~bad
        _check_share(int(good.sum()), good.size)
        whole = fill_bad(frame, bad)
    values = (whole if good is None else whole[good]).astype(np.float64)
    if values.min() == values.max():
        raise EmptyFrame(f"constant (every good pixel is {values[0]:g}); nothing to denoise")
    if _roughness(whole, good) < LEAST_NOISE * float(values.std()):
        raise EmptyFrame(
            "no noise: neighbouring pixels are equal or change evenly; nothing to denoise"
        )
    noise = noise_of(whole, wanted, good)
    if sampling_angstrom is None or (wanted is not None and np.isfinite(wanted.gain)):
        return noise, 1.0
    return of_coarse_detail(noise, whole, sampling_angstrom, good, wanted)


def _roughness(frame: Frame, good: Mask | None) -> float:
    """Standard deviation of the second differences of good pixels, along rows or columns, whichever
    is larger."""
    roughest = 0.0
    for data, kept in ((frame, good), (frame.T, None if good is None else good.T)):
        y = data.astype(np.float64)
        difference = y[:, :-2] - 2 * y[:, 1:-1] + y[:, 2:]
        if kept is not None:
            difference = difference[kept[:, :-2] & kept[:, 1:-1] & kept[:, 2:]]
        if difference.size:
            roughest = max(roughest, float(difference.std()))
    return roughest

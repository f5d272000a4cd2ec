"""Pixels that say nothing (saturated, hot, dead), and warnings of what else is wrong with a
detector's frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rank_filter, uniform_filter

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

CEILINGS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8 to 16-bit converters
SIGMAS = 12.0  # beyond seven of eight neighbours: none in 10^9 pixels of a good detector
ELECTRONS = 6.0  # added to it: single counts at low dose are not Gaussian
MOST = 0.05  # of a frame; where more is bad, something else is wrong
TRIMMED = 0.998
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


@dataclass(frozen=True)
class Defects:
    """`bad` pixels (rows, columns), None for none, and `notes` for the user."""

    bad: Mask | None = None
    notes: list[str] = field(default_factory=list)


def find_defects(frame: Frame) -> Defects:
    """Bad pixels of a frame, NaN among them, and warnings. Where more than MOST of it is bad, only
    NaN is masked."""
    missing = ~np.isfinite(frame)
    if missing.any():
        frame = filled(frame, missing)
    notes = correlation_note(frame)
    full, clipped = _saturated(frame), _isolated(frame) & ~missing
    bad = full | clipped | missing
    share = float(bad.mean())
    if share == 0:
        return Defects(None, notes)
    if share > MOST:
        words = (
            f"{share:.0%} of the pixels are saturated or defective: too many to leave "
            "out; record the frame again"
        )
        return Defects(missing if missing.any() else None, [*notes, words])
    kinds = ((full, "saturated"), (clipped & ~full, "hot or dead"), (missing, "missing (NaN)"))
    words = ", ".join(f"{int(m.sum())} {name}" for m, name in kinds if m.any())
    return Defects(bad, [*notes, f"{words} pixels are left out and filled in"])


def _saturated(frame: Frame) -> Mask:
    """Patches of pixels at a converter's ceiling. Single ones are the clipped tail of counts: to
    leave them out would leave a mean too low by more than the clipping did."""
    top = float(frame.max())
    full = frame == top
    if (
        top not in CEILINGS
        or full.sum() < max(3, 1e-6 * frame.size)
        or top < frame.mean() + 4 * frame.std()
    ):
        return np.zeros(frame.shape, bool)
    return np.asarray(full & (uniform_filter(full.astype(np.float64), 3, mode="mirror") > 2.5 / 9))


def _isolated(frame: Frame) -> Mask:
    """Pixels far beyond all of their neighbours but one, above or below."""
    values = frame.astype(np.float64)
    sigma, mean = _trimmed_noise(values)
    # One electron, were the noise Poisson; next to nothing on an offset or at high counts.
    electron = sigma**2 / mean if mean > 0 else 0.0
    reach = SIGMAS * sigma + ELECTRONS * electron
    # The second of the neighbours, so that a pair of bad pixels does not hide behind each other.
    above = values - rank_filter(values, -2, footprint=_NEIGHBOURS, mode="mirror")
    below = rank_filter(values, 1, footprint=_NEIGHBOURS, mode="mirror") - values
    return np.asarray((above > reach) | (below > reach))


def _trimmed_noise(values: NDArray[np.float64]) -> tuple[float, float]:
    """Standard deviation of a pixel's noise, from second differences without the largest of them,
    and the mean likewise."""
    difference = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]).ravel() / 6**0.5
    kept = difference[difference <= np.quantile(difference, TRIMMED)]
    return float(np.sqrt((kept**2).mean())), float(
        np.median(values) if np.median(values) > 0 else values.mean()
    )


def filled(frame: Frame, bad: Mask) -> Frame:
    """The frame with its `bad` pixels at the mean of the good ones around (7x7 px, or the whole
    frame where none is)."""
    good = uniform_filter((~bad).astype(np.float64), 7, mode="mirror")
    total = uniform_filter(np.where(bad, 0, frame).astype(np.float64), 7, mode="mirror")
    mean = np.where(good > 0.1, total / np.maximum(good, 1e-9), frame[~bad].mean())
    return np.where(bad, mean, frame).astype(np.float32)


def correlation_note(frame: Frame) -> list[str]:
    """A warning where the noise of neighbouring pixels is correlated: interpolated, resampled or
    compressed frames.

    The variance of second differences over s pixels is the same for every s if the noise is white;
    it grows to a plateau if it is correlated, and without end where it is the signal.
    """
    values = frame.astype(np.float64)
    ratios = []
    for data in (values, values.T):
        steps = [
            float(((data[:, : -2 * s] - 2 * data[:, s:-s] + data[:, 2 * s :]) ** 2).mean())
            for s in (1, 2, 3, 4)
        ]
        ratios.append((steps[1] / max(steps[0], 1e-30), steps[3] / max(steps[2], 1e-30)))
    if all(near > 1.25 and far < 1.25 for near, far in ratios):
        return [
            "the noise of neighbouring pixels is correlated (the frame was interpolated, "
            "binned or compressed): "
            "give the counts as recorded; without them, the intervals are too narrow and "
            "the verdicts too certain"
        ]
    return []

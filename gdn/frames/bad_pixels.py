"""Pixels without information (regions that are no counts, saturated, hot and dead pixels), and
warnings of other faults of a detector's frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import binary_dilation, uniform_filter

from gdn.frames.constant_regions import find_constant_regions, find_flat_top
from gdn.likelihood import STRIP_PIXELS, strips

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

MISSING = "missing (NaN)"  # what warnings call pixels without a number
CEILINGS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8 to 16-bit converters
SIGMAS = 12.0  # beyond seven of eight neighbours: none in 10^9 pixels of a good detector
ELECTRONS = 6.0  # added to it: single counts at low dose are not Gaussian
MOST = 0.05  # of a frame; where more stand out from their neighbours, something else is wrong
RIM = 2  # px around regions in which interpolation may have mixed counts with what are none
RIM_SIGMAS = 6.0  # by which the mean of such a rim differs from that of the next
TRIMMED = 0.998
SIGMAS_ABOVE = 4.0  # of the noise, from which on a frame's maximum may be a ceiling
SPECTRUM = 1024  # px, of the part of a frame whose spectrum is looked at
WIDTHS = (7, 31, 127)  # px, of the squares whose mean fills a bad pixel: the first that has one
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)

CORRELATED = (
    "the noise of neighbouring pixels is correlated (the frame was interpolated, binned or "
    "compressed), so intervals are too narrow and verdicts too certain; give the counts as recorded"
)


@dataclass(frozen=True)
class Defects:
    """`bad` pixels (rows, columns), None for none, and `notes` for the user."""

    bad: Mask | None = None
    notes: list[str] = field(default_factory=list)


def find_defects(frame: Frame) -> Defects:
    """Find the bad pixels of a frame (rows, columns) float32, and warnings. NaN and regions that
    are no counts are bad pixels too, whatever their number."""
    missing = ~np.isfinite(frame)
    if missing.any():
        frame = fill_bad(frame, missing)
    constant, full = _flat(frame, missing)
    unknown = missing | constant | full
    if unknown.all():
        return Defects(unknown)
    known = fill_bad(frame, unknown) if unknown.any() else frame
    rim = _rim(known, unknown) if unknown.any() else unknown
    clipped = _isolated(known, unknown) & ~unknown
    notes = correlation_note(known)
    if clipped.mean() > MOST:
        notes.append(
            f"{clipped.mean():.0%} of the pixels differ strongly from their neighbours: "
            "too many to leave out; record the frame again"
        )
        clipped = np.zeros_like(clipped)
    bad = unknown | clipped | rim
    if not bad.any():
        return Defects(None, notes)
    kinds = (
        (constant & ~full, "in constant regions"),
        (full, "saturated"),
        (clipped, "hot or dead"),
        (missing, MISSING),
        (rim & ~clipped, "interpolated at the edge of these"),
    )
    words = ", ".join(f"{int(m.sum())} {name}" for m, name in kinds if m.any())
    share = f" ({100 * bad.mean():.2g} % of the frame)" if unknown.any() else ""
    return Defects(bad, [*notes, f"{words} pixels are left out and filled in{share}"])


def _flat(frame: Frame, missing: Mask) -> tuple[Mask, Mask]:
    """Regions of one value, and patches of pixels at a ceiling far above the frame."""
    constant, full = np.zeros(frame.shape, bool), np.zeros(frame.shape, bool)
    top = float(frame[~missing].max()) if missing.any() else float(frame.max())
    for region in find_constant_regions(frame, missing):
        constant |= region.where
        if region.value == top:
            full |= region.where
    full |= find_flat_top(frame, missing)
    unknown = missing | constant
    if not full.any() or unknown.all():
        return constant, full & ~unknown
    deviation, middle = _trimmed_noise(frame.astype(np.float64), unknown)
    return constant, full if top > middle + SIGMAS_ABOVE * deviation else full & False


def _rim(frame: Frame, unknown: Mask) -> Mask:
    """Pixels at the edge of the `unknown` ones whose mean differs from that of their neighbours
    further away, and is not explained by a slope. There, interpolation has mixed counts with pixels
    that are no counts (docs/method.md, "Noise law", "Bad pixels")."""
    rim = np.zeros(frame.shape, bool)
    inner = unknown
    rings = []
    for _ in range(RIM + 2):
        outer = binary_dilation(inner, np.ones((3, 3), bool))
        rings.append(outer & ~inner)
        inner = outer
    values = [frame[ring].astype(np.float64) for ring in rings]
    if min(map(len, values)) < 16:
        return rim
    for ring, own, next_one, further in zip(rings, values, values[1:], values[2:], strict=False):
        error = np.hypot(own.std() / len(own) ** 0.5, next_one.std() / len(next_one) ** 0.5)
        slope = abs(next_one.mean() - further.mean())
        if abs(own.mean() - next_one.mean()) <= RIM_SIGMAS * error + 3 * slope:
            break
        rim |= ring
    return rim


def _isolated(frame: Frame, unknown: Mask) -> Mask:
    """Pixels far above or far below all of their neighbours but one (docs/method.md, "Noise law",
    "Bad pixels")."""
    sigma, mean = _trimmed_noise(frame.astype(np.float64), unknown)
    # One electron, were the noise Poisson; next to nothing on an offset or at high counts.
    electron = sigma**2 / mean if mean > 0 else 0.0
    reach = SIGMAS * sigma + ELECTRONS * electron
    wide = np.pad(frame, 1, mode="reflect")
    isolated = np.empty(frame.shape, bool)
    for rows in strips((frame.shape[0], frame.shape[1]), STRIP_PIXELS):
        values = frame[rows].astype(np.float64)
        low, high = _second_neighbours(wide[rows.start : rows.stop + 2])
        isolated[rows] = (values - high > reach) | (low - values > reach)
    return isolated


def _second_neighbours(wide: Frame) -> tuple[Frame, Frame]:
    """The second lowest and the second highest of the eight neighbours of each pixel (rows - 2,
    columns - 2): not the first, so that a pair of bad pixels does not hide behind each other."""
    shape = wide.shape[0] - 2, wide.shape[1] - 2
    lowest, low = np.full((2, *shape), np.inf, np.float32)
    highest, high = np.full((2, *shape), -np.inf, np.float32)
    for row, column in np.argwhere(_NEIGHBOURS):
        other = wide[row : row + shape[0], column : column + shape[1]]
        low = np.minimum(low, np.maximum(lowest, other))
        lowest = np.minimum(lowest, other)
        high = np.maximum(high, np.minimum(highest, other))
        highest = np.maximum(highest, other)
    return low, high


def _trimmed_noise(values: NDArray[np.float64], unknown: Mask) -> tuple[float, float]:
    """Standard deviation of a pixel's noise, from second differences without the largest ones
    (docs/method.md, "Noise law", step 1); and the level, estimated in the same way. Pixels that are
    `unknown` are left out."""
    difference = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]) / 6**0.5
    if unknown.any():
        difference = difference[~(unknown[:, :-2] | unknown[:, 1:-1] | unknown[:, 2:])]
        values = values[~unknown]
    difference = difference.ravel()
    if not difference.size:
        return 0.0, float(values.mean())
    kept = difference[difference <= np.quantile(difference, TRIMMED)]
    # Of a few stray counts the largest differences are all that there are.
    kept = kept if kept.any() else difference
    middle = float(np.median(values))
    return float(np.sqrt((kept**2).mean())), middle if middle > 0 else float(values.mean())


def fill_bad(frame: Frame, bad: Mask) -> Frame:
    """The frame with its `bad` pixels at the mean of the good ones around them: within 7x7 px, or
    more if there are none (docs/method.md, "Noise law", "Bad pixels")."""
    known, good = np.where(bad, 0, frame).astype(np.float64), (~bad).astype(np.float64)
    image, left = frame.astype(np.float32), bad.copy()
    for width in WIDTHS:
        share = uniform_filter(good, width, mode="mirror")
        here = left & (share > 0.1)
        total = uniform_filter(known, width, mode="mirror")
        image[here] = total[here] / share[here]
        left &= ~here
        if not left.any():
            return image
    image[left] = frame[~bad].mean(dtype=np.float64)
    return image


def correlation_note(frame: Frame) -> list[str]:
    """A warning if the noise of neighbouring pixels is correlated: the frame was interpolated,
    resampled or compressed (docs/method.md, "Noise law", "Correlated noise").

    If the noise is white, the variance of second differences over s pixels is the same for every s.
    If it is correlated, the variance grows with s up to a plateau. If it is the signal, it grows
    without end.
    """
    values = frame.astype(np.float64)
    ratios = []
    for data in (values, values.T):
        steps = [
            float(((data[:, : -2 * s] - 2 * data[:, s:-s] + data[:, 2 * s :]) ** 2).mean())
            for s in (1, 2, 3, 4)
        ]
        ratios.append((steps[1] / max(steps[0], 1e-30), steps[3] / max(steps[2], 1e-30)))
    grows = all(near > 1.25 and far < 1.25 for near, far in ratios)
    return [CORRELATED] if grows and _falls_off(values) else []


def _falls_off(values: NDArray[np.float64]) -> bool:
    """Whether the finest detail is weaker than detail half as fine, as in interpolated frames. In
    white noise with a lattice of a few pixels it is not: medians leave out the lattice's few
    frequencies (docs/method.md, "Noise law", "Correlated noise")."""
    part = values[:SPECTRUM, :SPECTRUM]
    power = dctn(part, norm="ortho") ** 2
    rows, columns = (np.arange(n) / n for n in part.shape)
    k = np.maximum(rows[:, None], columns[None])  # 1 where detail is finest
    middle = power[(k > 0.4) & (k < 0.6)]
    return bool(np.median(power[k > 0.85]) < 0.7 * np.median(middle))

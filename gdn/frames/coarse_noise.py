"""How strong the noise of coarse detail is, where the noise of neighbouring pixels is correlated.

A camera that spreads an electron over several pixels, or a program that interpolates, makes the
differences of neighbouring pixels small. The noise of detail as coarse as columns stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from gdn.frames.mean_variance import Mask, SpreadNoise
from gdn.frames.noise import noise_of
from gdn.frames.noise_model import Frame, NoiseModel
from gdn.likelihood import NoiseLaw

NOISE_BAND = (1.6, 2.6)  # 1/Å: beyond all signal, below the finest detail of finely sampled frames
FEWEST_MODES = 1000  # in it: fewer tell nothing
RESOLVED = 0.03  # less is taken for none
LEAST, MOST = 0.5, 4.0  # beyond it is no noise that pixels have in common
FIRST = 1.4  # 1/Å: from here on a spread falls off from ring to ring
REACHES = (3.0, 4.5, 6.7, 10.0)  # 1/Å: to here, the further ones where it hardly does
NUMBER = 8  # of rings
FALLS = 0.7  # the power at the last ring over that at the first, at most, to be resolved well
ANOTHER = 0.2  # by which two lines differ, in the logarithm of the level
FINEST = 0.9  # of the finest detail of the frame: finer rings are left out
SIGNAL = 0.7  # 1/Å: where columns and lattices are
LEAST_SPREAD = 1.25  # less is taken for none
PART = 2048  # px along either axis of a frame that are looked at
SIGMAS = 4.0  # by which it is resolved
MEDIAN = 0.4549  # of the square of a normal number
MEDIAN_ERROR = 1.9  # of a median of such squares, as a share, times the root of their number


def coarse_noise(counts: Frame, law: NoiseLaw, sampling_angstrom: float) -> float:
    """By how much the noise of coarse detail in `counts` (rows, columns) is stronger than their
    `law` has it, 1 where that is not resolved. The source is docs/method.md, "Noise law", "Noise of
    coarse detail".

    Counting cameras miss electrons that come close together, by which coarse noise is weaker than
    the variance of a pixel says; interpolation makes it stronger. It is seen in the cosine
    transform where there is noise alone (NOISE_BAND).
    """
    power, k, finest = _spectrum(counts, sampling_angstrom)
    band = (k > NOISE_BAND[0]) & (k < min(NOISE_BAND[1], 0.95 * finest))
    modes = int(band.sum())
    if modes < FEWEST_MODES:
        return 1.0
    noise = float(power[band].mean()) / _variance(counts, law)
    error = noise * (2 / modes) ** 0.5
    return noise if abs(noise - 1) > max(RESOLVED, 4 * error) and LEAST < noise < MOST else 1.0


def find_spread(frame: Frame, law: NoiseLaw, sampling_angstrom: float) -> SpreadNoise | None:
    """How far a camera or a program has spread the noise of a `frame` (rows, columns) whose
    neighbouring pixels have the `law`, both in electrons; None where that is not resolved. The
    source is docs/method.md, "Noise law", "Correlated noise".

    What is a Gaussian in space is one in frequency: a line of the logarithm of the power against
    the square of the frequency, in rings beyond the signal. At the finest detail there must be less
    of it. Medians leave out a lattice's few frequencies.
    """
    power, k, finest = _spectrum(frame, sampling_angstrom)
    line = None
    for last in REACHES:
        rings = np.linspace(FIRST, last, NUMBER + 1)
        further = _fall_off(power, k, rings[rings < FINEST * finest])
        # A filter that cuts fine detail off is no Gaussian: further rings would tell another level.
        if further is None or (line and abs(further.height - line.height) > ANOTHER):
            break
        line = further
        if line.slope * (last**2 - FIRST**2) < np.log(FALLS) or last > FINEST * finest:
            break
    if line is None:
        return None
    neighbours = _variance(frame, law)
    here = line.height - np.log(neighbours)
    resolved = here > max(np.log(LEAST_SPREAD), SIGMAS * line.error)
    fine = power[(k > (1 + FINEST) / 2 * finest) & (k < finest)]
    falls = np.median(fine) / MEDIAN < neighbours * np.exp(here) / LEAST_SPREAD
    if not (resolved and falls):
        return None
    # The power of a Gaussian's spread is exp(-4 pi^2 width^2 k^2).
    width = max(-line.slope, 0.0) ** 0.5 / (2 * np.pi * sampling_angstrom)
    return SpreadNoise(width=float(width), variance=float(neighbours * np.exp(here)))


@dataclass(frozen=True)
class _Line:
    """The logarithm of a frame's power against the square of the frequency: `slope`, Å^2; `height`
    at SIGNAL, and its standard `error`."""

    slope: float
    height: float
    error: float


def _fall_off(power: Frame, k: Frame, rings: NDArray[np.float64]) -> _Line | None:
    """The line through the medians of the `power` between `rings` (n,), 1/Å; None of fewer than
    three."""
    places, logs, errors = [], [], []
    for low, high in pairwise(rings):
        ring = power[(k > low) & (k < high)]
        if len(ring) >= FEWEST_MODES // 4:
            places.append((low**2 + high**2) / 2)
            logs.append(np.log(max(float(np.median(ring)) / MEDIAN, 1e-30)))
            errors.append(MEDIAN_ERROR / len(ring) ** 0.5)  # of the logarithm
    if len(places) < 3:
        return None
    (slope, height), covariance = np.polyfit(
        places, logs, 1, w=1 / np.array(errors), cov="unscaled"
    )
    at = np.array([SIGNAL**2, 1.0])
    return _Line(slope, height + slope * SIGNAL**2, float(np.sqrt(at @ covariance @ at)))


def _spectrum(counts: Frame, sampling_angstrom: float) -> tuple[Frame, Frame, float]:
    """Squares of the cosine transform's coefficients; their frequencies, 1/Å; and the finest along
    either axis."""
    part = counts[:PART, :PART]
    rows, columns = (np.arange(n) / (2 * n * sampling_angstrom) for n in part.shape)
    power = dctn(part.astype(np.float32, copy=False), norm="ortho") ** 2
    return power, np.hypot(rows[:, None], columns[None]), float(min(rows[-1], columns[-1]))


def _variance(counts: Frame, law: NoiseLaw) -> float:
    """Of a pixel, at the mean."""
    return float(law.variance(np.maximum(counts.mean(dtype=np.float64), 0)))


def of_coarse_detail(
    model: NoiseModel,
    frame: Frame,
    sampling_angstrom: float,
    good: Mask | None = None,
    wanted: NoiseModel | None = None,
) -> tuple[NoiseModel, float]:
    """The model whose law holds for the detail that columns have in a `frame` (rows, columns) whose
    noise was spread over pixels; and by how much its variance is larger than that of `model`, which
    holds between neighbouring pixels. It is of the kind that is `wanted`. The same model and 1
    where that cannot be told."""
    electrons = model.electrons(frame)
    spread = find_spread(electrons, model.law, sampling_angstrom)
    if spread is None:
        return model, 1.0
    factor = spread.variance / _variance(electrons, model.law)
    in_units = SpreadNoise(spread.width, spread.variance * model.gain**2)
    coarse = noise_of(frame, wanted, good, in_units)
    how = f"{coarse.how}; spread over {spread.width:.2g} px, {factor:.3g} times for coarse detail"
    # The variance is that of detail at SIGNAL; of a Gaussian the coarsest has more.
    at_signal = (2 * np.pi * spread.width * sampling_angstrom * SIGNAL) ** 2
    return (
        replace(coarse, spread=spread.width, coarse=float(np.exp(at_signal)), how=how),
        factor,
    )

"""How strong the noise of coarse detail is, where the noise of neighbouring pixels is correlated.

A camera that spreads an electron over several pixels, or a program that interpolates, makes the
differences of neighbouring pixels small. The noise of detail as coarse as columns stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.fft import dctn

from gdn.frames.noise_model import Frame, NoiseModel
from gdn.likelihood import NoiseLaw

NOISE_BAND = (1.6, 2.6)  # 1/Å: beyond all signal, below the finest detail of finely sampled frames
FEWEST_MODES = 1000  # in it: fewer tell nothing
RESOLVED = 0.03  # less is taken for none
LEAST, MOST = 0.5, 4.0  # beyond it is no noise that pixels have in common
RINGS = np.linspace(1.4, 3.0, 9)  # 1/Å: a spread falls off from one to the next
FINEST = 0.9  # of the finest detail of the frame: finer rings are left out
SIGNAL = 0.7  # 1/Å: where columns and lattices are
LEAST_SPREAD = 1.25  # less is taken for none
PART = 2048  # px along either axis of a frame that are looked at
SIGMAS = 4.0  # by which it is resolved
MEDIAN = 0.4549  # of the square of a normal number


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


def spread_noise(counts: Frame, law: NoiseLaw, sampling_angstrom: float) -> float:
    """By how much the noise at SIGNAL is stronger than the `law` of neighbouring pixels has it, if
    a camera or a program has spread it over pixels; 1 where that is not resolved. The source is
    docs/method.md, "Noise law", "Correlated noise".

    What is a Gaussian in space is one in frequency: a line of the logarithm of the power against
    the square of the frequency, in RINGS beyond the signal. At the finest detail there must be less
    of it. Medians leave out a lattice's few frequencies.
    """
    power, k, finest = _spectrum(counts, sampling_angstrom)
    places, logs, errors = [], [], []
    for low, high in pairwise(RINGS[FINEST * finest > RINGS]):
        ring = power[(k > low) & (k < high)]
        if len(ring) >= FEWEST_MODES // 4:
            places.append((low**2 + high**2) / 2)
            logs.append(np.log(max(float(np.median(ring)) / MEDIAN, 1e-30)))
            errors.append(1.9 / len(ring) ** 0.5)  # of the logarithm of a median of squares
    if len(places) < 3:
        return 1.0
    (slope, height), covariance = np.polyfit(
        places, logs, 1, w=1 / np.array(errors), cov="unscaled"
    )
    here = height + slope * SIGNAL**2 - np.log(_variance(counts, law))
    at = np.array([SIGNAL**2, 1.0])
    error = float(np.sqrt(at @ covariance @ at))
    resolved = here > max(np.log(LEAST_SPREAD), SIGMAS * error)
    fine = power[(k > (1 + FINEST) / 2 * finest) & (k < finest)]
    falls = np.median(fine) / MEDIAN < _variance(counts, law) * np.exp(here) / LEAST_SPREAD
    return float(np.exp(here)) if resolved and falls else 1.0


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
    model: NoiseModel, frame: Frame, sampling_angstrom: float
) -> tuple[NoiseModel, float]:
    """The model whose law holds for sums of many pixels of a `frame` (rows, columns) with
    correlated noise; and by how much its variance is larger than that of `model`, which holds
    between neighbouring pixels. The same model and 1 where that cannot be told."""
    factor = spread_noise(model.electrons(frame), model.law, sampling_angstrom)
    if factor == 1:
        return model, 1.0
    how = f"{model.how}; {factor:.2f} times for coarse detail"
    if model.kind == "gaussian":
        return replace(model, read_noise=model.read_noise * factor**0.5, how=how), factor
    # In fewer, larger electrons: the variance of as many units is `factor` times as large.
    return (
        replace(
            model, gain=model.gain * factor, read_noise=model.read_noise * factor**0.5, how=how
        ),
        factor,
    )

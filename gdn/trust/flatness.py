"""Can a flat image explain the counts? An exact test for fields in which nothing is to be seen
(docs/method.md, "Trust", "p").

Every generator can draw a flat image. So what a flat image explains, the generator explains, though
a field without any contrast is unlike the frames on which p was calibrated.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincc

from gdn.search.tiles import Binned
from gdn.trust.spectrum import frequencies

BANDS = ((0.0, 0.2), (0.2, 0.6))  # 1/Å: outlines, and lattices
FINEST = 0.8  # 1/Å, of a single strong spot


def flat_p(binned: Binned, sampling_angstrom: float) -> float:
    """p-value of the hypothesis that the counts are those of a flat field. `sampling_angstrom` is
    that of a binned pixel.

    The spectrum of the whitened counts is then that of white noise: its n independent coefficients
    have exponential powers of mean 1. The sum of the powers in a band follows a gamma law, and the
    largest power m exceeds x with the probability 1 - (1 - exp(-x))^n (Fisher 1929). Of k
    p-values the smallest one q counts, as 1 - (1 - q)^k (Tippett 1931).
    """
    level = max(binned.level, 1e-6)
    white = (binned.counts.astype(np.float64) - level) / binned.law.deviation(level)
    recorded = float(white.size)
    if binned.valid is not None:
        white, recorded = white * binned.valid, float(binned.valid.sum())
    power = np.abs(np.fft.rfft2(white)) ** 2 / max(recorded, 1e-12)
    rows, columns = white.shape
    radius = frequencies((rows, columns), sampling_angstrom)
    single = np.ones(power.shape, bool)  # each of two conjugate coefficients once
    single[np.fft.fftfreq(rows) <= 0, 0] = False
    if columns % 2 == 0:
        single[:, -1] = False
    values = []
    for low, high in BANDS:
        band = power[single & (radius > low) & (radius <= high)]
        if len(band):
            values.append(float(gammaincc(len(band), band.sum())))
    fine = power[single & (radius <= FINEST)]
    if len(fine):
        values.append(float(-np.expm1(len(fine) * np.log1p(-np.exp(-fine.max())))))
    return 1 - (1 - min(values)) ** len(values) if values else 1.0

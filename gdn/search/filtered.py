"""A filter that knows no crystal as a candidate of the mixture: counts summed by a whole number,
their variance made constant, and blocks that are alike filtered together
(`gdn.search.collaborative`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdn.likelihood import Array, NoiseLaw
from gdn.search.collaborative import collaborative_filter
from gdn.search.held_out_shares import Recorded
from gdn.search.restored import binned_by, binning, rebinned

SAMPLING_ANGSTROM = 0.5  # of the pixels that are filtered: counts of blocks of 4 Å are compared


def stabilised(electrons: Array, law: NoiseLaw) -> Array:
    """Values of variance near 1 from electrons of that noise law (generalised Anscombe transform:
    Starck et al. 1998, eq. 2.4; of Gaussian noise alone, divided by its deviation)."""
    alpha, beta = law.alpha, law.beta
    if law.gaussian:
        return np.asarray(electrons / np.sqrt(max(beta, 1e-12)), dtype=np.float32)
    inner = np.maximum(alpha * electrons + 0.375 * alpha**2 + beta, 0)
    return np.asarray(2 / alpha * np.sqrt(inner), dtype=np.float32)


def restored_mean(values: Array, law: NoiseLaw) -> Array:
    """The mean electrons whose stabilised values have the means `values` (closed form of the exact
    unbiased inverse: Mäkitalo & Foi 2011, eq. 10, and 2013, eq. 9)."""
    alpha, beta = law.alpha, law.beta
    if law.gaussian:
        return np.asarray(values * np.sqrt(max(beta, 1e-12)), dtype=np.float32)
    d = np.maximum(values.astype(np.float64), 1e-3)
    counts = (
        d**2 / 4
        + np.sqrt(1.5) / 4 / d
        - 11 / 8 / d**2
        + 5 * np.sqrt(1.5) / 8 / d**3
        - 1 / 8
        - beta / alpha**2
    )
    lowest = 2 * np.sqrt(0.375 + beta / alpha**2)
    return np.asarray(alpha * np.where(values > lowest, counts, 0), dtype=np.float32)


@dataclass(frozen=True)
class CollaborativeCandidate:
    """The collaborative filter as one of the mixture's candidates
    (`gdn.search.band_mixture.Candidate`)."""

    sampling_angstrom: float = SAMPLING_ANGSTROM

    @property
    def name(self) -> str:
        """As the record has it."""
        return "collaborative"

    @property
    def identity(self) -> str:
        """What its images depend on beside the counts."""
        return f"collaborative-1, {self.sampling_angstrom:g}"

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid."""
        factor = binning(recorded.grids.sampling_angstrom, self.sampling_angstrom)
        counts, law = binned_by(recorded.electrons, factor), recorded.law.of_sum(factor**2)
        image = restored_mean(collaborative_filter(stabilised(counts, law)), law)
        return rebinned(image, factor, recorded.grids)

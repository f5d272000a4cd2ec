"""Can the generator explain this frame at all? p-values of every tile and of the frame.

A tile's features (gdn/trust/features.py: deviance of its counts, energy of its latents, spectra)
are compared with those of simulated frames of the right kind at the same noise, and a classifier
that was taught wrong pixel sizes and strange lattices looks at the frame's spectrum
(gdn/trust/spectrum.py). The p-value is the share of right frames that are at least as far out. It
is uniform on frames like those, whatever the features are; what it has to find is all else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array
from gdn.search.estimate import Estimate
from gdn.trust.calibration import FitLaw
from gdn.trust.features import misfit, tile_features
from gdn.trust.spectrum import ring_features

Values = NDArray[np.float64]

REFUSED = 0.01  # below: not explained
DOUBTED = 0.05
LOCAL = 4.0  # px, over which the map averages


@dataclass(frozen=True)
class Explained:
    """`p` of the frame, `tiles` (n,) of each tile, and `map` (rows, columns), where it lies:
    the local deviance above what is expected, in standard deviations."""

    p: float
    tiles: Values
    map: Array

    @property
    def words(self) -> str:
        """The result in a sentence."""
        if self.p < REFUSED:
            return (
                f"the generator cannot explain this frame (p = {self.p:.2g}): it is unlike "
                "anything the "
                "generator was trained for; do not rely on columns or intervals"
            )
        if self.p < DOUBTED:
            return f"it is doubtful that the generator explains this frame (p = {self.p:.2g})"
        return f"the generator explains this frame (p = {self.p:.2g})"


def noise_level(found: Estimate) -> float:
    """log of the noise of a binned pixel as a share of the vacuum level."""
    dose = max(found.dose, 1e-6)
    return float(0.5 * np.log(found.binned.law.variance(dose)) - np.log(dose))


def explained(found: Estimate, sampling_angstrom: float, law: FitLaw) -> Explained:
    """How well the generator explains an estimate's counts; `sampling_angstrom` of a binned
    pixel."""
    features = tile_features(found, sampling_angstrom)
    level = noise_level(found)
    distances = law.tiles.distances(features, np.full(len(features), level))
    p = law.frame_p(distances, ring_features(found.binned, sampling_angstrom), level)
    return Explained(p, law.tile_p(distances), misfit_map(found))


def misfit_map(found: Estimate, width: float = LOCAL) -> Array:
    """The deviance of the counts under the generator's image, above its mean, averaged over a
    Gaussian of `width` px, in standard deviations: 0 +- 1 where the generator explains the
    counts."""
    over, variance = misfit(np.maximum(found.generated, 1e-3), found.binned.counts, found.binned)
    # Of a mean with weights w: sum w^2 v, and sum w^2 = 1 / (4 pi width^2) for a Gaussian.
    error = np.sqrt(gaussian_filter(variance, width) / (4 * np.pi * width**2))
    return np.asarray(gaussian_filter(over, width) / np.maximum(error, 1e-12), dtype=np.float32)

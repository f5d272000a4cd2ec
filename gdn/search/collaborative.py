"""Collaborative filtering of an image whose noise is white, of standard deviation 1: blocks that
look alike are denoised together.

The method is that of Dabov et al. 2007 (BM3D), with sizes for crystals, whose blocks repeat over
the whole field (`gdn.search.block_matching`). There are two passes (`gdn.search.block_groups`). The
first keeps the coefficients of each group's three-dimensional cosine transform that rise above the
noise. The second shrinks each coefficient by the empirical Wiener rule, with the first pass's image
as its pilot.

What varies slowly over a crystal, as the contrast of a particle does with its thickness, a group of
many blocks averages away. So after each pass a lattice's waves (`gdn.search.lattice_waves`) are
fitted to what the image lacks, and put back. Images are (rows, columns) float32.

As a candidate of the mixture, the filter works on counts summed by a whole number, after a
transform that makes their variance constant. Which blocks are alike is hard to tell under noise. So
beside a restorer the first pass compares blocks of the restorer's image of the same counts. What is
filtered are always the counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array, NoiseLaw
from gdn.search.block_groups import filter_groups
from gdn.search.block_matching import BLOCK
from gdn.search.lattice_waves import Peak, WidthChoice, find_peaks, fit_waves
from gdn.search.restored import RestorerCandidate, image_of_sums
from gdn.search.standing_out import add_what_stands_out
from gdn.search.thinning import HELD_OUT, Recorded

GROUPS = ((64, 128, 256), (32, 64, 128))  # blocks in a group, in either pass,
GROUPS_FINE = ((32, 64, 128, 256), (16, 32, 64, 128))  # and at pixels below
FINE_ANGSTROM = 0.28  # (800 electrons per Å^2), where it can be told which size is best
SMOOTH = 0.3  # px: of the noisy image for comparing blocks; more would match their noise
OF_PILOT, OF_IMAGE = WidthChoice(24.0, 1.0), WidthChoice(16.0, 2.0)  # of waves that are put back
LEAST = 2 * BLOCK  # px: smaller images have no blocks to compare
PIXEL_ANGSTROM = 0.35  # of what is filtered, at USUAL_DOSE
USUAL_DOSE = 120.0  # electrons per Å^2: 0.45 in a pixel of 0.061 Å
FALL = 0.12  # the pixel's power of the dose (docs/measurements/restorer.md)
PIXELS_ANGSTROM = (0.2, 0.5)  # the finest and the coarsest


def filter_collaboratively(
    noisy: Array,
    guide: Array | None = None,
    pixel_angstrom: float = PIXEL_ANGSTROM,
    rest: bool = False,
) -> Array:
    """The expected image of `noisy`, whose noise has standard deviation 1. In the first pass blocks
    are alike that are so in the `guide`, an image of the same with less noise, if there is one.
    `rest`: the image is what a model leaves (`filter_groups`). An image smaller than LEAST px
    becomes its mean. Deterministic."""
    if min(noisy.shape) < LEAST:
        return np.full_like(noisy, noisy.mean())
    # Blocks are compared about zero, where single precision is finest.
    level = np.float32(noisy.mean())
    padded, compared = (
        np.pad(image.astype(np.float32) - level, BLOCK, mode="symmetric")
        for image in (noisy, noisy if guide is None else guide)
    )
    groups = GROUPS if pixel_angstrom > FINE_ANGSTROM else GROUPS_FINE
    sizes: tuple[int, ...] = groups[0]
    if guide is None:  # its noise would decide
        compared, sizes = np.asarray(gaussian_filter(compared, SMOOTH)), GROUPS[0][:1]
    inner = (slice(BLOCK, -BLOCK),) * 2
    own = padded[inner]
    waves = [] if rest else find_peaks(own.astype(np.float64))
    pilot = filter_groups(padded, compared, sizes, wiener=False, rest=rest)
    pilot = np.pad(_with_waves(own, pilot[inner], waves, OF_PILOT), BLOCK, mode="symmetric")
    image = filter_groups(padded, pilot, groups[1], wiener=True, rest=rest)[inner]
    restored = None if guide is None else guide.astype(np.float32) - level
    image = add_what_stands_out(own, image, restored, pixel_angstrom)
    return _with_waves(own, image, waves, OF_IMAGE) + level


def _with_waves(noisy: Array, image: Array, waves: list[Peak], choice: WidthChoice) -> Array:
    """The `image` with what it lacks of a lattice's waves."""
    return image + fit_waves((noisy - image).astype(np.float64), waves, choice)


def stabilise(electrons: Array, law: NoiseLaw) -> Array:
    """Values with a variance near 1, from electrons of that noise law (generalised Anscombe
    transform: Starck et al. 1998, eq. 2.4). Purely Gaussian noise is divided by its standard
    deviation."""
    alpha, beta = law.alpha, law.beta
    if alpha == 0:
        return np.asarray(electrons / np.sqrt(max(beta, 1e-12)), dtype=np.float32)
    inner = np.maximum(alpha * electrons + 0.375 * alpha**2 + beta, 0)
    return np.asarray(2 / alpha * np.sqrt(inner), dtype=np.float32)


def invert_stabilise(values: Array, law: NoiseLaw) -> Array:
    """The mean electrons whose stabilised values have the means `values` (closed form of the exact
    unbiased inverse: Mäkitalo & Foi 2011, eq. 10, and 2013, eq. 9)."""
    alpha, beta = law.alpha, law.beta
    if alpha == 0:
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
    (`gdn.search.band_mixture.Candidate`), guided by the images of a restorer if there is one."""

    guide: RestorerCandidate | None = None
    name = "collaborative"  # as the record has it

    @property
    def identity(self) -> str:
        """What its images depend on apart from the counts."""
        own = f"collaborative-6, {PIXEL_ANGSTROM:g}"
        return own if self.guide is None else f"{own}, {self.guide.identity}"

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid."""
        return filter_recorded(recorded, self.guide, filter_collaboratively)


def filter_recorded(
    recorded: Recorded,
    restorer: RestorerCandidate | None,
    filtering: Callable[[Array, Array | None, float], Array],
) -> Array:
    """The image that a filter makes of recorded counts, in electrons per pixel of the generator's
    grid. `filtering` is given the stabilised sums of the counts, the restorer's image of the same
    if there is a restorer, and their pixel in Å."""
    pixel = best_pixel(recorded)

    def filter_counts(counts: Array, law: NoiseLaw) -> Array:
        guide = None if restorer is None else stabilise(restorer.restore_sums(recorded, pixel), law)
        return invert_stabilise(filtering(stabilise(counts, law), guide, pixel), law)

    return image_of_sums(recorded, pixel, filter_counts)


def best_pixel(recorded: Recorded) -> float:
    """The pixel, Å, at which counts are filtered: the finer, the more electrons. Counts that were
    thinned are filtered at that of the whole."""
    mean = float(recorded.electrons.mean())
    # What noise of another law than counting does is that of as many electrons.
    dose = mean**2 / float(recorded.law.variance(mean)) / recorded.grids.sampling_angstrom**2
    dose /= (1 - HELD_OUT) ** recorded.depth
    pixel = PIXEL_ANGSTROM * (USUAL_DOSE / max(dose, 1e-6)) ** FALL
    return float(np.clip(pixel, *PIXELS_ANGSTROM))

"""The lattice filter, a candidate of the mixture: the waves of a crystal that fills the field, and
what is left filtered collaboratively.

A defect is not a part of the lattice, but a strong one disturbs the fit of its waves. So what
stands out of the lattice is taken from the counts before the waves are fitted again. What is then
left, defects, edges and what varies, goes through the collaborative filter, which keeps of it what
noise hardly ever does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdn.likelihood import Array
from gdn.search.collaborative import LEAST, filter_collaboratively, filter_recorded
from gdn.search.lattice_waves import fit_lattice
from gdn.search.restored import RestorerCandidate
from gdn.search.standing_out import add_what_stands_out
from gdn.search.thinning import Recorded

ROUNDS = 3  # of taking away what stands out and fitting again


def filter_lattice(noisy: Array, guide: Array | None, pixel_angstrom: float) -> Array:
    """The expected image of `noisy` (rows, columns) float32, whose noise has standard deviation 1.
    The `guide` is an image of the same with less noise. Without a lattice it is the mean: the
    filters that know of none are other candidates. Deterministic."""
    level = noisy.mean()
    lattice = fit_lattice(noisy) if min(noisy.shape) >= LEAST else np.zeros_like(noisy)
    if not lattice.any():
        return np.full_like(noisy, level)
    for _ in range(ROUNDS):
        standing = add_what_stands_out(noisy - level, lattice, None, pixel_angstrom) - lattice
        if not standing.any():
            break
        lattice = fit_lattice(noisy - standing)
    rest = None if guide is None else guide - lattice
    return filter_collaboratively(noisy - lattice, rest, pixel_angstrom, rest=True) + lattice


@dataclass(frozen=True)
class LatticeCandidate:
    """The lattice filter as one of the mixture's candidates (`gdn.search.band_mixture.Candidate`),
    guided by the images of a restorer if there is one."""

    guide: RestorerCandidate | None = None
    name = "lattice"  # as the record has it

    @property
    def identity(self) -> str:
        """What its images depend on apart from the counts."""
        return "lattice-3" if self.guide is None else f"lattice-3, {self.guide.identity}"

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid."""
        return filter_recorded(recorded, self.guide, filter_lattice)

"""How atoms scatter fast electrons: constants of the beam and projected potentials of single atoms.
NumPy only.

Lengths in Å, spatial frequencies k in 1/Å, energies in eV, potentials in V.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

HEAVIEST = 83  # Bi: the last element of the table
# V Å^2: Planck's constant squared over twice the electron's mass and charge
_H2_OVER_2ME = 150.41206
_REST = 510998.95  # eV, the electron's rest energy


def wavelength_angstrom(energy_ev: float) -> float:
    """Relativistic wavelength (Kirkland 2010, eq. 2.5)."""
    return float(np.sqrt(_H2_OVER_2ME / (energy_ev * (1 + energy_ev / (2 * _REST)))))


def interaction_parameter(energy_ev: float) -> float:
    """sigma, radians per V Å of projected potential (Kirkland 2010, eq. 5.6)."""
    wavelength = wavelength_angstrom(energy_ev)
    return float(
        2 * np.pi / (wavelength * energy_ev) * (_REST + energy_ev) / (2 * _REST + energy_ev)
    )


@cache
def _lobato() -> Values:
    """(83, 2, 5): a_i in Å and b_i in Å^2 of every element up to Bi (Lobato & Van Dyck 2014, table
    1)."""
    with (resources.files("gdn.simulation") / "lobato.npy").open("rb") as stream:
        return np.asarray(np.load(stream, allow_pickle=False), dtype=np.float64)


def projected_potential(number: int, k_squared: Values) -> Values:
    """Fourier transform, V Å^3, of the potential of element `number` projected along the beam, at
    `k_squared` 1/Å^2.

    Electron scattering factor (Lobato & Van Dyck 2014, eq. 16) times h^2 / (2 pi m e). Raises
    ValueError beyond Bi.
    """
    if not 1 <= number <= HEAVIEST:
        raise ValueError(
            f"element {number}: scattering factors are known from H (1) to Bi ({HEAVIEST})"
        )
    a, b = _lobato()[number - 1]
    q = k_squared[..., None]
    factor = (a * (2 + b * q) / (1 + b * q) ** 2).sum(-1)
    return np.asarray(factor * _H2_OVER_2ME / np.pi)

"""Unit cells of common crystals: structure families, compounds with their lattice constants, zone
axes.

Lattice constants in Å, at room temperature, from the literature; sites as fractions of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.simulation.structures import Vectors


def _words(text: str) -> list[str]:
    """The words of `text`."""
    return text.split()


_SYMBOLS = _words(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni "
    "Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo "
    "Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho "
    "Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
)
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(_SYMBOLS, 1)}

# Covalent radii, Å (Cordero et al. 2008), of the elements that invented crystals use.
RADII = {
    **{
        "C": 0.76,
        "N": 0.71,
        "O": 0.66,
        "F": 0.57,
        "Na": 1.66,
        "Mg": 1.41,
        "Al": 1.21,
        "Si": 1.11,
        "P": 1.07,
        "S": 1.05,
    },
    **{
        "Cl": 1.02,
        "K": 2.03,
        "Ca": 1.76,
        "Sc": 1.7,
        "Ti": 1.6,
        "V": 1.53,
        "Cr": 1.39,
        "Mn": 1.5,
        "Fe": 1.42,
        "Co": 1.38,
    },
    **{
        "Ni": 1.24,
        "Cu": 1.32,
        "Zn": 1.22,
        "Ga": 1.22,
        "Ge": 1.2,
        "As": 1.19,
        "Se": 1.2,
        "Br": 1.2,
        "Sr": 1.95,
        "Y": 1.9,
    },
    **{
        "Zr": 1.75,
        "Nb": 1.64,
        "Mo": 1.54,
        "Ru": 1.46,
        "Rh": 1.42,
        "Pd": 1.39,
        "Ag": 1.45,
        "Cd": 1.44,
        "In": 1.42,
    },
    **{
        "Sn": 1.39,
        "Sb": 1.39,
        "Te": 1.38,
        "I": 1.39,
        "Cs": 2.44,
        "Ba": 2.15,
        "La": 2.07,
        "Ce": 2.04,
        "Gd": 1.96,
    },
    **{
        "Hf": 1.75,
        "Ta": 1.7,
        "W": 1.62,
        "Re": 1.51,
        "Ir": 1.41,
        "Pt": 1.36,
        "Au": 1.36,
        "Pb": 1.46,
        "Bi": 1.48,
    },
    "B": 0.84,
}
METALS = _words("Al Ti V Cr Mn Fe Co Ni Cu Zn Zr Nb Mo Ru Rh Pd Ag Sn Gd Hf Ta W Re Ir Pt Au Pb")
CATIONS = _words(
    "Mg Al Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Sr Y Zr Nb Mo Cd In Sn Ba La Ce Gd Hf Ta W Pb Bi"
)
LARGE_CATIONS = _words("Na K Ca Sr Y Cs Ba La Ce Gd Pb Bi")
ANIONS = _words("N O F S Cl Se Te")
GROUP_14 = _words("C Si Ge Sn")

_FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
_QUARTERS = np.array([[i, j, k] for i in (0.25, 0.75) for j in (0.25, 0.75) for k in (0.25, 0.75)])
_HCP = np.array([[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])

Sites = list[Vectors]  # one array (n, 3) of fractions per species


def _with_fcc(points: list[list[float]]) -> Vectors:
    """`points` (n, 3) repeated by the face centring, (4 n, 3) fractions."""
    return np.asarray((np.array(points)[:, None] + _FCC[None]).reshape(-1, 3) % 1)


def _spinel(u: float) -> Sites:
    """Tetrahedral (8a), octahedral (16d) and oxygen (32e, parameter `u`) sites, origin on 8a."""
    octahedral = [[5, 5, 5], [5, 7, 7], [7, 5, 7], [7, 7, 5]]
    v, w = 0.25 - u, 0.25 + u
    oxygen = [
        [u, u, u],
        [u, -u, -u],
        [-u, u, -u],
        [-u, -u, u],
        [v, v, v],
        [v, w, w],
        [w, v, w],
        [w, w, v],
    ]
    return [
        _with_fcc([[0, 0, 0], [0.25] * 3]),
        _with_fcc([[x / 8 for x in s] for s in octahedral]),
        _with_fcc(oxygen),
    ]


def _rutile(u: float) -> Sites:
    """Metal and oxygen (parameter `u`) sites."""
    oxygen = [[u, u, 0], [1 - u, 1 - u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    return [np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array(oxygen)]


def _dichalcogenide(u: float) -> Sites:
    """2H stacking: metal sites, and chalcogens `u` c above and below them."""
    x = _HCP[::-1, :2]
    chalcogen = [
        [*xy, height + s * u] for xy, height in zip(x, (0.25, 0.75), strict=True) for s in (-1, 1)
    ]
    return [_HCP, np.array(chalcogen)]


_PEROVSKITE_X = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
_ONE, _CENTRE = np.zeros((1, 3)), np.full((1, 3), 0.5)
_WURTZITE = np.array([[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5]])
_GRAPHITE = np.array([[0, 0, 0.25], [1 / 3, 2 / 3, 0.25], [0, 0, 0.75], [2 / 3, 1 / 3, 0.75]])


@dataclass(frozen=True)
class Family:
    """A structure type.

    - `system`: cubic, tetragonal or hexagonal.
    - `sites`: fractional positions of each species.
    - `pools`: the elements that each species can be.
    - `share`: relative frequency.
    - `layered`: whether it consists of weakly bound layers.
    """

    system: str
    sites: Sites
    pools: list[list[str]]
    share: float
    layered: bool = False


FAMILIES: dict[str, Family] = {
    "fcc": Family("cubic", [_FCC], [METALS], 0.15),
    "bcc": Family("cubic", [np.concatenate([_ONE, _CENTRE])], [METALS], 0.07),
    "hcp": Family("hexagonal", [_HCP], [METALS], 0.08),
    "diamond": Family("cubic", [np.concatenate([_FCC, _FCC + 0.25])], [GROUP_14], 0.07),
    "zincblende": Family("cubic", [_FCC, _FCC + 0.25], [CATIONS, ANIONS], 0.09),
    "wurtzite": Family(
        "hexagonal", [_WURTZITE, _WURTZITE + np.array([0, 0, 0.379])], [CATIONS, ANIONS], 0.07
    ),
    "rocksalt": Family(
        "cubic", [_FCC, (_FCC + np.array([0.5, 0, 0])) % 1], [CATIONS, ANIONS], 0.09
    ),
    "fluorite": Family("cubic", [_FCC, _QUARTERS], [CATIONS, ["O", "F", "Cl"]], 0.08),
    "perovskite": Family(
        "cubic", [_ONE, _CENTRE, _PEROVSKITE_X], [LARGE_CATIONS, CATIONS, ["O"]], 0.12
    ),
    "rutile": Family("tetragonal", _rutile(0.305), [CATIONS, ["O", "F"]], 0.06),
    "spinel": Family("cubic", _spinel(0.385), [CATIONS, CATIONS, ["O", "S"]], 0.07),
    "cscl": Family("cubic", [_ONE, _CENTRE], [METALS, METALS], 0.05),
    "graphene": Family("hexagonal", [_GRAPHITE], [["C"]], 0.4, True),
    "hbn": Family("hexagonal", [_HCP, _HCP * [1, 1, -1] + [0, 0, 1]], [["B"], ["N"]], 0.2, True),
    "dichalcogenide": Family(
        "hexagonal", _dichalcogenide(0.128), [["Mo", "W", "Nb", "Ta"], ["S", "Se", "Te"]], 0.4, True
    ),
}

# Family -> "elements: a [c]", lattice constants in Å.
COMPOUNDS: dict[str, str] = {
    "fcc": "Al 4.050, Ni 3.524, Cu 3.615, Pd 3.891, Ag 4.086, Pt 3.924, Au 4.078, Ir "
    "3.839, Rh 3.803",
    "bcc": "Fe 2.866, Cr 2.885, W 3.165, Mo 3.147, Nb 3.301, Ta 3.303",
    "hcp": "Ti 2.951 4.684, Co 2.507 4.069, Mg 3.209 5.211, Zn 2.665 4.947, Zr 3.232 "
    "5.147, Ru 2.706 4.282",
    "diamond": "C 3.567, Si 5.431, Ge 5.658",
    "zincblende": "Ga-As 5.653, In-P 5.869, Cd-Se 6.077, Cd-Te 6.482, Zn-S 5.409, In-As 6.058, "
    "Si-C 4.360, Ga-P 5.451",
    "wurtzite": "Ga-N 3.189 5.186, Zn-O 3.250 5.207, Cd-S 4.136 6.714, Al-N 3.111 4.979, "
    "Cd-Se 4.299 7.010",
    "rocksalt": "Mg-O 4.212, Na-Cl 5.640, Ni-O 4.177, Pb-Te 6.462, Pb-S 5.936, Ti-N 4.241, "
    "Co-O 4.261",
    "fluorite": "Ce-O 5.411, Zr-O 5.090, Ca-F 5.463",
    "perovskite": "Sr-Ti-O 3.905, Ba-Ti-O 4.000 4.034, La-Al-O 3.790, Cs-Pb-Br 5.870, K-Ta-O "
    "3.989, La-Mn-O 3.880, "
    "Pb-Ti-O 3.904 4.152, Ba-Zr-O 4.193, Sr-Ru-O 3.930",
    "rutile": "Ti-O 4.594 2.959, Sn-O 4.738 3.187, Ru-O 4.492 3.107",
    "spinel": "Fe-Fe-O 8.396, Co-Co-O 8.084, Mg-Al-O 8.083, Mn-Mn-O 8.420",
    "cscl": "Ni-Al 2.887, Cs-Cl 4.123, Fe-Al 2.909",
    "graphene": "C 2.461 6.708",
    "hbn": "B-N 2.504 6.661",
    "dichalcogenide": "Mo-S 3.160 12.294, W-S 3.153 12.323, W-Se 3.282 12.960, Mo-Se 3.288 12.900",
}
ZONES: dict[str, list[tuple[int, int, int]]] = {  # direct-lattice directions
    "cubic": [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 1, 2), (2, 1, 0)],
    "tetragonal": [(0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)],
    "hexagonal": [(0, 0, 1), (1, 1, 0), (2, 1, 0)],  # 0001, 11-20, 10-10
}
ZONE_SHARES = {
    "cubic": [0.28, 0.34, 0.16, 0.14, 0.08],
    "tetragonal": [0.3, 0.25, 0.2, 0.15, 0.1],
    "hexagonal": [0.4, 0.3, 0.3],
}


@dataclass(frozen=True, kw_only=True)
class Crystal:
    """A unit cell.

    - `family`: the name of its structure type.
    - `elements`: of its species.
    - `cell` (3, 3): one lattice vector per row, Å.
    - `fractions` (n, 3): fractional positions of the atoms.
    - `numbers` (n,): their atomic numbers.
    """

    family: str
    elements: tuple[str, ...]
    cell: Vectors
    fractions: Vectors
    numbers: NDArray[np.int64]

    @property
    def reciprocal(self) -> Vectors:
        """Reciprocal vectors (3, 3), one per row, 1/Å. The normal of plane (hkl) is hkl @
        reciprocal."""
        return np.asarray(np.linalg.inv(self.cell).T)


def compounds(family: str) -> list[tuple[tuple[str, ...], float, float]]:
    """(elements, a, c) of the compounds of `family`, lattice constants in Å."""
    entries = [entry.split() for entry in COMPOUNDS[family].split(",")]
    return [(tuple(e[0].split("-")), float(e[1]), float(e[-1])) for e in entries]


def build_crystal(family: str, elements: tuple[str, ...], a: float, c: float) -> Crystal:
    """The unit cell of `elements` (one per species) in `family` with lattice constants `a` and `c`
    in Å (`c` = `a` if cubic)."""
    kind = FAMILIES[family]
    cell = np.diag([a, a, c])
    if kind.system == "hexagonal":
        cell[1] = [-a / 2, a * np.sqrt(3) / 2, 0]
    numbers = [
        np.full(len(s), ATOMIC_NUMBERS[e]) for s, e in zip(kind.sites, elements, strict=True)
    ]
    return Crystal(
        family=family,
        elements=elements,
        cell=cell,
        fractions=np.concatenate(kind.sites),
        numbers=np.concatenate(numbers),
    )

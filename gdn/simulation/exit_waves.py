"""The exit wave of one structure, by torch or by abTEM, with its columns and a record of how it was
made (docs/simulation.md, "Pt on CeO2")."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gdn import __version__
from gdn.simulation.imaging import ENERGY_KV, WAVE_BAND, FloatArray, Wave
from gdn.simulation.structures import Structure

GRID = 768  # px of the multislice grid on the 64 Å cell
SLICE_ANGSTROM = 2.0
THERMAL_ANGSTROM = 0.08  # rms displacement, one value for Pt, Ce and O

Multislice = Literal["torch", "abtem"]
TORCH: Multislice = "torch"
ABTEM: Multislice = "abtem"


def projected_columns(structure: Structure) -> tuple[FloatArray, FloatArray]:
    """Columns (m, 2) Å and their summed atomic number (m,). Atoms belong to one column if they are
    within 0.7 Å in projection."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    xy = structure.positions[:, :2]
    if not len(xy):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    graph = cKDTree(xy).sparse_distance_matrix(cKDTree(xy), 0.7)
    _, label = connected_components(graph, directed=False)
    weight = np.bincount(label, structure.numbers)
    centre = np.stack(
        [np.bincount(label, structure.numbers * xy[:, a]) / weight for a in (0, 1)], 1
    )
    return centre.astype(np.float32), weight.astype(np.float32)


def exit_wave(
    structure: Structure,
    energy_kv: float = ENERGY_KV,
    multislice: Multislice = TORCH,
    device: str = "cpu",
) -> Wave:
    """The exit wave of a plane wave of `energy_kv` through `structure`, by multislice on `device`,
    or by abTEM, which runs on the CPU. Lobato's potentials, slices of 2 Å, band-limited to
    WAVE_BAND."""
    record: dict[str, Any] = {
        "grid": GRID,
        "slice_angstrom": SLICE_ANGSTROM,
        "thermal_angstrom": THERMAL_ANGSTROM,
    }
    record |= {
        "simulation": "abTEM" if multislice == ABTEM else "gdn",
        "structure": plain(structure.parameters),
    }
    record |= {"atoms": len(structure.numbers), "gdn": __version__, "energy_kv": energy_kv}
    columns, weights = projected_columns(structure)
    if multislice == ABTEM and len(structure.numbers):
        import abtem

        from gdn.simulation.abtem_reference import abtem_spectrum

        record["abtem"] = abtem.__version__
        spectrum = abtem_spectrum(structure, energy_kv, GRID, SLICE_ANGSTROM, THERMAL_ANGSTROM)
    else:
        from gdn.simulation.multislice import Beam
        from gdn.simulation.multislice import exit_wave as by_torch

        beam = Beam(
            energy_ev=1e3 * energy_kv,
            grid=GRID,
            slice_angstrom=SLICE_ANGSTROM,
            thermal_angstrom=THERMAL_ANGSTROM,
        )
        spectrum = by_torch(structure, beam, WAVE_BAND, device).cpu().numpy()
    return Wave(
        spectrum=spectrum.astype(np.complex64),
        cell_angstrom=float(structure.cell[0]),
        columns=columns,
        weights=weights,
        record=record,
    )


def plain(value: Any) -> Any:
    """Convert NumPy scalars and tuples to JSON's types."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value

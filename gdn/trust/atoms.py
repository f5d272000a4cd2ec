"""The atom columns of a result, each judged against the counts, in the frame's own coordinates
(docs/method.md, "Trust")."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.resampling import Grids
from gdn.search.estimate import Estimate
from gdn.trust.calibration import ColumnLaw
from gdn.trust.columns import Columns, find_columns, lattice_sites
from gdn.trust.evidence import ColumnEvidence, decide_verdicts, weigh
from gdn.trust.spread import doubt

Values = NDArray[np.float64]

VERDICTS = ("present", "cannot tell", "absent")
COLUMNS = (
    "id",
    "y_px",
    "x_px",
    "y_angstrom",
    "x_angstrom",
    "position_error_angstrom",
    "amplitude_percent_of_vacuum",
    "width_angstrom",
    "evidence_nats",
    "probability",
    "verdict",
    "in_image",
)
# Å: positions of two images of one frame never agree better (benchmarks/trust.py)
_SMALLEST_ERROR = 0.01


@dataclass(frozen=True, kw_only=True)
class Atoms:
    """Columns that the result shows, and lattice sites without one.

    - `yx_px` (n, 2): positions on the frame's grid; the first pixel's centre is 0.
    - `sampling_angstrom`: Å per pixel of that grid.
    - `columns`: on the generator's grid.
    - `evidence`: of each, by the counts.
    - `position_error` (n,): standard error along each axis, Å.
    - `probability` (n,): the probability that the specimen has a column there.
    - `verdict` (n,): one of VERDICTS, at the false-discovery `rate`.
    """

    yx_px: Values
    sampling_angstrom: float
    columns: Columns
    evidence: ColumnEvidence
    position_error: Values
    probability: Values
    verdict: NDArray[np.str_]
    rate: float

    def counts(self) -> dict[str, int]:
        """Number of columns in the image with each verdict."""
        drawn = self.verdict[self.columns.drawn]
        return {name.replace(" ", "_"): int((drawn == name).sum()) for name in VERDICTS}

    @property
    def missing(self) -> int:
        """Lattice sites where the image shows no column but the counts support one."""
        return int((self.verdict[~self.columns.drawn] == "present").sum())

    def listed(self) -> NDArray[np.int64]:
        """Indices of the columns in the table: every column that the image shows, and the sites
        that are not simply empty."""
        return np.flatnonzero(self.columns.drawn | (self.verdict != "absent"))

    def table(self) -> list[dict[str, Any]]:
        """The table, unrounded: a dictionary for each line, with the names of COLUMNS; `in_image`
        is a bool."""
        lines = []
        for number, k in enumerate(self.listed().tolist()):
            y, x = (float(place) for place in self.yx_px[k])
            values = (
                number,
                y,
                x,
                y * self.sampling_angstrom,
                x * self.sampling_angstrom,
                float(self.position_error[k]),
                100 * float(self.columns.amplitude[k]),
                float(self.columns.width[k]),
                float(self.evidence.nats[k]),
                float(self.probability[k]),
                str(self.verdict[k]),
                bool(self.columns.drawn[k]),
            )
            lines.append(dict(zip(COLUMNS, values, strict=True)))
        return lines


def find_atoms(estimate: Estimate, grids: Grids, law: ColumnLaw, rate: float) -> Atoms:
    """Find the columns of the result and of its lattice, and judge them at the false-discovery
    `rate`."""
    sampling = float(np.mean(grids.binned_sampling))
    image = np.asarray(estimate.image / estimate.dose, dtype=np.float32)
    drawn = find_columns(image, sampling)
    sites = lattice_sites(drawn, (image.shape[0], image.shape[1]), sampling)
    doubts = doubt(estimate)
    parts = [
        (c, weigh(c, image, doubts, estimate.binned, estimate.dose, sampling))
        for c in (drawn, sites)
    ]
    probability = [
        model.probability(e.features())
        for model, (_, e) in zip((law.drawn, law.sites), parts, strict=True)
    ]
    columns = Columns(
        *(
            np.concatenate([getattr(c, f) for c, _ in parts])
            for f in ("yx", "amplitude", "width", "drawn")
        )
    )
    evidence = ColumnEvidence(
        **{
            f.name: np.concatenate([getattr(e, f.name) for _, e in parts])
            for f in fields(ColumnEvidence)
        }
    )
    error = (
        law.position * evidence.doubt * columns.width / np.maximum(np.abs(columns.amplitude), 1e-6)
    )
    factor = np.array(grids.frame_shape) / np.array(grids.binned_shape)
    yx = (columns.yx / sampling + 0.5) * factor - 0.5
    return Atoms(
        yx_px=yx,
        sampling_angstrom=grids.sampling_angstrom,
        columns=columns,
        evidence=evidence,
        position_error=np.maximum(error, _SMALLEST_ERROR),
        probability=np.concatenate(probability),
        verdict=np.concatenate([decide_verdicts(p, rate) for p in probability]),
        rate=rate,
    )


def write_csv(path: Path, atoms: Atoms) -> None:
    """Write the table, one line a column, with units in its header."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number, k in enumerate(atoms.listed()):
            y, x = atoms.yx_px[k]
            writer.writerow(
                [
                    number,
                    f"{y:.2f}",
                    f"{x:.2f}",
                    f"{y * atoms.sampling_angstrom:.3f}",
                    f"{x * atoms.sampling_angstrom:.3f}",
                    f"{atoms.position_error[k]:.3f}",
                    f"{100 * atoms.columns.amplitude[k]:.2f}",
                    f"{atoms.columns.width[k]:.2f}",
                    f"{atoms.evidence.nats[k]:.2f}",
                    f"{atoms.probability[k]:.4f}",
                    atoms.verdict[k],
                    "yes" if atoms.columns.drawn[k] else "no",
                ]
            )

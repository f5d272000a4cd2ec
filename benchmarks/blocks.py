"""Settings of the collaborative filter, alone, on validation frames of `kin.py` or `near.py`.

Each variant changes one thing of the filter as it is: where blocks are looked for, by which image
they are compared, the pixel, how many blocks a group has, and whether what stands out is put back.
`gain` is over the filter as it was first: all shifts up to 30 px, compared in the noisy image,
pixels of 0.5 Å, a threshold of 2.7. Seconds are CPU seconds of the filter, without the restorer
that guides it.

    python benchmarks/kin.py -o kin
    python benchmarks/blocks.py --frames kin --noise poisson:1 --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import far
import numpy as np
from mixture_tables import blocks_table
from numpy.typing import NDArray

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.frames.resampling import bin_sum, grids_for, unbin
from gdn.likelihood import NoiseLaw
from gdn.models import RESTORER
from gdn.search import block_groups, block_matching, collaborative, standing_out
from gdn.storage import json_line

Image = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of the filter. `around`: all shifts up to so many px (0: those of the lattice)."""

    angstrom: float = 0.35
    guided: bool = True
    around: int = 0
    shifts: int = block_matching.SHIFTS
    reach: int = block_matching.REACH
    groups: tuple[tuple[int, ...], tuple[int, ...]] = collaborative.GROUPS
    threshold: float = block_groups.THRESHOLD
    stands_out: bool = True


FIXED = ((64,), (32,))
VARIANTS = {
    "as it was first": Variant(
        angstrom=0.5, guided=False, around=30, threshold=2.7, stands_out=False, groups=FIXED
    ),
    "pixels of 0.35 Å": Variant(
        guided=False, around=30, threshold=2.7, stands_out=False, groups=FIXED
    ),
    "and guided by the restorer": Variant(around=30, threshold=2.7, stands_out=False, groups=FIXED),
    "lattice shifts, not guided": Variant(guided=False, stands_out=False, groups=FIXED),
    "lattice shifts, guided": Variant(stands_out=False, groups=FIXED),
    "and what stands out": Variant(groups=FIXED),
    "and groups of chosen size (as it is)": Variant(),
    "groups of 128 and 64": Variant(groups=((128,), (64,))),
    "groups of 256 and 128": Variant(groups=((256,), (128,))),
    "groups from 32 and 16 on": Variant(groups=((32, 64, 128, 256), (16, 32, 64, 128))),
    "500 shifts": Variant(shifts=500),
    "1000 shifts": Variant(shifts=1000),
    "4000 shifts": Variant(shifts=4000),
    "threshold 2.7": Variant(threshold=2.7),
    "pixels of 0.25 Å": Variant(angstrom=0.25),
    "pixels of 0.5 Å": Variant(angstrom=0.5),
}


def square(reach: int) -> Any:
    """A stand-in for `likely_shifts`: all shifts up to `reach` px."""

    def shifts(image: Image) -> NDArray[np.int64]:
        rows, columns = (min(reach, n - block_matching.BLOCK) for n in image.shape)
        grid = np.mgrid[-rows : rows + 1, -columns : columns + 1]
        return np.asarray(grid.reshape(2, -1).T, dtype=np.int64)

    return shifts


def filtered(noisy: Image, restored: Image, sampling: float, noise: Noise, way: Variant) -> Image:
    """The filter's image in the frame's units. `noisy` and `restored` alike in units of `noise`."""
    binning = max(1, round(way.angstrom / sampling))
    grids = grids_for((noisy.shape[0], noisy.shape[1]), sampling, binning * sampling)
    counts = noise.kind == "poisson"
    unit = np.float32(noise.level if counts else 1)
    law = NoiseLaw(1, 0) if counts else NoiseLaw(0, noise.level**2 * grids.area)
    with ExitStack() as stack:
        for module, name, value in (
            (block_matching, "SHIFTS", way.shifts),
            (block_matching, "REACH", max(way.reach, way.around)),
            (collaborative, "GROUPS", way.groups),
            (collaborative, "GROUPS_FINE", way.groups),
            (block_groups, "THRESHOLD", way.threshold),
            (standing_out, "ROUNDS", standing_out.ROUNDS if way.stands_out else 0),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        if way.around:
            shifts = square(way.around)
            stack.enter_context(mock.patch.object(block_matching, "likely_shifts", shifts))
        values, guide = (
            collaborative.stabilise(bin_sum(image * unit, grids), law)
            for image in (noisy, np.maximum(restored, 0))
        )
        image = collaborative.filter_collaboratively(
            values, guide if way.guided else None, way.angstrom
        )
    made = collaborative.invert_stabilise(image, law)
    return unbin(made, grids) / np.float32(unit * grids.area)


def rows_of(folder: Path, noise: Noise, names: set[str]) -> Iterator[dict[str, Any]]:
    """One row for each frame."""
    with Denoiser(RESTORER, threads=1, score=False) as restorer:
        for number, path in enumerate(sorted(folder.glob("*.npz"))):
            if names and path.stem not in names:
                continue
            content = far.read(path)
            clean, sampling = content["image"], content["sampling_angstrom"]
            noisy = noise.apply(clean, number)
            restored = restorer.denoise(noisy, sampling).image
            row: dict[str, Any] = {"frame": path.stem, "noise": str(noise), "variants": {}}
            row["restorer"] = round(psnr(clean, restored), 3)
            for name, way in VARIANTS.items():
                begun = time.process_time()
                image = filtered(noisy, np.asarray(restored), sampling, noise, way)
                spent = round(time.process_time() - begun, 2)
                row["variants"][name] = {"db": round(psnr(clean, image), 3), "seconds": spent}
            yield row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder of kin.py or near.py")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--only", default="", metavar="NAMES", help="of the frames, with commas")
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines, added to")
    options = parser.parse_args()
    for noise in parse_suite(options.noise):
        for row in rows_of(options.frames, noise, set(filter(None, options.only.split(",")))):
            with options.rows.open("a", encoding="utf-8") as stream:
                stream.write(json_line(row) + "\n")
            print(row["frame"], flush=True)
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines()]
    print(blocks_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

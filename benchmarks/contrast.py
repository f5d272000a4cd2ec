"""Contrast classes on equal terms: the same structures seen with black, intermediate and white
columns.

Defocus and thickness decide which; a plain random set of frames is nearly all black. Each structure
of the split for which all three are found among its views is taken once in each class, so that the
classes hold the same structures.

    python benchmarks/contrast.py --structures 8 --rows docs/results/contrast.jsonl
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from content import CLASSES
from suite import UNETS, Job, class_table, clean_frame, contrast_of, one_frame, waves_of

from gdn.evaluation.comparators import available
from gdn.evaluation.evaluate import CleanFrame
from gdn.evaluation.noise_suite import parse_suite
from gdn.models import DEFAULT_MODEL
from gdn.simulation.imaging import read_wave

Classed = dict[str, CleanFrame]


def in_every_class(path: Path, views: int) -> Classed | None:
    """The first view of the wave at `path` in each contrast class; None if one is not among its
    `views`."""
    wave = read_wave(path)
    classed: Classed = {}
    for view in range(views):
        frame = clean_frame(path, wave, view)
        name = contrast_of(wave, frame.image)
        if name in CLASSES:
            classed.setdefault(name, frame)
        if len(classed) == len(CLASSES):
            return classed
    return None


def structures(folder: Path, split: str, count: int, views: int) -> list[Classed]:
    """The first `count` structures of `split` that are seen in every class."""
    tried = (in_every_class(path, views) for path in islice(waves_of(folder, split), 20 * count))
    return list(islice((classed for classed in tried if classed is not None), count))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=8)
    parser.add_argument("--views", type=int, default=24, help="looked through for each structure")
    parser.add_argument("--noise", default="poisson:10,poisson:1")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--against", default=",".join(["blur", "bm3d-binned", *UNETS]))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="also write every row as a JSON line")
    options = parser.parse_args()
    methods = tuple(m for m in options.against.split(",") if available(m))
    settings = (
        tuple(parse_suite(options.noise)),
        methods,
        options.model,
        options.restarts,
        None,
        1,
    )
    classes = structures(options.data, options.split, options.structures, options.views)
    jobs = [
        Job(n, classed[name], name, *settings)
        for n, classed in enumerate(classes)
        for name in CLASSES
    ]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        rows = [row for done in pool.map(one_frame, jobs) for row in done[0]]
    if options.rows:
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(classes)} structures, each in every class\n\n{class_table(rows)}")


if __name__ == "__main__":
    main()

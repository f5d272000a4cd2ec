"""The noise suite on whole frames of test structures: one table, rows as JSON lines if asked for.

Test structures are those of data set seed 1 whose seed falls in the test split; what is not on disk
is simulated (about a second each). No generator of this program is trained on them.

    python benchmarks/suite.py --frames 12 --rows docs/results/suite.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from gdn.engines.choose import open_engine
from gdn.evaluation.comparators import available
from gdn.evaluation.evaluate import DEFAULT_AGAINST, CleanFrame, evaluate_frame, summary, table
from gdn.evaluation.suite import STUDY_VACUUM, SUITE, parse_suite
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search.bank import bank_for
from gdn.training.imaging import read_wave, render, write_wave
from gdn.training.simulation import (
    FRAME_SAMPLING,
    FRAME_SHAPE,
    exit_wave,
    frame_optics,
    seed_of_path,
    split_of,
    structure_seed,
    wave_path,
)
from gdn.training.structures import random_structure


def stored_waves(folder: Path, split: str, count: int, dataset_seed: int = 1) -> list[Path]:
    """Waves of the first `count` structures of `split` that show anything; what is not on disk is simulated."""
    (folder / "waves").mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    index = 0
    while len(found) < count:
        seed = structure_seed(dataset_seed, index)
        structure = random_structure(seed) if split_of(seed) == split else None
        if structure is not None and len(structure.numbers):
            path = wave_path(folder, index, seed)
            if not path.exists():
                write_wave(path, exit_wave(structure))
            found.append(path)
        index += 1
    return found


def clean_frames(folder: Path, count: int, split: str = "test") -> list[CleanFrame]:
    """The first `count` frames of `split` that show anything, in the study's units."""
    found: list[CleanFrame] = []
    for path in stored_waves(folder, split, count):
        image = np.maximum(render(read_wave(path), frame_optics(seed_of_path(path), 0), FRAME_SAMPLING, FRAME_SHAPE), 0)
        found.append(CleanFrame(path.stem, 0, image * np.float32(STUDY_VACUUM), FRAME_SAMPLING))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--noise", default=SUITE)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--rows", type=Path, help="also write every row as a JSON line")
    parser.add_argument("--record", action="store_true", help="write the means into the model's model.json")
    options = parser.parse_args()
    frames = clean_frames(options.data, options.frames, options.split)
    methods = tuple(name for name in DEFAULT_AGAINST if available(name))
    rows = []
    with open_engine(find_model(options.model)) as engine:
        bank = bank_for(engine, 0, options.restarts)
        for noise in parse_suite(options.noise):
            for number, frame in enumerate(frames):
                rows += evaluate_frame(frame, noise, engine, bank, number, methods).rows
            print(f"{noise} done", file=sys.stderr, flush=True)
    if options.record:
        card = Path(find_model(options.model).folder) / "model.json"
        content = json.loads(card.read_text())
        content["metrics"] = {"split": options.split, "suite": list(summary(rows))}
        card.write_text(json.dumps(content, indent=1) + "\n")
    if options.rows:
        options.rows.parent.mkdir(parents=True, exist_ok=True)
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()

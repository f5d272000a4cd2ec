"""False alarms on fields smaller than a tile: frames of `near.py`, cut to small fields.

gdn denoises each cut without any information, and the row has its p-value. p below 0.01 says that
the generator cannot explain the frame. Frames of Pt on CeO2 with dark columns (`own`) are what the
generator of small fields was trained for. The others should be flagged: bright columns, other
specimens, and a wrong pixel size. A line of JSON for each is appended to `--rows`; what is there is
not done again.

    python benchmarks/small_fields.py near --rows rows.jsonl [--before earlier-rows.jsonl]
    python benchmarks/small_fields.py demo --rows rows.jsonl
    python benchmarks/small_fields.py --empty 4
    python benchmarks/small_fields.py --calibrate models/mine --data data --frames 360

`demo` stands for the frames of `gdn demo`, which are test structures, for reporting only. `--empty`
measures flat frames of the study's size, with and without the test for flatness. The last form adds
the law of small fields to the calibration of a model, in place.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import far
import numpy as np

from gdn import Denoiser
from gdn.evaluation.demo import demo_frames
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE
from gdn.storage import json_line
from gdn.trust.fit import REFUSED, explain_counts

Row = dict[str, Any]

SEED = 7
SIZES = (10, 12, 15, 18, 22)  # Å
PLACES = 3  # of a frame of `own`; the first, and that of the others, is its middle
DOSES = (0.45, 5, 20, 50, 100)  # electrons a pixel, of flat frames
FACTORS = (0.7, 1.4)  # of a pixel size that is wrong
DEMO = ("own-1", "own-2", "bright-3", "crystals-4")  # what the frames of the demo show
KINDS = {
    "own": "right frames",
    "bright": "bright columns",
    "crystals": "other specimens",
    "smaller": f"pixel size x {FACTORS[0]}",
    "larger": f"pixel size x {FACTORS[1]}",
}


def cuts_of(name: str) -> Iterator[Row]:
    """What is cut out of a frame: the field's size in Å, its place, and by how much the pixel size
    is wrong."""
    own = name.startswith("own")
    for size in SIZES:
        for place in range(PLACES if own else 1):
            for factor in (1.0, *FACTORS) if own and place == 0 else (1.0,):
                yield {"file": name, "size": size, "place": place, "factor": factor}


def kind_of(row: Row) -> str:
    """Which line of the table counts it."""
    if row["factor"] == 1:
        return str(row["file"]).partition("-")[0]
    return "smaller" if row["factor"] < 1 else "larger"


def noisy_cut(row: Row, image: far.Image, sampling: float, noise: Noise) -> far.Image:
    """The cut with noise."""
    rng = np.random.default_rng([SEED, *row["file"].encode(), row["size"], row["place"]])
    side = round(row["size"] / sampling)
    corner = [int(rng.integers(0, length - side + 1)) for length in image.shape]
    if row["place"] == 0:
        corner = [(length - side) // 2 for length in image.shape]
    part = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    return noise.apply(np.ascontiguousarray(part), int(rng.integers(2**31)))


def frames_of(folder: Path) -> Iterator[tuple[str, far.Image, float]]:
    """Name, clean image and pixel size in Å of each frame."""
    if folder == Path("demo"):
        for name, frame in zip(DEMO, demo_frames(), strict=True):
            yield name, frame.image, frame.sampling_angstrom
        return
    for path in sorted(folder.glob("*.npz")):
        content = far.read(path)
        yield path.stem, content["image"], float(content["sampling_angstrom"])


def measure(folder: Path, rows: Path, noise: Noise) -> None:
    """Append what is missing."""
    lines = rows.read_text().splitlines() if rows.exists() else []
    asked = ("file", "size", "place", "factor")
    done = {tuple(row[key] for key in asked) for row in map(json.loads, lines)}
    with Denoiser(score=False, threads=1) as denoiser:
        for name, image, sampling in frames_of(folder):
            for row in cuts_of(name):
                if tuple(row[key] for key in asked) in done:
                    continue
                frame = noisy_cut(row, image, sampling, noise)
                result = denoiser.denoise(frame, sampling * row["factor"])
                with rows.open("a") as stream:
                    stream.write(json_line(row | {"p": result.explained_p}) + "\n")


def table(rows: list[Row], before: list[Row]) -> str:
    """Frames flagged, by kind and size, as Markdown; with those of `before`, if there are any."""
    lines = ["| frames | field, Å | n | flagged before | flagged | p < 0.05 | median p |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for kind, words in KINDS.items():
        for size in SIZES:
            now, then = (
                np.array([r["p"] for r in each if kind_of(r) == kind and r["size"] == size])
                for each in (rows, before)
            )
            if len(now):
                earlier = f"{(then < REFUSED).sum()}" if len(then) else "-"
                lines.append(
                    f"| {words} | {size} | {len(now)} | {earlier} | {(now < REFUSED).sum()} "
                    f"| {(now < 0.05).sum()} | {np.median(now):.2g} |"
                )
    return "\n".join(lines)


def empty_table(count: int) -> str:
    """p of `count` flat frames at each dose, as Markdown: that of the generator's law alone, and
    with the test for flatness."""
    lines = [
        "| electrons a pixel | n | p < 0.01 without | p < 0.01 | median p without | median p |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    with Denoiser(score=False, threads=1) as denoiser:
        for dose in DOSES:
            values = []
            for number in range(count):
                rng = np.random.default_rng([SEED, number, round(100 * dose)])
                frame = rng.poisson(dose, FRAME_SHAPE).astype(np.float32)
                recording = denoiser.for_recording(frame, FRAME_SAMPLING)
                result = recording.search(frame, FRAME_SAMPLING)
                assert result.estimate is not None
                assert recording.calibration is not None
                sampling = float(np.mean(result.grids.binned_sampling))
                law = recording.calibration.fit
                explained = explain_counts(result.estimate, sampling, law)
                values.append((explained.by_law, explained.p))
            p = np.array(values)
            flagged, middle = (p < REFUSED).sum(0), np.median(p, 0)
            lines.append(
                f"| {dose:g} | {count} | {flagged[0]} | {flagged[1]} "
                f"| {middle[0]:.2g} | {middle[1]:.2g} |"
            )
    return "\n".join(lines)


def read_rows(path: Path | None) -> list[Row]:
    """The rows of a file."""
    return [] if path is None else [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="frames of near.py, or 'demo'")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--before", type=Path, help="rows of an earlier gdn")
    parser.add_argument("--empty", type=int, metavar="N", help="flat frames at each dose")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--calibrate", type=Path, help="folder of a model, changed in place")
    parser.add_argument("--data", type=Path, help="data set of 'gdn simulate'")
    parser.add_argument("--frames", type=int, default=360)
    options = parser.parse_args()
    if options.calibrate is not None:
        from gdn.evaluation.small_fields import calibrate_small_fields

        calibrate_small_fields(options.calibrate, options.data, options.frames)
        return
    if options.empty:
        print(empty_table(options.empty))
        return
    (noise,) = parse_suite(options.noise)
    measure(options.folder, options.rows, noise)
    print(table(read_rows(options.rows), read_rows(options.before)))


if __name__ == "__main__":
    main()

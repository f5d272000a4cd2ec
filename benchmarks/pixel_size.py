"""Is a wrong pixel size named? Frames whose pixel size is given wrong by known factors, as
`gdn denoise --find-sampling` looks at them.

A row for each frame, noise and factor: which generator was chosen, which size was named, and
whether gdn said that it explains the frame far better than the one given. Frames are folders of
`near.py` or `far.py`, or the test structures (`--data`, as in suite.py). `--table ROWS` prints the
table of rows written before.

    python benchmarks/near.py -o near
    python benchmarks/pixel_size.py --frames near --groups own,bright --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import far
import numpy as np
from numpy.typing import NDArray
from suite import clean_frames

from gdn import Denoiser
from gdn.errors import GdnError
from gdn.evaluation.noise_suite import parse_suite
from gdn.models import AUTO

FACTORS = (1.0, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4)
NEAR = 0.04  # a size is right within this share
Frame = tuple[str, str, NDArray[np.float32], float]
Row = dict[str, Any]


def stored_frames(folder: Path, groups: list[str]) -> Iterator[Frame]:
    """Name, group, clean image and Å per pixel of the frames of `groups` (none: all) in a folder.
    In the far set the group of Pt on CeO2 is `pt-ceo2`, that of other crystals `other`."""
    for path in sorted(folder.glob("*.npz")):
        content = far.read(path)
        name = path.stem
        specimen = "pt-ceo2" if name.startswith("pt-ceo2") else "other"
        group = content["record"].get("group") or specimen
        group = group if group in ("own", "bright", "crystals") else specimen
        if not groups or group in groups:
            yield name, group, content["image"], float(content["sampling_angstrom"])


def cropped(frame: Frame, side: int) -> Frame:
    """The middle of a frame, `side` px wide; all of one that is not as large."""
    name, group, clean, sampling = frame
    y, x = (max(0, (n - side) // 2) for n in clean.shape)
    return name, group, clean[y : y + side, x : x + side], sampling


def rows_of(
    frame: Frame, number: int, noise: Any, denoiser: Denoiser, factors: Sequence[float] = FACTORS
) -> Iterator[Row]:
    """A row for each factor."""
    name, group, clean, sampling = frame
    noisy = noise.apply(clean, number).astype(np.float32)
    for factor in factors:
        given = sampling * factor
        row = {"frame": name, "group": group, "noise": str(noise), "factor": factor}
        try:
            # Which of the generators denoises the frame does not matter: all are tried.
            recording = denoiser.possible((noisy.shape[0], noisy.shape[1]), given)[0]
            size = recording.find_pixel_size(noisy, given)
        except GdnError as error:
            yield row | {"refused": str(error)}
            continue
        relative = None if size.best is None else round(size.best / sampling, 4)
        yield row | {"model": size.model, "best": relative} | size.record()


def outcome(row: Row) -> str:
    """`right` or `wrong` size named as far better; `none` named."""
    if not row.get("contradicts"):
        return "none"
    return "right" if abs(row["best"] - 1) <= NEAR else "wrong"


def table(rows: list[Row]) -> str:
    """Per cent of frames for which the right size was named, another one, and none; for each group
    and noise, with the true size given and with wrong ones."""
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        given = "right" if row["factor"] == 1 else f"{row['factor']:g}"
        cells[row["group"], row["noise"], given].append(outcome(row))
        if given != "right":
            cells[row["group"], row["noise"], "all wrong ones"].append(outcome(row))
    factors = sorted({row["factor"] for row in rows} - {1.0})
    order = ["right", *(f"{factor:g}" for factor in factors)]
    lines = [
        "| frames | noise | factor | n | right size named | another size named | none named |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    keys = sorted({key[:2] for key in cells})
    for group, noise in keys:
        for given in (*order, "all wrong ones"):
            said = cells.get((group, noise, given), [])
            if said:
                shares = (f"{said.count(w) / len(said):.0%}" for w in ("right", "wrong", "none"))
                lines.append(
                    f"| {group} | {noise} | {given} | {len(said)} | {' | '.join(shares)} |"
                )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--frames", type=Path, help="folder of near.py or far.py")
    source.add_argument("--data", type=Path, help="data set of the test structures")
    source.add_argument("--table", type=Path, metavar="ROWS", help="print the table of these rows")
    parser.add_argument("--groups", default="", help="of a folder's frames, with commas")
    parser.add_argument("--only", default="", help="names of a folder's frames, with commas")
    parser.add_argument("--count", type=int, default=20, help="test structures")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--side", type=int, default=4096, help="px of the frames' middle, at most")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--model", default=AUTO)
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="rows are appended")
    options = parser.parse_args()
    if options.table:
        text = options.table.read_text(encoding="utf-8")
        print(table([json.loads(line) for line in text.splitlines()]))
        return 0
    frames = (
        list(stored_frames(options.frames, [g for g in options.groups.split(",") if g]))
        if options.frames
        else [
            (frame.file, "test", frame.image, frame.sampling_angstrom)
            for frame in clean_frames(options.data, options.count)
        ]
    )
    if options.only:
        frames = [frame for frame in frames if frame[0] in options.only.split(",")]
    rows = []
    with Denoiser(options.model, threads=1) as denoiser:
        for noise in parse_suite(options.noise):
            for number, frame in enumerate(frames):
                frame = cropped(frame, options.side)
                new = list(rows_of(frame, number, noise, denoiser, options.factors))
                rows += new
                if options.rows:
                    with options.rows.open("a", encoding="utf-8") as stream:
                        stream.writelines(json.dumps(row) + "\n" for row in new)
                print(frame[0], noise, *(outcome(row) for row in new), flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

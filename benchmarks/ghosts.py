"""Ghosts: what a result shows where there is nothing.

Of each frame, denoised as a user would: the rms error of the vacuum, in per cent of the vacuum
level, farther than 3 Å from any atom; the columns that are called present farther than that; and
the PSNR. Frames are those of `near.py` or `far.py` whose atoms' places are known. `--compare
BEFORE AFTER` prints a table of two runs, frame by frame paired.

    python benchmarks/near.py -o near
    python benchmarks/ghosts.py --frames near --groups own,bright --rows rows.jsonl
    python benchmarks/ghosts.py --frames near --groups bright --model pt-ceo2-128 --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import far
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, parse_suite
from gdn.models import AUTO

APART = 3.0  # Å: farther from every atom there is nothing
LEAST = 0.01  # of a frame: less vacuum is not measured
Row = dict[str, Any]


def frames_of(folder: Path, groups: list[str]) -> Iterator[dict[str, Any]]:
    """What is known of the frames of `groups` (none: all) whose atoms' places are known."""
    for path in sorted(folder.glob("*.npz")):
        content = far.read(path)
        places = content.get("atoms", content["columns"])
        if len(places) and (not groups or content["record"]["group"] in groups):
            yield content | {"atoms": places, "name": path.stem}


def vacuum_of(
    shape: tuple[int, int], places: NDArray[np.floating], sampling: float
) -> NDArray[np.bool_]:
    """Pixels of a frame of `shape` that are farther than APART from all `places` (n, 2), x and y in
    pixels, those beyond the frame's edge too."""
    margin = int(np.ceil(APART / sampling)) + 1
    free = np.ones((shape[0] + 2 * margin, shape[1] + 2 * margin), bool)
    at = np.rint(places[:, ::-1]).astype(int) + margin
    at = at[((at >= 0) & (at < free.shape)).all(1)]
    free[at[:, 0], at[:, 1]] = False
    distance = distance_transform_edt(free) * sampling
    return np.asarray(distance[margin:-margin, margin:-margin] > APART)


def row_of(frame: dict[str, Any], noise: Any, denoiser: Denoiser) -> Row:
    """Denoise and measure one frame."""
    clean, sampling, record = frame["image"], frame["sampling_angstrom"], frame["record"]
    noisy = noise.apply(clean, int(record["number"])).astype(np.float32)
    result = denoiser.denoise(noisy, sampling)
    free = vacuum_of(clean.shape, frame["atoms"], sampling)
    error = 100 * (result.image - clean)[free] / STUDY_VACUUM
    table = result.columns
    assert isinstance(table, list)
    present = np.array(
        [
            (c["x_px"], c["y_px"])
            for c in table
            if isinstance(c, dict) and c["verdict"] == "present" and c["in_image"]
        ]
    ).reshape(-1, 2)
    away = cKDTree(frame["atoms"]).query(present)[0] * sampling > APART
    measured = free.mean() >= LEAST
    return {
        "frame": frame["name"],
        "group": record["group"],
        "noise": str(noise),
        "vacuum_share": round(float(free.mean()), 4),
        "vacuum_rms_percent": round(float(np.sqrt((error**2).mean())), 4) if measured else None,
        "ghosts": int(away.sum()),
        "present": len(present),
        "psnr_db": round(psnr(clean, result.image), 4),
        "p": result.explained_p,
    }


def table(rows: list[Row]) -> str:
    """For each group and model: mean and worst error of the vacuum, ghosts, and mean PSNR."""
    lines = [
        "| frames | model | noise | n | vacuum rms %: mean, worst | columns in the vacuum (in "
        "frames) | of columns present | PSNR dB |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for group, model, noise in sorted({(r["group"], r["model"], r["noise"]) for r in rows}):
        some = [r for r in rows if (r["group"], r["model"], r["noise"]) == (group, model, noise)]
        errors = [r["vacuum_rms_percent"] for r in some if r["vacuum_rms_percent"] is not None]
        ghosts = [r["ghosts"] for r in some]
        lines.append(
            f"| {group} | {model} | {noise} | {len(some)} | {np.mean(errors):.2f}, "
            f"{max(errors):.2f} | {sum(ghosts)} ({sum(g > 0 for g in ghosts)}) | "
            f"{sum(r['present'] for r in some)} | {np.mean([r['psnr_db'] for r in some]):.2f} |"
        )
    return "\n".join(lines)


def comparison(before: list[Row], after: list[Row]) -> str:
    """The error of the vacuum in either run, and the change of each frame's PSNR, for each group
    and model."""
    names = ("frame", "model", "noise")
    old = {tuple(r[n] for n in names): r for r in before}
    pairs = [(old[key], r) for r in after if (key := tuple(r[n] for n in names)) in old]
    lines = [
        "| frames | model | noise | n | vacuum rms % before: mean, worst | after: mean, worst | "
        "change of PSNR, dB: mean, worst, best |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for kind in sorted({(r["group"], r["model"], r["noise"]) for _, r in pairs}):
        some = [(a, b) for a, b in pairs if (b["group"], b["model"], b["noise"]) == kind]
        measured = [(a, b) for a, b in some if None not in (rms(a), rms(b))]
        change = [b["psnr_db"] - a["psnr_db"] for a, b in some]
        cells = [
            f"{np.mean(errors):.2f}, {max(errors):.2f}"
            for errors in ([rms(pair[k]) for pair in measured] for k in (0, 1))
        ]
        lines.append(
            f"| {' | '.join(kind)} | {len(some)} | {' | '.join(cells)} | "
            f"{np.mean(change):+.3f}, {min(change):+.3f}, {max(change):+.3f} |"
        )
    return "\n".join(lines)


def rms(row: Row) -> Any:
    """Error of a frame's vacuum, if it has enough of it."""
    return row["vacuum_rms_percent"]


def rows_of(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, help="folder of near.py or far.py")
    parser.add_argument("--groups", default="", help="of its frames, with commas")
    parser.add_argument("--only", default="", help="names of frames, with commas")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--model", default=AUTO)
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="rows are appended")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args()
    if options.compare:
        print(comparison(*map(rows_of, options.compare)))
        return 0
    if options.frames is None:
        parser.error("give --frames or --compare")
    groups, only = ([n for n in text.split(",") if n] for text in (options.groups, options.only))
    rows = []
    with Denoiser(options.model, threads=1, score=False, atoms=True) as denoiser:
        for noise in parse_suite(options.noise):
            for frame in frames_of(options.frames, groups):
                if only and frame["name"] not in only:
                    continue
                rows.append(row_of(frame, noise, denoiser) | {"model": options.model})
                if options.rows:
                    with options.rows.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(rows[-1]) + "\n")
                print(*rows[-1].values(), flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

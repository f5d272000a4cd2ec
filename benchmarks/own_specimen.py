"""A model of one's own specimen beside filters and the shipped models, on frames that it has not
seen (docs/howto/own-specimen.md).

Frames are clean: TIFFs of `gdn simulate --frames` (vacuum 1), or .npz files that far.py wrote. Each
is made noisy with a recorded seed; a line of JSON for each frame and method is appended to
`--rows`, and what is there is not done again. A method is a comparator of `gdn evaluate`, or
NAME=MODELS for gdn with `--model MODELS`. `--picture` shows the frames that
`--show` names, with all methods.

    python benchmarks/own_specimen.py sto/frames-sto/test_*.tif --rows rows.jsonl \\
        --methods constant,blur,bm3d-binned,auto=auto,own=models/sto+restore
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import far
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gdn import Denoiser
from gdn.evaluation.comparators import COMPARATORS, Case
from gdn.evaluation.evaluate import CleanFrame
from gdn.evaluation.metrics import column_score, psnr, ssim
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise, parse_suite
from gdn.frames.formats import read_frames
from gdn.pipeline.scale_bar import with_scale_bar

Row = dict[str, Any]
Array = NDArray[np.float32]

METHODS = "constant,blur,bm3d-binned,auto=auto,own=models/sto+restore"
NAMES = {
    "constant": "constant",
    "blur": "blur",
    "bm3d-binned": "BM3D",
    "auto": "gdn, shipped models",
    "own": "gdn, own model",
    "wide-alone": "gdn, shipped generator alone",
    "own-alone": "gdn, own generator alone",
}
SEED = 0
NOISY = "noisy"
SHOWN = 420  # px of a frame in the picture


def frame_of(path: Path) -> CleanFrame:
    """A clean frame in the study's units."""
    if path.suffix == ".npz":
        content = far.read(path)
        sampling = float(content["sampling_angstrom"])
        return CleanFrame(path.name, 0, content["image"], sampling)
    file = read_frames(path)
    image = file.read(0, whole=True) * np.float32(STUDY_VACUUM)
    return CleanFrame(path.name, 0, image, file.sampling(None))


def run(frame: CleanFrame, noise: Noise, method: str, restarts: int) -> tuple[Row, Array]:
    """The row of one method, and its image. Of gdn also p, and the share of the pixels whose truth
    lies within the spread."""
    name, _, models = method.partition("=")
    clean, sampling = frame.image, frame.sampling_angstrom
    noisy = noise.apply(clean, SEED)
    trust: Row = {}
    started = time.perf_counter()
    if models:
        with Denoiser(models.replace("+", ","), restarts, SEED, threads=1) as denoiser:
            result = denoiser.denoise(noisy, sampling)
        image = result.image
        trust = {"models": models, "p": result.explained_p}
        if result.spread is not None:
            trust["inside"] = float((np.abs(image - clean) <= result.spread).mean())
    else:
        image = COMPARATORS[name](Case(clean, noisy, noise, sampling))
    f1 = column_score(clean, image, sampling).f1
    row = {
        "file": frame.file,
        "noise": str(noise),
        "method": name,
        "psnr_db": round(psnr(clean, image), 3),
        "ssim": round(ssim(clean, image), 4),
        "f1": round(f1, 4) if np.isfinite(f1) else None,
        "seconds": round(time.perf_counter() - started, 2),
        "seed": SEED,
    }
    return row | trust, image


def is_far(row: Row) -> bool:
    """Whether it is of a frame of the far set."""
    return str(row["file"]).endswith(".npz")


def table(rows: Sequence[Row]) -> str:
    """The methods on test structures and on frames of the far set, as Markdown."""
    lines = [
        "| frames | method | n | PSNR dB (sd) | worst | SSIM | column F1 | median p "
        "| inside spread, % |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for words, far_rows in (("own test structures", False), ("far set", True)):
        for name in NAMES:
            some = [r for r in rows if r["method"] == name and is_far(r) == far_rows]
            if not some:
                continue
            db = np.array([r["psnr_db"] for r in some])
            spread = f" ({db.std(ddof=1):.2f})" if len(db) > 1 else ""
            f1 = [r["f1"] for r in some if r["f1"] is not None]
            ssims = np.mean([r["ssim"] for r in some])
            p = [r["p"] for r in some if r.get("p") is not None]
            inside = [r["inside"] for r in some if r.get("inside") is not None]
            lines.append(
                f"| {words} | {NAMES[name]} | {len(some)} | {db.mean():.2f}{spread} "
                f"| {db.min():.2f} | {ssims:.3f} | {f'{np.mean(f1):.2f}' if f1 else '-'} "
                f"| {f'{np.median(p):.2g}' if p else '-'} "
                f"| {f'{100 * np.mean(inside):.0f}' if inside else '-'} |"
            )
    return "\n".join(lines)


def picture(shown: Sequence[tuple[CleanFrame, dict[str, Array]]]) -> Image.Image:
    """Frames from above to below, with noisy and clean at the sides of the methods. Each row has
    the gray range of its clean frame, and a scale bar in its noisy one."""
    rows = []
    for frame, images in shown:
        low, high = np.percentile(frame.image, (0.5, 99.5))
        cells = []
        for name, image in images.items():
            gray = np.clip((image[:SHOWN, :SHOWN] - low) / max(high - low, 1e-6), 0, 1)
            cell = Image.fromarray((255 * gray).astype(np.uint8))
            if name == NOISY:
                cell = with_scale_bar(cell, frame.sampling_angstrom)
            draw = ImageDraw.Draw(cell)
            draw.rectangle((0, 0, SHOWN, 20), fill=0)
            draw.text((6, 4), name, fill=255)
            cells.append(np.asarray(cell))
        rows.append(np.concatenate(cells, 1))
    return Image.fromarray(np.concatenate(rows, 0))


def measure(options: argparse.Namespace) -> None:
    """Do what is missing, frame by frame."""
    (noise,) = parse_suite(options.noise)
    known = options.rows.read_text().splitlines() if options.rows.exists() else []
    done = {(r["file"], r["method"], r["noise"]) for r in map(json.loads, known)}
    shown = []
    for path in options.frames:
        frame = frame_of(path)
        wanted = path.name in options.show
        images: dict[str, Array] = {NOISY: noise.apply(frame.image, SEED)}
        for method in options.methods.split(","):
            name = method.partition("=")[0]
            key = (frame.file, name, str(noise))
            if key in done and not (wanted and options.picture):
                continue
            row, images[NAMES.get(name, name)] = run(frame, noise, method, options.restarts)
            if key not in done:
                with options.rows.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
            print(frame.file, name, row["psnr_db"], flush=True)
        if wanted:
            shown.append((frame, images | {"clean": frame.image}))
    if options.picture and shown:
        picture(shown).save(options.picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs="+")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument("--show", nargs="*", default=[], help="names of the frames in it")
    options = parser.parse_args()
    measure(options)
    print(table([json.loads(line) for line in options.rows.read_text().splitlines()]))


if __name__ == "__main__":
    main()

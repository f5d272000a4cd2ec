"""Frames of a camera that spreads each electron over several pixels: the PSNR of gdn against the
width of the spread.

The counts of frames of `kin.py`, which are for choosing settings, are convolved with a Gaussian of
so many pixels, noise and image alike; the PSNR is that to the clean image convolved likewise.
`before`: the noise law of neighbouring pixels is used for all detail, as gdn did.

    python benchmarks/kin.py -o kin
    python benchmarks/camera.py --frames kin --rows docs/results/camera.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import far
import numpy as np
from rows import Row, printed
from scipy.ndimage import gaussian_filter

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.frames import examined
from gdn.models import AUTO

WIDTHS = (0.0, 0.4, 0.7, 1.0, 1.5)  # px


def rows_of(path: Path, noise: Noise, denoiser: Denoiser, widths: list[float]) -> Iterator[Row]:
    """One frame at every width, before and now."""
    frame = far.read(path)
    clean, sampling = frame["image"], frame["sampling_angstrom"]
    counts = noise.apply(clean, int(frame["record"]["number"]))
    for width in widths:
        noisy, truth = (
            np.asarray(gaussian_filter(image, width) if width else image, dtype=np.float32)
            for image in (counts, clean)
        )
        row: Row = {"frame": path.stem, "group": frame["record"]["group"], "width": width}
        result = denoiser.denoise(noisy, sampling)
        row |= {"psnr_db": psnr(truth, np.asarray(result.image)), "p": result.explained_p}
        if width:
            noisy[0, 0] += np.float32(1e-4)  # another frame: the noise of the last one is kept
            with mock.patch.object(examined, "of_coarse_detail", lambda model, *_: (model, 1.0)):
                before = denoiser.denoise(noisy, sampling)
            row["before_db"] = psnr(truth, np.asarray(before.image))
        yield row


def table(rows: list[Row]) -> str:
    """Markdown: mean and least PSNR, before and now."""
    lines = ["| spread, px | n | before, dB (least) | now, dB (least) |", "|--:|--:|--:|--:|"]
    for width in sorted({row["width"] for row in rows}):
        here = [row for row in rows if row["width"] == width]
        cells = []
        for name in ("before_db", "psnr_db"):
            values = [row[name] for row in here if name in row]
            cells.append(f"{np.mean(values):.2f} ({min(values):.2f})" if values else "-")
        lines.append(f"| {width:g} | {len(here)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder of kin.py")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--widths", type=float, nargs="+", default=WIDTHS)
    parser.add_argument("--only", default="", metavar="NAMES", help="of frames, with commas")
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="written anew")
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    paths = [at for at in sorted(options.frames.glob("*.npz")) if not only or at.stem in only]
    noise = parse_suite(options.noise)[0]
    with Denoiser(AUTO, threads=1) as denoiser:
        made = (row for path in paths for row in rows_of(path, noise, denoiser, options.widths))
        rows = printed(made, options.rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Vacancies, adatoms and dopants planted in fields that a crystal fills: how much of them each
candidate, and the mixture, keeps, and what they invent.

Of a defect the part kept is <x - p, d> / <d, d> within 2 Å of its place: x the result, p the clean
image of the perfect crystal, d that of the planted one less p. 1: all of it is there; 0: the place
looks as if nothing had been planted. Less than a half counts as lost (a vacancy: filled). At peers,
places alike without a defect, the same with the mean d of the defects of that kind: more than a
half is an invented defect. `snr` is how many standard deviations of the counts' noise d is, with
all its pixels: below about 3 nobody can see it.

    python benchmarks/planted.py --rows rows.jsonl [--noise poisson:1] [--pictures folder]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mixing import listening
from mixture_tables import planted_table
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw
from planted_fields import KINDS, RECIPES, Field, Image, Values, make_field
from suite import denoiser_of

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.frames.resampling import unbin
from gdn.models import AUTO
from gdn.search.band_mixture import choose_mixing

DOSES = "poisson:0.1,poisson:1,poisson:10"
AROUND_ANGSTROM = 2.0
HALF = 0.5


def disc(sampling: float) -> NDArray[np.int64]:
    """Offsets (n, 2) px within AROUND_ANGSTROM."""
    reach = int(AROUND_ANGSTROM / sampling) + 1
    offsets = np.indices((2 * reach + 1,) * 2).reshape(2, -1).T - reach
    return np.asarray(offsets[np.hypot(*offsets.T) * sampling <= AROUND_ANGSTROM])


def around(image: Image, places: Values, sampling: float) -> Values:
    """Values (places, n) of the image within 2 Å of each place."""
    at = np.rint(places).astype(int)[:, None] + disc(sampling)
    return np.asarray(image[at[..., 0], at[..., 1]], dtype=np.float64)


def kept_parts(image: Image, field: Field, sampling: float) -> dict[str, Any]:
    """Of each kind: what is kept of every defect, and at how many of how many peers one is
    invented."""
    row: dict[str, Any] = {}
    for kind in KINDS:
        sites, peers = field.sites[kind], field.peers[kind]
        if not len(sites):
            continue
        true = around(field.planted - field.perfect, sites, sampling)
        drawn = around(image - field.perfect, sites, sampling)
        mean = true.mean(0)
        elsewhere = around(image - field.perfect, peers, sampling) @ mean / (mean @ mean)
        row[kind] = {
            "kept": ((drawn * true).sum(1) / (true**2).sum(1)).round(4).tolist(),
            "peers": len(peers),
            "invented": int((elsewhere > HALF).sum()),
            "at_peers": round(float(elsewhere.mean()), 4) if len(peers) else None,
        }
    return row


def signal_to_noise(field: Field, noise: Noise, sampling: float) -> dict[str, list[float]]:
    """Of each defect: the root of the summed squared differences over the variance of the
    counts."""
    strengths = {}
    for kind in KINDS:
        true = around(field.planted - field.perfect, field.sites[kind], sampling)
        level = around(field.perfect, field.sites[kind], sampling)
        power = (noise.level * true**2 / np.maximum(level, 1e-3)).sum(1)
        strengths[kind] = np.sqrt(power).round(2).tolist()
    return strengths


def images_of(
    denoiser: Denoiser, noisy: Image, sampling: float
) -> tuple[dict[str, Image], dict[str, float]]:
    """The candidates' images and the mixture's on the frame's grid, and the candidates' shares."""
    heard: dict[str, Any] = {}
    with listening(heard):
        result = denoiser.for_recording(noisy, sampling).search(noisy, sampling)
    images = {"mixture": result.image}
    noise, area = result.noise, result.grids.area
    for name, image in zip(heard["names"], heard["whole"], strict=True):
        images[name] = noise.units(unbin(image, result.grids) / np.float32(area))
    weights = choose_mixing(
        heard["parts"], heard["first"], heard["names"], heard["choice"], heard["sampling"]
    )
    return images, {name: round(weights.share(name), 4) for name in weights.names}


def measured(
    denoiser: Denoiser, noises: list[Noise], views: int, pictures: Path | None
) -> Iterator[dict[str, Any]]:
    """A row for each field and dose."""
    for view, number in itertools.product(range(views), range(len(RECIPES))):
        field, frame = make_field(number, view), RECIPES[number].frame
        for noise in noises:
            sampling = frame.sampling_angstrom
            noisy = noise.apply(field.planted, 100 * view + number)
            images, shares = images_of(denoiser, noisy, sampling)
            if pictures and not view:
                draw(pictures / f"{frame.name} {noise.level:g}.png", field, images)
            yield {
                "field": frame.name,
                "view": view,
                "mode": frame.mode,
                "noise": str(noise),
                "snr": signal_to_noise(field, noise, sampling),
                "shares": shares,
                "methods": {n: kept_parts(im, field, sampling) for n, im in images.items()},
                "psnr": {n: round(psnr(field.planted, im), 3) for n, im in images.items()},
            }


def draw(path: Path, field: Field, images: dict[str, Image]) -> None:
    """Perfect, planted, and each image, side by side, with rings around the defects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    low, high = np.percentile(field.planted, [0.5, 99.5])
    cells = []
    for image in (field.perfect, field.planted, *images.values()):
        gray = 255 * np.clip((image - low) / (high - low), 0, 1)
        cell = Picture.fromarray(gray.astype(np.uint8)).convert("RGB")
        pen = ImageDraw.Draw(cell)
        for kind, colour in zip(KINDS, ("#d55e00", "#56b4e9", "#009e73"), strict=True):
            for row, column in field.sites[kind]:
                pen.ellipse((column - 20, row - 20, column + 20, row + 20), outline=colour, width=3)
        cells.append(np.asarray(cell.resize((400, 400))))
    Picture.fromarray(np.hstack(cells)).save(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noise", default=DOSES)
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="written anew")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--views", type=int, default=2, help="of each crystal and mode")
    options = parser.parse_args()
    rows, noises = [], parse_suite(options.noise)
    with denoiser_of(AUTO) as denoiser:
        for row in measured(denoiser, noises, options.views, options.pictures):
            rows.append(row)
            print(row["field"], row["noise"], row["shares"], row["psnr"], flush=True)
            if options.rows:
                text = "".join(json.dumps(row) + "\n" for row in rows)
                options.rows.write_text(text, encoding="utf-8")
    print(planted_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

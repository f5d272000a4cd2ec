"""Restarts around the encoder's posterior instead of N(0, I): what N of them buy, on single tiles.

The encoder gives each tile a mean and a width of its latents under each of the eight symmetries.
Restart i of a tile is drawn under symmetry i % 8 around the refined candidate of that symmetry,
with `--width` times the encoder's width; its normal numbers are those of restart i of the bank, so
all tiles share them. Four images of the N draws are compared with the truth: their plain mean;
their mean with weights exp(-objective / 40 nats), as the search weighs its candidates; their mean
with importance weights p(counts | z) p(z) / q(z) (Robert & Casella 2004, sec. 3.3), q being the
density of the tile's draw under its own symmetry; and the search's own estimate without draws.

The tables: PSNR; effective sample size of the importance weights (Kong et al. 1994);
the standard deviation of the draws over the rms error of their mean, and the share of pixels whose
error is within one standard deviation (68 % if it were right and the error normal); time a tile.

    python benchmarks/far.py -o far
    python benchmarks/posterior_restarts.py --data data/pt-ceo2 --far far --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import far
import numpy as np
import torch
from numpy.typing import NDArray
from posterior_tables import table
from suite import clean_frames
from tiles import TileSet, frame_tiles
from torch import Tensor

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.generator.loading import networks_of_model
from gdn.generator.networks import Encoder, Generator
from gdn.likelihood import TileData
from gdn.models import find_model
from gdn.restarts import restart_latents
from gdn.search.all_tiles import candidate_weights
from gdn.search.bank import bank_for
from gdn.search.candidates import Candidates, evaluate, propose, start, turn_tiles
from gdn.search.refine import refine_candidates
from gdn.search.settings import SYMMETRIES, SearchSettings

MODELS = ("pt-ceo2-64", "pt-ceo2-128", "pt-ceo2-wide-128")
LEVELS = (0.1, 1.0, 10.0)
SIZES = (8, 64, 512, 4096)
FAR = ("pt-ceo2-1", "pt-ceo2-5", "pt-ceo2-9", "au-decahedron", "srtio3-110", "mos2-vacancies")
CHUNK = 256  # draws at a time
Row = dict[str, Any]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Networks:
    """A generator and its encoder in torch, for the width of the posterior."""

    generator: Generator
    encoder: Encoder

    def width(self, turned: TileData, dose: float) -> Tensor:
        """Standard deviation (n, d) of the latents before the flow."""
        images = np.where(turned.weights > 0, turned.counts / np.float32(dose), np.float32(1))
        sigma = np.full(len(images), turned.law.deviation(dose) / dose, np.float32)
        scale = self.generator.network.intensity_scale
        with torch.no_grad():
            seen = (torch.from_numpy(images) - 1)[:, None] / scale
            log_variance: Tensor = self.encoder(seen, torch.from_numpy(sigma) / scale)[1]
        return torch.exp(0.5 * log_variance)


class Sums:
    """Weighted mean of images that come in parts, with log weights of any size."""

    def __init__(self) -> None:
        self.top, self.total, self.mean, self.square = -np.inf, 0.0, np.zeros(1), np.zeros(1)
        self.squares = 0.0  # of the weights

    def add(self, images: NDArray[np.float32], log_weight: Values) -> None:
        """Add images (n, h, w) with their log weights (n,)."""
        top = max(self.top, float(log_weight.max()))
        old = float(np.exp(self.top - top))
        weight = np.exp(log_weight - top)
        total = self.total * old + float(weight.sum())
        kept = self.total * old / total
        self.mean = kept * self.mean + np.tensordot(weight, images, 1) / total
        self.square = (
            kept * self.square + np.tensordot(weight, images.astype(float) ** 2, 1) / total
        )
        self.squares = self.squares * old**2 + float((weight**2).sum())
        self.top, self.total = top, total

    @property
    def effective(self) -> float:
        """Effective sample size."""
        return self.total**2 / self.squares

    @property
    def deviation(self) -> Values:
        """Standard deviation of the images (h, w)."""
        return np.asarray(np.sqrt(np.maximum(self.square - self.mean**2, 0)))


def refined(engine: Engine, tiles: TileSet) -> tuple[Candidates, Candidates, TileData]:
    """The eight guesses of the encoder for a tile, the refined candidates in the order of their
    symmetries, and the tile turned for each."""
    settings = SearchSettings(brief_candidates=0)
    guesses = propose(engine, bank_for(engine, 0, 1), tiles.data, tiles.dose, settings)
    best = refine_candidates(engine, tiles.data, guesses, settings)
    turned = turn_tiles(tiles.data, guesses.tile, guesses.symmetry)
    return guesses, best.take(np.argsort(best.symmetry)), turned


def draws(
    engine: Engine, networks: Networks, tiles: TileSet, numbers: range, width: float
) -> Iterator[tuple[Candidates, Values]]:
    """The draws `numbers` of a tile in parts, evaluated, with log q of each up to a constant."""
    _, best, turned = refined(engine, tiles)
    with torch.no_grad():
        centre = networks.generator.to_latents(torch.from_numpy(best.z))
    spread = width * networks.width(turned, tiles.dose)
    log_volume = torch.log(spread).sum(1)
    for first in range(numbers.start, numbers.stop, CHUNK):
        index = np.arange(first, min(first + CHUNK, numbers.stop))
        normal = torch.from_numpy(restart_latents(0, index, centre.shape[1]))
        symmetry = index % SYMMETRIES
        with torch.no_grad():
            z, log_determinant = networks.generator.to_normal(
                centre[symmetry] + spread[symmetry] * normal
            )
        log_q = -0.5 * (normal.double() ** 2).sum(1) - log_volume[symmetry] - log_determinant
        zeros = np.zeros(len(index), np.int64)
        begun = start(z.numpy(), zeros, symmetry, tiles.dose, zeros > 0)
        begun = replace(begun, nuisance=best.nuisance[symmetry])
        yield evaluate(engine, tiles.data, begun), log_q.numpy().astype(np.float64)


def weighted(candidates: Candidates) -> NDArray[np.float32]:
    """The image (1, h, w) that the search makes of a tile's candidates."""
    weight = candidate_weights(candidates.objective, candidates.tile, SearchSettings().temperature)
    return np.tensordot(weight, candidates.mean, 1)[None].astype(np.float32)


def measure(
    engine: Engine, networks: Networks, tiles: TileSet, sizes: tuple[int, ...], width: float
) -> Iterator[Row]:
    """A row for the search without draws, and one for each N of `sizes`."""
    started = time.perf_counter()
    guesses, best, _ = refined(engine, tiles)
    seconds = time.perf_counter() - started
    plain = {"guesses": weighted(guesses), "search": weighted(best)}
    before = {name: float(tiles.psnr(image)[0]) for name, image in plain.items()}
    yield {"n": 0, "seconds": seconds, **before}
    temperature = SearchSettings().temperature
    sums = {name: Sums() for name in ("mean", "weighted", "importance")}
    done, seconds = 0, 0.0
    for size in sizes:
        started = time.perf_counter()
        for part, log_q in draws(engine, networks, tiles, range(done, size), width):
            sums["mean"].add(part.mean, np.zeros(len(part.objective)))
            sums["weighted"].add(part.mean, -part.objective / temperature)
            sums["importance"].add(part.mean, -part.objective - log_q)
        seconds, done = seconds + time.perf_counter() - started, size
        shown = {k: float(tiles.psnr(s.mean[None].astype(np.float32))[0]) for k, s in sums.items()}
        error = np.abs(sums["mean"].mean - tiles.clean[0])
        deviation = sums["mean"].deviation
        yield {
            "n": size,
            "seconds": seconds,
            "effective": sums["importance"].effective,
            "ratio": float(np.sqrt((deviation**2).mean() / (error**2).mean())),
            "within": float((error < deviation).mean()),
            **before,
            **shown,
        }


def test_cases(
    data: Path, far_folder: Path, frames: int, names: str
) -> Iterator[tuple[str, str, Any, float]]:
    """Group, name, clean image and pixel size of the frames."""
    for frame in clean_frames(data, frames, "test"):
        yield "test", frame.file, frame.image, frame.sampling_angstrom
    for name in filter(None, names.split(",")):
        content = far.read(far_folder / f"{name}.npz")
        yield "far", name, content["image"], float(content["sampling_angstrom"])


def busiest(tiles: TileSet) -> TileSet:
    """The tile of most contrast alone."""
    index = np.array([int(np.argmax(tiles.clean.var((1, 2))))])
    return TileSet(tiles.data.take(index), tiles.clean[index], tiles.dose, tiles.vacuum)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--levels", default=",".join(map(str, LEVELS)))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--width", type=float, default=1.0, help="times the encoder's width")
    parser.add_argument("--frames", type=int, default=4, help="of the test set")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--far", type=Path, default=Path("far"))
    parser.add_argument("--only", default=",".join(FAR), help="frames of the far set")
    parser.add_argument("--rows", type=Path, help="append the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = tuple(int(n) for n in options.sizes.split(","))
    rows: list[Row] = []
    for model in options.models.split(","):
        chosen = find_model(model)
        generator, encoder, _ = networks_of_model(chosen.folder)
        assert encoder is not None
        with open_engine(chosen) as engine:
            networks, card = Networks(generator, encoder), engine.model.card
            for group, name, image, pixel in test_cases(
                options.data, options.far, options.frames, options.only
            ):
                for level in map(float, options.levels.split(",")):
                    seed = [*name.encode(), 0x905]
                    tiles = busiest(
                        frame_tiles(image, pixel, seed, level, card.sampling_angstrom, card.patch)
                    )
                    head = {"model": model, "group": group, "frame": name, "level": level}
                    for row in measure(engine, networks, tiles, sizes, options.width):
                        rows.append(head | {"width": options.width} | row)
                        if options.rows:
                            with options.rows.open("a") as stream:
                                stream.write(json.dumps(rows[-1]) + "\n")
    print(table(rows, options.width))


if __name__ == "__main__":
    main()

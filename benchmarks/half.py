"""Does a search in half precision find what one in single precision finds? On whole frames of test
structures: the suite's, or the demo's three.

The model is exported with --fp16 into a temporary folder and runs on the CPU: the bank, the encoder
and all of refinement in half precision. First the ranking of the bank's images on every tile, then
the final images. Needs gdn[train].

    python benchmarks/half.py
    python benchmarks/half.py --data data/pt-ceo2 --frames 20
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from suite import clean_frames

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.evaluation.demo import demo_frames
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import SUITE, Noise, parse_suite
from gdn.generator.loading import networks_of_model
from gdn.likelihood import Array
from gdn.models import DEFAULT_MODEL, find_model, load_model
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.options import Options
from gdn.restarts import restart_latents
from gdn.search.bank import BankPart, bank_scores
from gdn.search.denoise_frame import bin_frame
from gdn.search.tiles import Binned, tile_frame
from gdn.training.export import Trained, export_model

TOP = 10
ON_CPU = Options(engine="onnxruntime", device="cpu", restarts=256)


def image_of(denoiser: Denoiser, noisy: Array, sampling_angstrom: float) -> Array:
    """The generator's image of a frame, with residual and plain filter, no other candidates."""
    recording = denoiser.for_recording(noisy, sampling_angstrom)
    return replace(recording, others=()).search(noisy, sampling_angstrom).image


def bank_of(engine: Engine, count: int) -> BankPart:
    """Images of the first restarts."""
    latents = (
        restart_latents(0, range(i, min(i + 64, count)), engine.model.card.latent)
        for i in range(0, count, 64)
    )
    return BankPart(np.concatenate([engine.generate(z) for z in latents]))


def ranking(
    full: Engine, parts: tuple[BankPart, BankPart], noise: Noise, frames: Sequence[Any]
) -> tuple[int, float, int]:
    """Tiles whose best restart is the same, of the best TOP how many are in both (mean), and
    tiles."""
    same, shared, tiles = 0, 0.0, 0
    patch = full.model.card.patch
    for frame in frames:
        model, grids, counts = bin_frame(
            noise.apply(frame.image, 1), frame.sampling_angstrom, full, None
        )
        tiling = tile_frame((counts.shape[0], counts.shape[1]), patch, patch // 2)
        data = Binned(counts, model.law.of_sum(grids.area)).tiles(
            tiling, np.arange(len(tiling.corners))
        )
        mine, theirs = (
            bank_scores(part, data, float(counts.mean())).argsort(1)[:, :TOP] for part in parts
        )
        same += int((mine[:, 0] == theirs[:, 0]).sum())
        shared += sum(len(set(a) & set(b)) for a, b in zip(mine, theirs, strict=True))
        tiles += len(mine)
    return same, shared / tiles, tiles


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--restarts", type=int, default=1024, help="whose ranking is compared")
    parser.add_argument(
        "--data",
        type=Path,
        help="data set of 'gdn simulate': its test split instead of the demo's frames",
    )
    parser.add_argument("--frames", type=int, default=20, help="of the data set")
    options = parser.parse_args()
    frames: Sequence[Any] = (
        demo_frames() if options.data is None else clean_frames(options.data, options.frames)
    )
    model = find_model(options.model)
    worst = np.inf
    with tempfile.TemporaryDirectory() as folder:
        generator, encoder, recipe = networks_of_model(model.folder)
        export_model(
            generator, encoder, Trained(recipe, {}), Path(folder, model.card.name), fp16=True
        )
        half = load_model(Path(folder, model.card.name))
        with (
            open_engine(model, "onnxruntime", "cpu") as full,
            open_engine(half, "onnxruntime", "cpu") as narrow,
            Denoiser.of([model], ON_CPU) as denoiser,
            Denoiser.of([half], ON_CPU) as half_denoiser,
        ):
            parts = bank_of(full, options.restarts), bank_of(narrow, options.restarts)
            off = np.abs(parts[0].images - parts[1].images).max()
            print(
                f"{model.card.name}: images of half precision are off by at most {off:.2g} of "
                "the vacuum level\n"
            )
            print(
                f"| noise, {len(frames)} frames | best the same | of ten best in both | "
                "images agree to, dB: worst | median",
                end="",
            )
            print(" | PSNR fp32 | fp16 | largest difference |\n|---|--:|--:|--:|--:|--:|--:|--:|")
            for noise in parse_suite(SUITE):
                same, shared, tiles = ranking(full, parts, noise, frames)
                agree, decibels = [], []
                for frame in frames:
                    noisy = noise.apply(frame.image, 1)
                    images = [
                        image_of(each, noisy, frame.sampling_angstrom)
                        for each in (denoiser, half_denoiser)
                    ]
                    agree.append(psnr(images[0], images[1]))
                    decibels.append([psnr(frame.image, image) for image in images])
                worst = min(worst, *agree)
                mean, apart = np.mean(decibels, 0), np.abs(np.diff(decibels)).max()
                row = (
                    f"| {noise} | {same} of {tiles} | {shared:.2f} | {min(agree):.1f} | "
                    f"{np.median(agree):.1f}"
                )
                print(f"{row} | {mean[0]:.2f} | {mean[1]:.2f} | {apart:.3f} |", flush=True)
    print(f"\nworst agreement {worst:.1f} dB (aim: 60)")
    return 0 if worst >= 60 else 1


if __name__ == "__main__":
    raise SystemExit(main())

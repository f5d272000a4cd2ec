"""One row for every generator, whatever its recipe: what it can make, what it makes, what gdn makes
with it.

Test 1: share of its own images recovered to 60 dB by latent search. Test 2: nearest image in its
range to clean tiles of unseen structures, by content and contrast class, imaged as the recipe has
it. Precision, recall and spectrum of random images. The noise suite end to end on whole frames.
Settings are chosen on the validation split; the test split is for the last table.

    python benchmarks/generators.py runs/range pt-ceo2-64 --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from content import CLASSES, KINDS, Tiles, content_tiles
from distribution import likeness
from generator_table import table
from suite import clean_frames
from torch import Tensor

from gdn.engines.torch import TorchEngine
from gdn.evaluation.evaluate import CleanFrame
from gdn.evaluation.metrics import psnr, ssim
from gdn.evaluation.noise_suite import STUDY_VACUUM, parse_suite
from gdn.generator.loading import networks_of_model
from gdn.generator.networks import Encoder, Generator
from gdn.models import MODEL_SCHEMA, Model, ModelCard, find_model, sha256_of, shipped_models
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.recipes import Recipe
from gdn.training.state import networks_of_run

RECOVERED = 60.0  # dB


def to_network(images: np.ndarray, recipe: Recipe) -> Tensor:
    """Vacuum-1 images (n, p, p) in network units, (n, 1, p, p)."""
    return torch.from_numpy((images[:, None] - 1) / np.float32(recipe.network.intensity_scale))


def decibels(images: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    """dB per image in the study's units (vacuum 0.45, range 1)."""
    error = (images - target) * recipe.network.intensity_scale * STUDY_VACUUM
    return -10 * torch.log10((error**2).mean((1, 2, 3)).clamp_min(1e-12))


@torch.no_grad()
def starts(
    generator: Generator, encoder: Encoder | None, target: Tensor, random: int, rng: torch.Generator
) -> Tensor:
    """Latents (n, k, d): the encoder's guess where there is one, and the best `random` of 256
    random ones."""
    pool = generator.to_latents(torch.randn(256, generator.latent, generator=rng))
    images = torch.cat([generator.decode(part) for part in pool.split(32)]).flatten(1)
    apart = torch.cdist(target.flatten(1), images)
    latents = [pool[apart.topk(random, largest=False).indices]] if random else []
    if encoder is not None:
        latents.insert(0, encoder(target, torch.full((len(target),), 1e-3))[0][:, None])
    return torch.cat(latents, 1)


def nearest(
    generator: Generator, target: Tensor, start: Tensor, steps: int, rate: float = 0.05
) -> Tensor:
    """Images (n, 1, p, p) of least squared error that `steps` ramped Adam steps find from `start`
    (n, k, d)."""
    _, k, d = start.shape
    out = []
    for part, wanted in zip(start.split(32), target.split(32), strict=True):
        wanted = wanted.repeat_interleave(k, 0)
        z = part.reshape(-1, d).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=rate, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            optimiser.zero_grad()
            # A root: the step of a latent then does not shrink as its error does.
            (((generator.decode(z) - wanted) ** 2).mean((1, 2, 3)) + 1e-12).sqrt().sum().backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            images = generator.decode(z).view(-1, k, *wanted.shape[1:])
            error = ((images - wanted.view(images.shape)) ** 2).mean((2, 3, 4))
            out.append(images[torch.arange(len(images)), error.argmin(1)])
    return torch.cat(out)


def test_1(
    generator: Generator, encoder: Encoder | None, recipe: Recipe, count: int, steps: int
) -> dict[str, float]:
    """Recovery of the generator's own images."""
    rng = torch.Generator().manual_seed(99)
    with torch.no_grad():
        target = generator(torch.randn(count, generator.latent, generator=rng))
    recovered = decibels(
        nearest(generator, target, starts(generator, encoder, target, 2, rng), steps),
        target,
        recipe,
    )
    return {
        "recovered": float((recovered > RECOVERED).float().mean()),
        "median_db": float(recovered.median()),
    }


def test_2(
    generator: Generator, encoder: Encoder | None, recipe: Recipe, tiles: Tiles, steps: int
) -> dict[str, Any]:
    """Ceiling: all tiles, and by kind of content and contrast class."""
    rng = torch.Generator().manual_seed(98)
    target = to_network(tiles.images, recipe)
    random = 0 if encoder is not None else 4
    images = nearest(generator, target, starts(generator, encoder, target, random, rng), steps)
    db = decibels(images, target, recipe).numpy()
    x = (1 + images[:, 0].numpy() * recipe.network.intensity_scale) * STUDY_VACUUM
    similar = np.array(
        [ssim(c * np.float32(STUDY_VACUUM), i) for c, i in zip(tiles.images, x, strict=True)]
    )

    def part(chosen: np.ndarray) -> dict[str, float]:
        if not chosen.any():
            return {"n": 0}
        low = {
            "psnr_p5": float(np.percentile(db[chosen], 5)),
            "ssim_p5": float(np.percentile(similar[chosen], 5)),
        }
        return {
            "n": int(chosen.sum()),
            "psnr": float(db[chosen].mean()),
            "ssim": float(similar[chosen].mean()),
        } | low

    groups = {k: part(tiles.kind == k) for k in KINDS} | {
        c: part(tiles.contrast == c) for c in CLASSES
    }
    return {"all": part(np.ones(len(db), bool))} | groups


def open_networks(source: str) -> tuple[Generator, Encoder | None, Recipe, dict[str, Any], Model]:
    """Networks of a run folder, a model folder or a shipped model, and a card that the engine can
    work with."""
    path = Path(source)
    if source in shipped_models() or (path / "model.json").is_file():
        model = find_model(source)
        return (*networks_of_model(model.folder), dict(model.card.training), model)
    generator, encoder, recipe, training = networks_of_run(path)
    n = recipe.network
    weights = path / "checkpoint.pt"
    weights = weights if weights.is_file() else path / "weights.safetensors"
    card = ModelCard(
        schema_version=MODEL_SCHEMA,
        name=recipe.name,
        latent=n.latent,
        patch=n.patch,
        sampling_angstrom=n.sampling_angstrom,
        specimen=recipe.specimen.card(),
        recipe=recipe.model_dump(mode="json"),
        training=training,
        files={weights.name: sha256_of(weights)},
    )
    return generator, encoder, recipe, training, Model(path, card)


def end_to_end(
    engine: TorchEngine, frames: list[CleanFrame], noises: str, restarts: int
) -> dict[str, float]:
    """Mean PSNR of gdn's result at every noise."""
    options = Options(restarts=restarts)
    recording = RecordingDenoiser(engine=engine, bank=options.open_bank(engine), options=options)
    scores = {}
    for noise in parse_suite(noises):
        images = [
            recording.search(noise.apply(f.image, i), f.sampling_angstrom).image
            for i, f in enumerate(frames)
        ]
        scores[str(noise)] = float(
            np.mean([psnr(f.image, i) for f, i in zip(frames, images, strict=True)])
        )
    return scores


@torch.no_grad()
def milliseconds(generator: Generator, batch: int = 16) -> float:
    """Of one image, this process's threads, batch of 16, float32; the least of five."""
    z = torch.randn(batch, generator.latent)
    spent = []
    for _ in range(6):
        begun = time.perf_counter()
        generator(z)
        spent.append(time.perf_counter() - begun)
    return 1000 * min(spent[1:]) / batch


def measure(source: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one generator."""
    generator, encoder, recipe, training, model = open_networks(source)
    parameters = sum(p.numel() for p in generator.parameters())
    generator.eval().requires_grad_(False)
    n = recipe.network
    tiles = content_tiles(
        options.data,
        options.split,
        options.tiles,
        n.patch,
        n.sampling_angstrom,
        imaging=recipe.imaging,
    )
    rng = torch.Generator().manual_seed(97)
    with torch.no_grad():
        parts = [
            generator(torch.randn(32, n.latent, generator=rng))
            for _ in range(-(-options.samples // 32))
        ]
    samples = 1 + torch.cat(parts)[: options.samples, 0].numpy() * np.float32(n.intensity_scale)
    alike = content_tiles(
        options.data,
        options.split,
        options.samples,
        n.patch,
        n.sampling_angstrom,
        1,
        recipe.imaging,
    )
    row: dict[str, Any] = {
        "name": Path(source).name,
        "split": options.split,
        "latent": n.latent,
        "patch": n.patch,
        "sampling": n.sampling_angstrom,
        "images": training.get("images"),
        "parameters": parameters,
        "ms_image": milliseconds(generator),
        "test_1": test_1(generator, encoder, recipe, options.targets, 2 * options.steps),
        "test_2": test_2(generator, encoder, recipe, tiles, options.steps),
        "steps": options.steps,
        "likeness": asdict(likeness(samples, alike.images)),
        "statistics": training.get("statistics", {}),
        "recipe": recipe.model_dump(mode="json"),
    }
    if options.frames:
        engine = TorchEngine(model, "cpu", networks=(generator, encoder))
        row["frames"] = options.frames
        row["noise"] = end_to_end(
            engine,
            clean_frames(options.data, options.frames, options.split),
            options.noise,
            options.restarts,
        )
    return row


def record(row: dict[str, Any]) -> None:
    """Write a shipped model's row into its model.json."""
    path = find_model(row["name"]).folder / "model.json"
    content = json.loads(path.read_text())
    content["metrics"]["generator"] = {
        k: v for k, v in row.items() if k not in ("recipe", "statistics")
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", nargs="+", help="run folders, model folders, or names of shipped models"
    )
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--tiles", type=int, default=128, help="clean tiles of Test 2")
    parser.add_argument("--targets", type=int, default=16, help="own images of Test 1")
    parser.add_argument(
        "--samples", type=int, default=256, help="random images of precision and recall"
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="of Test 2; Test 1 takes twice as many"
    )
    parser.add_argument(
        "--frames", type=int, default=3, help="whole frames of the noise suite; 0: none"
    )
    parser.add_argument("--noise", default="poisson:1,poisson:10")
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=Path, help="JSON lines; rows of the same names are replaced")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the rows of shipped models into their model.json",
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [measure(source, options) for source in options.sources]
    print(table(rows))
    for row in rows if options.record else []:
        record(row)
    if options.rows:
        old = (
            [json.loads(line) for line in options.rows.read_text().splitlines()]
            if options.rows.exists()
            else []
        )
        names = {r["name"] for r in rows}
        options.rows.write_text(
            "".join(
                json.dumps(r) + "\n" for r in [*(r for r in old if r["name"] not in names), *rows]
            )
        )


if __name__ == "__main__":
    main()

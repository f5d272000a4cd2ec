"""What a generator can do against the patches that it has seen, for each class of contrast and
specimen: the snapshots of one run, or models of one recipe, on the same validation frames.

On clean tiles out of the frames of `near.py`: Test 2 (nearest image in the generator's range) and
the encoder alone, clean and at the study's dose. On the frames themselves, noisy: `gdn denoise`
with this generator and no other. All in dB of the study's units, the mean over the frames of a
class.

    python benchmarks/near.py -o near
    python benchmarks/learning_curve.py MODEL RUN/snapshots/20000 RUN/snapshots/40000 \\
        --frames near --rows curve.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import far
import numpy as np
import torch
from generators import decibels, nearest, open_networks, starts, to_network
from learning_tables import curve_table
from near import crystal_spectra, cut
from numpy.typing import NDArray

from gdn.engines.torch import TorchEngine
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, parse_suite
from gdn.frames.resampling import bin_sum, grids_for
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.recipes import Recipe, load_recipe
from gdn.simulation.conditions import Draws
from gdn.simulation.specimens import random_specimen
from gdn.training.held_out_status import STUDY_DOSE_PER_A2

MOST_CONTRAST = load_recipe("crystals-128").imaging.most_contrast
SKEWNESS = 0.3  # of a frame's pixels; beyond it the columns are called bright or dark


@dataclass(frozen=True, kw_only=True)
class ValidationFrame:
    """A clean frame (H, W), vacuum 0.45, its pixel in Å and its class."""

    name: str
    image: NDArray[np.float32]
    sampling_angstrom: float
    group: str
    record: dict[str, Any]

    def middle(self, side: int) -> NDArray[np.float32]:
        """Its middle, of at most `side` pixels."""
        y, x = ((n - min(n, side)) // 2 for n in self.image.shape)
        return np.ascontiguousarray(self.image[y : y + side, x : x + side])


def group_of(record: dict[str, Any], image: NDArray[np.float32]) -> str:
    """Specimen and contrast: columns of Pt/CeO2 are known, those of other crystals go by the
    skewness of their pixels, and the modes of a STEM have a contrast each."""
    if record["group"] != "crystals":
        return f"Pt/CeO2, {'bright' if record['group'] == 'bright' else 'dark'}"
    if record["mode"] != "HRTEM":
        return f"other, {record['mode']}"
    apart = image - image.mean()
    skewness = float((apart**3).mean() / (apart**2).mean() ** 1.5)
    kind = "bright" if skewness > SKEWNESS else "dark" if skewness < -SKEWNESS else "neither"
    return f"other, {kind}"


def frames_of(folder: Path) -> list[ValidationFrame]:
    """The frames of `near.py` in `folder`."""
    frames = []
    for path in sorted(folder.glob("*.npz")):
        content = far.read(path)
        record, image = content["record"], content["image"]
        frames.append(
            ValidationFrame(
                name=path.stem,
                image=image,
                sampling_angstrom=float(content["sampling_angstrom"]),
                group=group_of(record, image),
                record=record,
            )
        )
    return frames


def clean_tile(frame: ValidationFrame, recipe: Recipe) -> NDArray[np.float32]:
    """The frame's scene (1, p, p) in the generator's field and pixel, vacuum 1 (any crystal: mean
    1). The frames of crystals are smaller than that: their scene is imaged again, by its seed."""
    patch, pixel = recipe.network.patch, recipe.network.sampling_angstrom
    if frame.record["group"] == "crystals":
        seed = frame.record["seed"]
        draws = Draws.seeded(seed, "cpu")
        structure = random_specimen(seed)
        spectra = crystal_spectra(structure, frame.record["energy_ev"], frame.record["mode"], draws)
        image, _ = cut(spectra, pixel, patch, draws)
        apart = image / image.mean() - 1
        # As the recipe crystals-128 does with patches of too much contrast, for every generator.
        return np.asarray(1 + apart[None] * np.float32(min(1, MOST_CONTRAST / np.abs(apart).max())))
    grids = grids_for(frame.image.shape, frame.sampling_angstrom, pixel)
    binned = bin_sum(frame.image, grids) / np.float32(grids.area * STUDY_VACUUM)
    y, x = ((n - patch) // 2 for n in binned.shape)
    return np.asarray(binned[None, y : y + patch, x : x + patch])


@torch.no_grad()
def encoded(
    networks: Any, target: torch.Tensor, recipe: Recipe, dose: float | None
) -> torch.Tensor:
    """Images of the encoder's guess for `target` (n, 1, p, p), clean or at `dose` electrons a
    pixel."""
    generator, encoder = networks
    scale = recipe.network.intensity_scale
    if dose is None:
        seen, sigma = target, torch.full((len(target),), 1e-3)
    else:
        rng = torch.Generator().manual_seed(96)
        counts = torch.poisson(dose * (1 + target * scale).clamp_min(0), generator=rng)
        seen, sigma = (
            (counts / dose - 1) / scale,
            torch.full((len(target),), dose**-0.5 / scale),
        )
    return torch.cat(
        [
            generator.decode(encoder(part, width)[0])
            for part, width in zip(seen.split(32), sigma.split(32), strict=True)
        ]
    )


def of_tiles(
    networks: Any, recipe: Recipe, frames: list[ValidationFrame], steps: int
) -> dict[str, dict[str, list[float]]]:
    """Decibels of every tile by measure and class."""
    groups = [f.group for f in frames]
    target = to_network(np.concatenate([clean_tile(f, recipe) for f in frames]), recipe)
    dose = STUDY_DOSE_PER_A2 * recipe.network.sampling_angstrom**2
    generator, encoder = networks
    start = starts(generator, encoder, target, 0, torch.Generator().manual_seed(98))
    images = {
        "Test 2": nearest(generator, target, start, steps),
        "encoder, clean": encoded(networks, target, recipe, None),
        "encoder, study's dose": encoded(networks, target, recipe, dose),
    }
    return {
        name: by_group(groups, decibels(made, target, recipe).tolist())
        for name, made in images.items()
    }


def by_group(groups: Any, values: list[float]) -> dict[str, list[float]]:
    """Values of each class."""
    parts: dict[str, list[float]] = defaultdict(list)
    for group, value in zip(groups, values, strict=True):
        parts[str(group)].append(round(float(value), 3))
    return dict(parts)


def measure(source: str, options: argparse.Namespace) -> dict[str, Any]:
    """One point of the curve."""
    generator, encoder, recipe, training, model = open_networks(source)
    generator.eval().requires_grad_(False)
    if encoder is None:
        raise SystemExit(f"{source}: has no encoder")
    encoder.eval()
    frames = frames_of(options.frames)
    row: dict[str, Any] = {
        "name": options.names.get(source, Path(source).name),
        "patches": options.patches.get(source, training.get("images")),
        "recipe": recipe.name,
        "steps": options.steps,
        "db": of_tiles((generator, encoder), recipe, frames, options.steps),
    }
    engine = TorchEngine(model, "cpu", networks=(generator, encoder))
    settings = Options(restarts=options.restarts)
    bank = settings.open_bank(engine)
    recording = RecordingDenoiser(engine=engine, bank=bank, options=settings)
    for noise in parse_suite(options.noise):
        values = [
            psnr(clean, recording.search(noise.apply(clean, i), f.sampling_angstrom).image)
            for i, f in enumerate(frames)
            for clean in [f.middle(options.side)]
        ]
        row["db"][str(noise)] = by_group([f.group for f in frames], values)
        print(row["name"], noise, f"{np.mean(values):.2f}", flush=True)
    return row


def pairs(values: list[str]) -> dict[str, str]:
    """SOURCE=TEXT words as a table."""
    return dict(value.rsplit("=", 1) for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", help="models, or folders of a run or a sitting")
    parser.add_argument("--frames", type=Path, help="folder of near.py")
    parser.add_argument("--side", type=int, default=400, help="pixels of a frame, at most")
    parser.add_argument("--steps", type=int, default=60, help="of Test 2")
    parser.add_argument("--noise", default="poisson:1,poisson:10,gaussian:0.5")
    parser.add_argument("--restarts", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--names", nargs="*", default=[], metavar="SOURCE=NAME")
    parser.add_argument("--patches", nargs="*", default=[], metavar="SOURCE=PATCHES")
    parser.add_argument("--rows", type=Path, help="JSON lines; rows of the same names are replaced")
    options = parser.parse_args()
    options.names = pairs(options.names)
    options.patches = {k: int(v) for k, v in pairs(options.patches).items()}
    if options.threads:
        torch.set_num_threads(options.threads)
    kept: list[dict[str, Any]] = []
    if options.rows and options.rows.exists():
        kept = [json.loads(line) for line in options.rows.read_text().splitlines()]
    for source in options.sources:
        row = measure(source, options)
        kept = [r for r in kept if r["name"] != row["name"]] + [row]
        if options.rows:
            options.rows.write_text("".join(json.dumps(r) + "\n" for r in kept))
    print(curve_table(kept))


if __name__ == "__main__":
    main()

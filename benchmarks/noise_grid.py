"""The noise estimate against truth: gain, offset and dose of Poisson-Gaussian frames, nothing
given.

    python benchmarks/noise_grid.py

Frames: y = gain * Poisson(dose x) + N(offset, (gain * read)^2), x a clean validation frame with
vacuum 1, 850x850 px. For every dose, over the grid of gains and offsets: median and largest errors.
`law` is the error of the variance at the frame's mean, `slope` that of its slope: what the
likelihood uses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from suite import clean_frames

from gdn.evaluation.noise_suite import STUDY_VACUUM
from gdn.frames.noise import noise_of

GAINS = (0.1, 1.0, 10.0, 100.0)
OFFSETS = (0.0, 10.0, 100.0, 1000.0)
DOSES = (0.05, 0.45, 5.0, 50.0, 1000.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--read", type=float, nargs="*", default=(0.0, 0.5), help="read noise in electrons"
    )
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    options = parser.parse_args()
    clean = [
        f.image / np.float32(STUDY_VACUUM)
        for f in clean_frames(options.data, options.frames, "validation")
    ]
    print(
        "| read noise e | dose e/px | n | gain error | dose error | offset error, e "
        "| variance law | slope | models found |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for read in options.read:
        for dose in DOSES:
            row(clean, read, dose)


def row(clean: list[np.ndarray], read: float, dose: float) -> None:
    errors: dict[str, list[float]] = {
        name: [] for name in ("gain", "dose", "offset", "law", "slope")
    }
    kinds: dict[str, int] = {}
    for number, image in enumerate(clean):
        for gain in GAINS:
            for offset in OFFSETS:
                rng = np.random.default_rng(
                    [number, int(10 * gain), int(offset), int(100 * dose), int(10 * read)]
                )
                frame = gain * rng.poisson(dose * image) + rng.normal(
                    offset, gain * read, image.shape
                )
                model = noise_of(frame.astype(np.float32), None)
                kinds[model.kind] = kinds.get(model.kind, 0) + 1
                mean = frame.mean()
                truth = gain * (mean - offset) + (gain * read) ** 2
                law = model.law.alpha * model.gain * (mean - model.offset) + model.read_noise**2
                errors["law"].append(abs(law / truth - 1))
                errors["slope"].append(abs(model.law.alpha * model.gain / gain - 1))
                if model.kind != "gaussian":
                    errors["gain"].append(abs(model.gain / gain - 1))
                    electrons = (mean - model.offset) / model.gain
                    errors["dose"].append(abs(electrons / (dose * image.mean()) - 1))
                    errors["offset"].append(abs(model.offset - offset) / gain)
    shown = []
    for name, values in errors.items():
        if not values:
            shown.append("-")
        elif name == "offset":
            shown.append(f"{np.median(values):.2g} ({max(values):.2g})")
        else:
            shown.append(f"{np.median(values):.1%} ({max(values):.0%})")
    models = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    print(
        f"| {read:g} | {dose:g} | {len(errors['law'])} | {' | '.join(shown)} | {models} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""How fast frames are simulated, and how they compare with the study's published facts.

python benchmarks/simulation.py --data data/pt-ceo2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from gdn.simulation.exit_waves import ABTEM, TORCH, exit_wave
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, Optics, read_wave, render
from gdn.simulation.simulate import seed_of_path
from gdn.simulation.structures import random_structure, split_of
from gdn.training.patch_cutting import Cut, wave_patches


def rates(paths: list[Path]) -> None:
    """Seconds per exit wave, per rendered frame and per training patch, one process, one thread."""
    structures = [random_structure(10_000 + i) for i in range(13)]
    wave_s = {}
    for way in (TORCH, ABTEM):
        exit_wave(structures[0], multislice=way)  # FFT plans, imports
        started = time.perf_counter()
        for s in structures[1:]:
            exit_wave(s, multislice=way)
        wave_s[way] = (time.perf_counter() - started) / 12
    waves = [read_wave(p) for p in paths[:10]]
    started = time.perf_counter()
    for i, wave in enumerate(waves):
        render(wave, Optics.random(np.random.default_rng(i)), FRAME_SAMPLING, FRAME_SHAPE)
    frame_s = (time.perf_counter() - started) / len(waves)
    started = time.perf_counter()
    for i, path in enumerate(paths[:10]):
        rng = np.random.default_rng(i)
        wave_patches(path, Optics.random(rng), rng, 16, Cut(64, 0.4))
    patch_s = (time.perf_counter() - started) / 160
    total = (950 * wave_s[TORCH] + 20_000 * frame_s) / 2 / 60
    print(f"exit wave {wave_s[TORCH]:.2f} s, by abTEM {wave_s[ABTEM]:.2f} s")
    print(f"frame of 850x850 px {frame_s:.3f} s, training patch of 64x64 px {1e3 * patch_s:.1f} ms")
    print(f"950 structures and 20,000 frames on two cores: {total:.0f} minutes")


def facts(paths: list[Path], views: int) -> None:
    """Contrast and spectrum of rendered frames of the training split."""
    rows = []
    for path in paths:
        wave = read_wave(path)
        if wave.record["structure"]["kind"] == "vacuum":
            continue
        for view in range(views):
            image = render(
                wave,
                Optics.random(np.random.default_rng([seed_of_path(path), view])),
                FRAME_SAMPLING,
                FRAME_SHAPE,
            )
            power = (
                np.abs(np.fft.rfft2((image - image.mean()) * np.outer(*[np.hanning(850)] * 2))) ** 2
            )
            k = np.hypot(
                np.fft.fftfreq(850, FRAME_SAMPLING)[:, None],
                np.fft.rfftfreq(850, FRAME_SAMPLING)[None],
            )
            band = [power[(k > c - 0.05) & (k < c + 0.05)].mean() for c in (0.4, 0.8)]
            rows.append((image.min(), image.max(), image.std(), band[0] / band[1]))
    table = np.array(rows)
    published = ("0.54-0.76", "1.25-1.66", "0.075-0.18", "about 1e3")
    print(f"\n{len(table)} frames of {len(paths)} training structures, vacuum = 1\n")
    print("| | study | here: 10 % | median | 90 % |\n|---|---|--:|--:|--:|")
    for name, said, column in zip(
        ("minimum", "maximum", "standard deviation", "power at 0.4 over 0.8 1/Å"),
        published,
        table.T,
        strict=True,
    ):
        low, middle, high = np.percentile(column, [10, 50, 90])
        print(f"| {name} | {said} | {low:.3g} | {middle:.3g} | {high:.3g} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--structures", type=int, default=60)
    parser.add_argument("--views", type=int, default=2)
    options = parser.parse_args()
    paths = [
        p
        for p in sorted((options.data / "waves").glob("*.npz"))
        if split_of(seed_of_path(p)) == "train"
    ]
    rates(paths)
    facts(paths[: options.structures], options.views)


if __name__ == "__main__":
    main()

"""Seam energy: does the error jump more where tiles begin and end than elsewhere?

    python benchmarks/seams.py

The mean squared step of the error (result minus truth, generator's grid, without the residual)
across the rows and columns on which a tile begins or ends, over that across all others. 1 is
seamless. For comparison, the same search on tiles set side by side without overlap.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from suite import clean_frames

from gdn.engines.choose import open_engine
from gdn.evaluation.metrics import psnr
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import bin_sum, grids_for
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher, SearchSettings
from gdn.search.tiles import tile_frame


def seam_ratio(error: np.ndarray, starts: np.ndarray, patch: int) -> float:
    """Over both axes; `starts` (n, 2) are the tiles' corners."""
    at, elsewhere = [], []
    for axis in (0, 1):
        steps = (np.diff(error, axis=axis) ** 2).mean(1 - axis)
        edges = np.unique(np.concatenate([starts[:, axis], starts[:, axis] + patch])) - 1
        inside = np.zeros(len(steps), bool)
        inside[edges[(edges >= 0) & (edges < len(steps))]] = True
        at.append(steps[inside])
        elsewhere.append(steps[~inside])
    return float(np.concatenate(at).mean() / np.concatenate(elsewhere).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    options = parser.parse_args()
    print("| poisson | tiles | seam energy, mean (largest) | PSNR dB |\n|--:|---|--:|--:|")
    with open_engine(find_model(options.model)) as engine:
        card = engine.model.card
        bank = bank_for(engine, 0, 64)
        for level in (0.1, 1.0, 10.0, 25.0):
            for name, stride in (
                ("overlapping", SearchSettings().stride),
                ("side by side", card.patch),
            ):
                ratios, decibels = [], []
                for number, frame in enumerate(
                    clean_frames(options.data, options.frames, "validation")
                ):
                    counts = (
                        np.random.default_rng(number)
                        .poisson(frame.image * level)
                        .astype(np.float32)
                    )
                    settings = replace(SearchSettings(), stride=stride, residual=False)
                    result = denoise_frame(
                        counts,
                        frame.sampling_angstrom,
                        Searcher(engine=engine, bank=bank, settings=settings),
                        NoiseModel(kind="poisson"),
                    )
                    grids = grids_for(
                        (counts.shape[0], counts.shape[1]),
                        frame.sampling_angstrom,
                        card.sampling_angstrom,
                    )
                    error = bin_sum(result.image - frame.image * np.float32(level), grids)
                    apart = stride or card.patch // 2
                    corners = tile_frame(grids.binned_shape, card.patch, apart).corners
                    ratios.append(seam_ratio(error, corners, card.patch))
                    decibels.append(psnr(result.image / level, frame.image))
                print(
                    f"| {level:g} | {name} | {np.mean(ratios):.2f} ({max(ratios):.2f}) | "
                    f"{np.mean(decibels):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

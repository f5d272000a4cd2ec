"""What restarts buy: objective and PSNR against N, with and without refinement; bank, encoder,
both.

Then what averaging restarts buys: the best candidate against mixtures by objective and by evidence.
On tiles of validation frames; about ten minutes on two cores.

    python benchmarks/restarts.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tiles import TileSet, tile_set

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search.all_tiles import candidate_weights
from gdn.search.bank import Bank, bank_for
from gdn.search.candidates import Candidates, best_of_each, propose
from gdn.search.laplace import laplace
from gdn.search.refine import refine_candidates
from gdn.search.settings import SearchSettings

LEVELS = (0.1, 1.0, 10.0)  # poisson:s of the study


def mixed(candidates: Candidates, weight: np.ndarray) -> np.ndarray:
    """Weighted mean image of each tile's candidates."""
    out = np.zeros((int(candidates.tile.max()) + 1, *candidates.mean.shape[1:]), np.float64)
    np.add.at(out, candidates.tile, weight[:, None, None] * candidates.mean)
    return out.astype(np.float32)


def row(label: str, engine: Engine, bank: Bank, tiles: TileSet, settings: SearchSettings) -> None:
    started = time.perf_counter()
    starts = propose(engine, bank, tiles.data, tiles.dose, settings)
    candidates = refine_candidates(engine, tiles.data, starts, settings)
    seconds = (time.perf_counter() - started) / len(tiles.clean)
    best = best_of_each(candidates)
    single = tiles.psnr(candidates.mean[best])
    mean = tiles.psnr(
        mixed(
            candidates,
            candidate_weights(candidates.objective, candidates.tile, settings.temperature),
        )
    )
    print(
        f"{label:34s} {candidates.objective[best].mean():12.1f} {single.mean():7.2f} "
        f"{single.min():7.2f} {mean.mean():7.2f}"
        f" {mean.min():7.2f} {candidates.from_bank[best].mean():6.0%} {1000 * seconds:8.1f}",
        flush=True,
    )


def curves(engine: Engine, bank: Bank, tiles: TileSet) -> None:
    header = (
        f"{'objective':>12s} {'best dB':>7s} {'worst':>7s} {'mean dB':>7s} "
        f"{'worst':>7s} {'bank':>6s} {'ms/tile':>8s}"
    )
    print(f"{'starts':34s} {header}")
    # Adam's steps: the table counts them.
    base = SearchSettings(brief_candidates=8, iterations=0, brief_steps=3, full_steps=3)
    sizes = [4**k for k in range(9) if 4**k <= len(bank)]
    for n in sizes:
        part = replace(bank, images=bank.images[:n])
        for steps in (0, base.full_steps, 40):
            settings = replace(
                base, encoder=False, full_steps=steps, brief_candidates=min(8, 8 * n)
            )
            row(f"bank {n}, {steps} steps", engine, part, tiles, settings)
    part = replace(bank, images=bank.images[:4096])
    row(
        f"bank 4096 x1, {base.full_steps} steps",
        engine,
        part,
        tiles,
        replace(base, encoder=False, symmetries=1),
    )
    few = replace(bank, images=bank.images[:1])
    for symmetries in (1, 8):
        for steps in (0, base.full_steps, 40):
            settings = replace(base, symmetries=symmetries, brief_candidates=0, full_steps=steps)
            row(f"encoder x{symmetries}, {steps} steps", engine, few, tiles, settings)
    for n in (64, 4096):
        part = replace(bank, images=bank.images[:n])
        row(
            f"encoder x8 and bank {n}, {base.full_steps} steps",
            engine,
            part,
            tiles,
            replace(base, full_candidates=16),
        )


def mixtures(engine: Engine, bank: Bank, tiles: TileSet) -> None:
    settings = SearchSettings()
    candidates = refine_candidates(
        engine, tiles.data, propose(engine, bank, tiles.data, tiles.dose, settings), settings
    )
    evidence, variance = laplace(engine, tiles.data, candidates)
    best = best_of_each(candidates)
    print(f"{'mixture of the candidates':34s} {'mean dB':>7s} {'worst':>7s}")
    shown = {"best objective": tiles.psnr(candidates.mean[best])}
    for temperature in (1.0, 10.0, 40.0, 200.0):
        for name, value in (("objective", candidates.objective), ("evidence", -evidence)):
            weight = candidate_weights(value, candidates.tile, temperature)
            shown[f"{name}, temperature {temperature:g}"] = tiles.psnr(mixed(candidates, weight))
    for name, values in shown.items():
        print(f"{name:34s} {values.mean():7.2f} {values.min():7.2f}")
    error = np.abs(candidates.mean[best] - tiles.clean[candidates.tile[best]])
    print(
        "raw Laplace 2-sigma band of the best candidate covers "
        f"{(error < 2 * np.sqrt(variance[best])).mean():.1%} of pixels"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--restarts", type=int, default=65_536)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    options = parser.parse_args()
    with open_engine(find_model(options.model)) as engine:
        card = engine.model.card
        bank = bank_for(engine, 0, options.restarts)
        for level in LEVELS:
            tiles = tile_set(
                options.data, options.frames, level, card.sampling_angstrom, card.patch
            )
            print(
                f"\npoisson:{level:g}, {len(tiles.clean)} tiles of {options.frames} "
                "validation frames"
            )
            curves(engine, bank, tiles)
            mixtures(engine, replace(bank, images=bank.images[:64]), tiles)


if __name__ == "__main__":
    main()

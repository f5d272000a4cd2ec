"""Memory of a very large bank: made, cached, read and scored with a million restarts.

    python benchmarks/bank_memory.py --count 1000000        (8 GB of disk in GDN_CACHE_DIR)

The generator is asked for 256 images only and those are repeated, so that a million take a minute
and not
ten: what is measured is the bank's own code. Anonymous memory is what the process needs; mapped
pages of the bank are the system's to drop.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, TileData
from gdn.models import DEFAULT_MODEL, find_model
from gdn.restarts import restart_latents
from gdn.search.bank import bank_for, best_of_bank


class Repeating:
    """Stands for an engine whose images repeat."""

    def __init__(self, engine: Any) -> None:
        self.model = engine.model
        self._images = engine.generate(restart_latents(0, range(256), engine.model.card.latent))

    def generate(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(self._images[: len(z)])


def anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument(
        "--tiles", type=int, default=16, help="times eight symmetries in a real frame"
    )
    options = parser.parse_args()
    with (
        open_engine(find_model(DEFAULT_MODEL)) as engine,
        tempfile.TemporaryDirectory(dir=os.environ.get("GDN_CACHE_DIR")) as folder,
    ):
        os.environ["GDN_CACHE_DIR"] = folder
        repeating: Any = Repeating(engine)
        rng = np.random.default_rng(0)
        truth = engine.generate(restart_latents(1, range(options.tiles), engine.model.card.latent))
        data = TileData(rng.poisson(20 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        for count in (options.count // 100, options.count):
            begun = time.perf_counter()
            bank = bank_for(repeating, 0, count)
            made = time.perf_counter() - begun
            begun = time.perf_counter()
            best_of_bank(bank, data, 20.0, 2)
            scored = time.perf_counter() - begun
            print(
                f"{count} restarts: made in {made:.1f} s, scored in {scored:.1f} s, anonymous "
                f"memory {anonymous_mib():.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()

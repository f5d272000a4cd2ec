"""What each part of the search is worth: whole validation frames, one setting changed at a time.

python benchmarks/ablation.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from suite import clean_frames

from gdn.engines.choose import open_engine
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import parse_suite
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher, SearchSettings, settings_for

DEFAULT = SearchSettings()
SETTINGS = {
    "default": DEFAULT,
    "no refinement": replace(DEFAULT, full_steps=0),
    "one iteration, undamped": replace(DEFAULT, iterations=1, damping=0.0),
    "two": replace(DEFAULT, iterations=2, damping=0.0),
    "three": replace(DEFAULT, damping=0.0),
    "five": replace(DEFAULT, iterations=5, damping=0.0),
    "two, damped by 10 nats": replace(DEFAULT, iterations=2, damping=10.0),
    "two, by 30": replace(DEFAULT, iterations=2, damping=30.0),
    "three, by 30": replace(DEFAULT, damping=30.0),
    "two Adam steps instead": replace(DEFAULT, iterations=0, full_steps=2, brief_steps=3),
    "no residual, no filter": replace(DEFAULT, residual=False),
    "one symmetry": replace(DEFAULT, symmetries=1),
    "four symmetries": replace(DEFAULT, symmetries=4),
    "no encoder": replace(DEFAULT, encoder=False, brief_candidates=8),
    "no exchange between tiles": replace(DEFAULT, exchange=0),
    "--estimate map": settings_for("map"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--noise", default="poisson:1,poisson:10,poisson:25,gaussian:1")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--only", nargs="*", help="some of the settings")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    options = parser.parse_args()
    frames = clean_frames(options.data, options.frames, "validation")
    noises = parse_suite(options.noise)
    print(f"| PSNR dB, mean of {len(frames)} | {' | '.join(map(str, noises))} | s a frame |")
    print("|---|" + "--:|" * (len(noises) + 1))
    with open_engine(find_model(options.model)) as engine:
        bank = bank_for(engine, 0, 256)
        for name in options.only or SETTINGS:
            settings = SETTINGS[name]
            shown = []
            begun = time.perf_counter()
            for noise in noises:
                rows = []
                for n, frame in enumerate(frames):
                    noisy = noise.apply(frame.image, n)
                    image = denoise_frame(
                        noisy,
                        frame.sampling_angstrom,
                        Searcher(engine=engine, bank=bank, settings=settings),
                    ).image
                    rows.append(psnr(frame.image, image))
                shown.append(f"{np.mean(rows):.2f}")
            seconds = (time.perf_counter() - begun) / len(frames) / len(noises)
            print(f"| {name} | {' | '.join(shown)} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()

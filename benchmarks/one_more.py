"""What one more generator of the same field would bring to `--model auto`, on validation frames
(`near.py`).

Every frame is denoised with the first generator, with the second, and with the one of the two that
auto would choose; the shipped restorer and the filters work beside each. `chosen by truth` has the
better image of every frame: the most that a choice can gain. Times are CPU seconds of this process
without the held-out score: auto's are those of the choice and of the generator that it takes.

    python benchmarks/near.py -o near
    python benchmarks/one_more.py pt-ceo2-64 MODEL --frames near --side 600 --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from learning_curve import ValidationFrame, frames_of
from learning_tables import one_more_table
from numpy.typing import NDArray

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import parse_suite
from gdn.models import RESTORER, find_model


@dataclass(frozen=True, kw_only=True)
class Trio:
    """Denoisers with the `first` generator alone, with the `second` alone, and with `both`."""

    first: Denoiser
    second: Denoiser
    both: Denoiser
    names: tuple[str, str]

    def row(
        self, frame: ValidationFrame, clean: NDArray[np.float32], noisy: NDArray[np.float32]
    ) -> dict[str, Any]:
        """PSNR and time of either generator, which of them auto takes, and the choice's time."""
        values, seconds = [], []
        for denoiser in (self.first, self.second):
            begun = time.process_time()
            image = denoiser.denoise(noisy, frame.sampling_angstrom).image
            seconds.append(round(time.process_time() - begun, 3))
            values.append(round(psnr(clean, np.asarray(image, dtype=np.float32)), 3))
        begun = time.process_time()
        chosen = self.both.for_recording(noisy, frame.sampling_angstrom)
        choosing = round(time.process_time() - begun, 3)
        return {
            "name": frame.name,
            "group": frame.group,
            "db": values,
            "chosen": self.names.index(chosen.engine.model.card.name),
            "seconds": seconds,
            "choosing": choosing,
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="generator that auto has")
    parser.add_argument("second", help="another with the same field")
    parser.add_argument("--frames", type=Path, required=True, help="folder of near.py")
    parser.add_argument("--side", type=int, default=600, help="pixels of a frame, at most")
    parser.add_argument("--noise", default="poisson:1,poisson:10,gaussian:0.5")
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--rows", type=Path, help="JSON lines, written anew")
    options = parser.parse_args()
    settings: dict[str, Any] = {"restarts": options.restarts, "threads": 1, "score": False}
    first, second = (find_model(name).card.name for name in (options.first, options.second))
    rows = []
    with ExitStack() as stack:
        opened = [
            stack.enter_context(Denoiser(f"{model},{RESTORER}", **settings))
            for model in (options.first, options.second, f"{options.first},{options.second}")
        ]
        trio = Trio(first=opened[0], second=opened[1], both=opened[2], names=(first, second))
        frames = frames_of(options.frames)
        warm = np.random.default_rng(0).poisson(2.0, (300, 300)).astype(np.float32)
        for denoiser in opened:  # banks and models are opened at the first image
            denoiser.denoise(warm, 0.1)
        for noise in parse_suite(options.noise):
            for number, frame in enumerate(frames):
                clean = frame.middle(options.side)
                row = trio.row(frame, clean, noise.apply(clean, number))
                rows.append({"noise": str(noise), "models": [first, second], **row})
            print(noise, len(rows), flush=True)
    if options.rows:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        options.rows.write_text(text, encoding="utf-8")
    print(one_more_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

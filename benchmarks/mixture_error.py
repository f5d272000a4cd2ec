"""Whether the mixture is worse than the best of its candidates, by more than held-out counts can
tell.

Of each validation frame (`near.py`) at each dose: the squared error of the mixture and of the
candidate that is best by the truth, both of all counts and against the clean frame, and the
standard error with which the frame's held-out quarter knows the difference between the two. The
candidate is chosen by the truth, the mixture without it. The held-out estimate itself is in the
rows too; the mixture's weights were found on the same counts, so that it favours the mixture.

All errors are shares of the squared mean level. Frames are denoised once, and kept (`mixing.py`).

    python benchmarks/near.py -o near
    python benchmarks/mixture_error.py --frames near --kept near/kept --rows rows.jsonl
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mixing import Image, Kept, keep, options_for
from mixture_tables import against_best_table

from gdn.evaluation.noise_suite import parse_suite
from gdn.search.band_mixture import Mixing, choose_mixing, mixture_of
from gdn.search.tiles import Binned
from gdn.trust.comparison import Expected
from gdn.trust.held_out_score import HeldOut

DOSES = "poisson:0.1,poisson:1,poisson:10"


def weights_of(frame: Kept) -> Mixing:
    """What the present code chooses."""
    return choose_mixing(frame.parts, frame.first, frame.names, frame.choice, frame.sampling)


def squared(frame: Kept, image: Image) -> float:
    """Error of an image of all counts, as a share of the squared mean level."""
    level = float(frame.truth.mean(dtype=np.float64))
    return float(((image.astype(np.float64) - frame.truth) ** 2).mean()) / level**2


def row_of(frame: Kept) -> dict[str, Any]:
    """Errors of mixture and candidates, and what held-out counts say of the difference."""
    weights, parts = weights_of(frame), frame.parts
    mixed = mixture_of(frame.whole, weights, frame.sampling)
    errors = [squared(frame, image) for image in frame.whole]
    best = int(np.argmin(errors))
    share = np.float32(parts.share)
    of_part = mixture_of(frame.first, weights, frame.sampling)
    held = HeldOut(
        of_part / share,
        Binned(parts.second, parts.other_law, parts.valid),
        1 - parts.share,
        Expected(np.nan),
    )
    rival = np.asarray(frame.first[best] / share, dtype=np.float32)
    score = held.compare("best candidate", rival)
    return {
        "group": frame.group,
        "mixture": squared(frame, mixed),
        "candidates": dict(zip(frame.names, errors, strict=True)),
        "best": frame.names[best],
        "weights": {name: round(weights.share(name), 4) for name in frame.names},
        "estimated_lead": score.difference,
        "standard_error": score.error,
    }


def main() -> int:
    parser = options_for(__doc__, DOSES)
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="written anew")
    options = parser.parse_args()
    names, rows = sorted(path.stem for path in options.frames.glob("*.npz")), []
    for noise in parse_suite(options.noise):
        frames = zip(names, keep(options.frames, options.kept, noise), strict=True)
        rows += [{"frame": name, "noise": str(noise)} | row_of(frame) for name, frame in frames]
    if options.rows:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        options.rows.write_text(text, encoding="utf-8")
    print(against_best_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What the shipped models make of shipped frames, against images that are kept: a change of code
that changes a result is seen.

Whoever means to change results, or ships other weights, makes them again and looks at the
difference:

    python tests/golden/test_golden.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import gdn
from gdn.evaluation.demo import DEMO_NOISE, demo_frames

KEPT = Path(__file__).parent
EVERY = 5  # pixels: one of them is kept
# Of the vacuum level. What is kept has half precision, which is a quarter of it.
TOLERANCE = 2e-3
# Model, number of the demonstration's frame, and the side of the square that is cut out of its
# middle, px.
CASES = {
    "pt-ceo2-64": ("pt-ceo2-64", 0, 300),
    "pt-ceo2-128": ("pt-ceo2-128", 1, 850),
    "pt-ceo2-wide-128": ("pt-ceo2-wide-128", 2, 850),
    "restore": ("restore", 3, 300),
    "mixed": ("pt-ceo2-64,restore", 3, 300),
}


def made(name: str) -> NDArray[np.float32]:
    """The image of a case, vacuum 1."""
    model, number, side = CASES[name]
    frame = demo_frames()[number]
    noisy = DEMO_NOISE.apply(frame.image, 5)
    y, x = ((n - side) // 2 for n in noisy.shape)
    cut = noisy[y : y + side, x : x + side]
    result = gdn.denoise(
        cut, frame.sampling_angstrom, model=model, restarts=16, threads=1, cache=False, score=False
    )
    return np.asarray(result.image[::EVERY, ::EVERY] / 0.45, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_shipped_model_makes_what_it_made(name: str) -> None:
    kept = np.load(KEPT / f"{name}.npy").astype(np.float32)
    off = np.abs(made(name) - kept)
    assert off.max() < TOLERANCE, (
        f"off by up to {off.max():.2g} of the vacuum level; if that is meant, python {__file__}"
    )


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        image, path = made(case), KEPT / f"{case}.npy"
        if path.exists():
            print(
                f"{case}: {np.abs(image - np.load(path)).max():.2g} of the vacuum level from "
                "the one before"
            )
        np.save(path, image.astype(np.float16))

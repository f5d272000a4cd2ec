"""Runs `bmnd` (a BM3D in NumPy and numba, MIT) for rivals.py, with the Python of an environment of
its own:

    pip install bmnd

Counts go through its own Poisson model; other noise through its Gaussian one, whose deviation it is
told.
"""

import numpy as np
from bmnd import BM3DProfile, NoiseModel, bmnd
from rival_worker import Image, Request, serve


def restore(image: Image, request: Request) -> Image:
    """The image with the noise law that the request states."""
    if request["kind"] == "poisson":
        # Binning by parts of pixels rounds: a sum of no counts may lie just below zero.
        counts = np.maximum(image, 0)
        return np.asarray(bmnd(counts, BM3DProfile(noise_model=NoiseModel.POISSON)), np.float32)
    low, span = float(image.min()), float(np.ptp(image))
    made = bmnd((image - low) / span, BM3DProfile(), sigma=request["sigma"] / span)
    return np.asarray(made * span + low, np.float32)


if __name__ == "__main__":
    serve(restore)

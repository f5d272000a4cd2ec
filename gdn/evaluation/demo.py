"""The shipped demonstration frames. They are rendered from exit waves of test structures and made
noisy when needed."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from gdn.evaluation.evaluate import CleanFrame
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, read_wave, render
from gdn.simulation.simulate import frame_optics

# Columns of the first two are dark. These are given another focus, nm, under which columns are
# bright: the third, and the fourth, a twinned particle of cobalt, a specimen that no generator has
# seen.
BRIGHT = {"frame3": -7.0, "frame4": -8.0}
DEMO_NOISE = Noise("poisson", 1.0)  # 0.45 electrons per pixel in vacuum at 0.0612 Å/px


def demo_frames() -> list[CleanFrame]:
    """The shipped frames in the study's units, rendered from their exit waves."""
    folder = Path(str(resources.files("gdn.evaluation") / "demo_waves"))
    frames = []
    for path in sorted(folder.glob("*.npz")):
        wave = read_wave(path)
        optics = frame_optics(int(wave.record["seed"]), 0)
        optics = replace(optics, defocus_nm=BRIGHT.get(path.stem, optics.defocus_nm))
        image = np.maximum(render(wave, optics, FRAME_SAMPLING, FRAME_SHAPE), 0) * np.float32(
            STUDY_VACUUM
        )
        frames.append(CleanFrame(path.stem, 0, image, FRAME_SAMPLING))
    return frames

"""A frame of a simulated movie, side by side: as recorded, denoised alone, denoised with what the
other frames say of it (`--movie on`), and the truth. The first one has a scale bar.

    python benchmarks/movie_picture.py data/movies/test_000001_104513209954320.json docs/movie.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from movies import clip_of
from PIL import Image

from gdn import Denoiser
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM
from gdn.pipeline.scale_bar import with_scale_bar
from gdn.simulation.movie_files import read_movie

FRAMES, SIDE, DOSE = 9, 600, 0.45


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("movie", type=Path, help="its record, NAME.json")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    clip = clip_of(read_movie(given.movie), DOSE, FRAMES, SIDE)
    shown = FRAMES // 2
    clean = clip.clean[shown]
    panels = {f"as recorded, {DOSE} electrons a pixel": clip.counts[shown] / DOSE}
    for name, movie in (("this frame alone", "off"), (f"with {FRAMES - 1} other frames", "on")):
        with Denoiser(movie=movie, score=False) as denoiser:
            image = denoiser.denoise(clip.counts, clip.sampling).image[shown] / np.float32(DOSE)
        quality = psnr(STUDY_VACUUM * clean, STUDY_VACUUM * image)
        panels[f"{name}: {quality:.1f} dB"] = image
    panels["truth"] = clean
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.5))
    low, high = np.percentile(clean, [0.5, 99.5])
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        gray = np.clip((image - low) / (high - low), 0, 1)
        drawn = Image.fromarray((255 * gray).astype(np.uint8))
        if axis is axes[0]:
            drawn = with_scale_bar(drawn, clip.sampling)
        axis.imshow(drawn, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(given.picture, dpi=90)
    Image.open(given.picture).convert("L").save(given.picture, optimize=True)


if __name__ == "__main__":
    main()

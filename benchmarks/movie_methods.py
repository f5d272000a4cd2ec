"""The methods of `movies.py`: from a part of a movie to restored frames.

`gdn` takes each frame alone, as `gdn denoise` does. `mean` is the mean of neighbouring frames,
moved to the frame by the **true** drift, to the nearest pixel: no alignment does better. `blur` and
`bm3d` are a Gaussian blur, and Anscombe and BM3D, of that mean. Their windows, widths and binnings
are those of highest PSNR on the middle frame: chosen with the truth at hand. At the ends of the
movie, and where a frame did not see a place, the mean is of fewer frames.

A further method is a function from a clip to images, and an entry of METHODS, or of OPENED where it
needs a model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import numpy as np
from movie_measures import Clip, Stack
from scipy.ndimage import gaussian_filter
from suite import denoiser_of

from gdn import Denoiser
from gdn.evaluation.comparators import Case, binnings, bm3d_at
from gdn.evaluation.metrics import Image, psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.movies.drift import add_moved
from gdn.pipeline.result import Result

WINDOWS = (1, 3, 5, 9, 15)  # frames
BLURS = 2.0 ** np.arange(0, 4.1, 0.5)  # px

Method = Callable[[Clip], tuple[Stack, str]]  # images, vacuum 1.0, and what was chosen


def window_mean(clip: Clip, frame: int, window: int) -> tuple[Image, float]:
    """Mean of the `window` frames about `frame`, moved by the true drift, in units of the vacuum;
    and the mean number of frames in it."""
    half = window // 2
    total, seen = (np.zeros(clip.counts.shape[1:], np.float32) for _ in range(2))
    for other in range(max(0, frame - half), min(len(clip.counts), frame + half + 1)):
        moved = (clip.corners[frame] - clip.corners[other]) / clip.sampling
        add_moved(total, seen, clip.counts[other], moved)
    mean = total.astype(np.float64) / seen / clip.dose
    return np.asarray(mean, dtype=np.float32), float(np.median(seen))


def best_setting(
    clip: Clip, tried: list[tuple[int, float]], restore: Callable[[int, int, float], Image]
) -> tuple[int, float]:
    """Of pairs of a window and a strength that of highest PSNR on the middle frame."""
    middle = len(clip.clean) // 2
    return max(tried, key=lambda s: psnr(clip.clean[middle], restore(middle, *s)))


def windowed(
    clip: Clip, strengths: list[float], restore: Callable[[int, int, float], Image], unit: str
) -> tuple[Stack, str]:
    """All frames by the best pair of a window and a strength."""
    windows = [w for w in WINDOWS if w <= len(clip.clean)] or [len(clip.clean)]
    pairs = [(w, s) for w in windows for s in strengths]
    window, strength = best_setting(clip, pairs, restore)
    images = [restore(frame, window, strength) for frame in range(len(clip.clean))]
    return np.stack(images), f"{window} frames" + (f", {strength:g} {unit}" if unit else "")


def mean(clip: Clip) -> tuple[Stack, str]:
    """The plain mean of a window."""
    return windowed(clip, [0.0], lambda f, w, _: window_mean(clip, f, w)[0], "")


def blur(clip: Clip) -> tuple[Stack, str]:
    """A Gaussian blur of a window's mean."""

    def restore(frame: int, window: int, sigma: float) -> Image:
        return np.asarray(gaussian_filter(window_mean(clip, frame, window)[0], sigma, truncate=3))

    return windowed(clip, list(map(float, BLURS)), restore, "px")


def bm3d(clip: Clip) -> tuple[Stack, str]:
    """BM3D of a window's counts, binned and stabilised."""

    def restore(frame: int, window: int, binning: float) -> Image:
        image, frames = window_mean(clip, frame, window)
        noise = Noise("poisson", clip.dose * frames / STUDY_VACUUM)
        scale = np.float32(STUDY_VACUUM)
        case = Case(scale * clip.clean[frame], scale * image, noise, clip.sampling)
        return bm3d_at(case, int(binning)) / scale

    return windowed(clip, list(map(float, binnings(clip.sampling))), restore, "px binned")


def truth(clip: Clip) -> tuple[Stack, str]:
    """The clean frames: what the detector finds at best."""
    return clip.clean, ""


def constant(clip: Clip) -> tuple[Stack, str]:
    """Each frame's mean."""
    level = clip.counts.mean((1, 2), keepdims=True, dtype=np.float64) / clip.dose
    return np.broadcast_to(level, clip.counts.shape).astype(np.float32), ""


def gdn_frames(stack: ExitStack, model: str, restarts: int) -> Method:
    """gdn, each frame alone."""
    denoiser = stack.enter_context(denoiser_of(model, restarts))

    def run(clip: Clip) -> tuple[Stack, str]:
        chosen = denoiser.for_recording(clip.counts[0], clip.sampling)
        images = [chosen.search(counts, clip.sampling).image for counts in clip.counts]
        return np.stack(images) / np.float32(clip.dose), model

    return run


ADAPTED_STEPS = (75, 600)  # about a minute and a half of a core


def gdn_movie(stack: ExitStack, model: str, restarts: int, adapt: bool = False) -> Method:
    """gdn, each frame with what the others say of it (`--movie on`), also after learning from them
    (`--adapt`)."""
    denoiser = stack.enter_context(
        Denoiser(
            model,
            restarts,
            threads=1,
            movie="on",
            score=False,
            intervals=(68, 90),
            adapt=adapt,
            adapt_steps=ADAPTED_STEPS if adapt else None,
        )
    )

    def run(clip: Clip) -> tuple[Stack, str]:
        result = denoiser.denoise(clip.counts, clip.sampling)
        return result.image / np.float32(clip.dose), coverage(clip, result)

    return run


def coverage(clip: Clip, result: Result) -> str:
    """Shares of pixels within the intervals, as words."""
    error = np.abs(result.image - clip.clean * np.float32(clip.dose))
    shares = (f"{level} %: {(error < w).mean():.3f}" for level, w in result.intervals.items())
    return ", ".join(shares)


METHODS: dict[str, Method] = {
    "truth": truth,
    "constant": constant,
    "mean": mean,
    "blur": blur,
    "bm3d": bm3d,
}
OPENED: dict[str, Callable[[ExitStack, str, int], Method]] = {  # with a model
    "gdn": gdn_frames,
    "gdn-movie": gdn_movie,
    "gdn-movie-adapt": partial(gdn_movie, adapt=True),
}

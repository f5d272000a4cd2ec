"""A real recording without a clean reference: each frame's result against the mean of all the
others.

The noise of other frames is independent of a frame's own, so that the squared difference from their
mean, less that mean's own noise (from differences between frames), is the error on the truth,
unbiased, plus what moved from frame to frame, which weighs on all methods alike. The blur is shown
at the width, and BM3D at the binning, that this very score likes best; nothing else gets such help.
Needs gdn[bench] for BM3D, and a stack of frames of one place.

A second table says where in the spectrum each generator ends: the share of the signal's power (that
which frames have in common) that is left when the generator's image, nothing added to it, is taken
away.

    python benchmarks/recording.py STACK.tif --sampling 0.05
    python benchmarks/recording.py STACK.tif --sampling 0.05 --models pt-ceo2-64 runs/mine-model
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.evaluation.comparators import Case, available, binnings, bm3d_at, unet_comparator
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.frames.formats import read_frames
from gdn.frames.resampling import unbin
from gdn.pipeline.denoiser import Denoiser

Stack = NDArray[np.float32]  # (frames, rows, columns)
BANDS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.95, 1.25)  # 1/Å
BLIND = Path(__file__).resolve().parent / "unets" / "blind"
BLURS = 2.0 ** np.arange(0, 4.1, 0.25)  # px


class Recording:
    """The `frames`, the mean of all `others` for each of them, and the variance of that mean's
    noise."""

    def __init__(self, frames: Stack) -> None:
        n = len(frames)
        self.frames = frames
        self.others = (frames.sum(0, dtype=np.float64) - frames) / (n - 1)
        pairs = [_noise(frames[i] - frames[j]) for i in range(n) for j in range(i)]
        self.noise = float(np.mean(pairs)) / 2 / (n - 1)

    def errors(self, results: Stack) -> NDArray[np.float64]:
        """Mean squared error of each frame's result, in squared units of the frames."""
        return np.asarray(((results - self.others) ** 2).mean((1, 2)) - self.noise)


def _noise(difference: Stack, width: float = 3.0) -> float:
    """Variance of the noise in a difference of frames, taken to be white: of what is finer than
    columns, which move."""
    rough = difference - gaussian_filter(difference, width)
    return float(np.mean(rough**2) / (1 - 3 / (4 * np.pi * width**2)))  # 1 - 2 g(0) + sum of g^2


def blurs(recording: Recording) -> Stack:
    """The Gaussian blur whose width is best by `Recording.errors`."""
    tried = (np.stack([gaussian_filter(x, s) for x in recording.frames]) for s in BLURS)
    return min(tried, key=lambda results: recording.errors(results).mean())


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", type=Path)
    parser.add_argument("--sampling", type=float, required=True, help="Å/px")
    parser.add_argument("--models", nargs="+", default=["pt-ceo2-64", "pt-ceo2-128"])
    parser.add_argument("--restarts", type=int, default=256)
    options = parser.parse_args()
    source = read_frames(options.stack)
    frames = np.stack([source.read(number, whole=True) for number in range(source.count)])
    flat = np.broadcast_to(frames.mean((1, 2), keepdims=True), frames.shape)
    recording = Recording(frames)
    level, base = frames.mean(), recording.errors(flat)
    print(
        f"| {options.stack.name}, {len(frames)} frames | rms error, % of the mean | "
        "dB over constant (sd) |\n|---|--:|--:|"
    )
    generated: dict[str, Stack] = {}
    for name, results in methods(
        recording, options.sampling, options.models, options.restarts, generated
    ):
        errors = recording.errors(results)
        gain = 10 * np.log10(base / errors)
        print(
            f"| {name} | {100 * np.sqrt(errors.mean()) / level:.2f} | {gain.mean():+.2f} "
            f"({gain.std(ddof=1):.2f}) |",
            flush=True,
        )
    spans = [f"{low:g}-{high:g}" for low, high in pairwise(BANDS)]
    print(f"\n| signal left, %, in 1/Å | {' | '.join(spans)} |\n|---|{'--:|' * len(spans)}")
    for name, images in generated.items():
        shares = unexplained(images, recording, options.sampling)
        print(
            f"| generator of {name} alone | "
            f"{' | '.join(f'{100 * share:.0f}' for share in shares)} |"
        )
    return 0


def unexplained(images: Stack, recording: Recording, sampling: float) -> list[float]:
    """The share of the signal's power in each of BANDS that `images` leave: 1 - (2 cross - own) /
    signal, each summed over frames, from spectra under a Hann window; signal and cross are against
    the mean of the other frames."""
    rows, columns = images.shape[1:]
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    k = np.hypot(np.fft.fftfreq(rows, sampling)[:, None], np.fft.fftfreq(columns, sampling))

    def spectra(stack: Stack) -> NDArray[np.complex128]:
        return np.fft.fft2((stack - stack.mean((1, 2), keepdims=True)) * window)

    data, others, own = (spectra(stack) for stack in (recording.frames, recording.others, images))
    shares = []
    for low, high in pairwise(BANDS):
        within = (k >= low) & (k < high)
        signal, cross = (
            (part[:, within] * others[:, within].conj()).real.sum() for part in (data, own)
        )
        shares.append(float(1 - (2 * cross - (np.abs(own[:, within]) ** 2).sum()) / signal))
    return shares


def methods(
    recording: Recording,
    sampling: float,
    models: list[str],
    restarts: int,
    generated: dict[str, Stack],
) -> Iterator[tuple[str, Stack]]:
    """Every method's results; `generated` takes what each model's generator alone makes."""
    frames = recording.frames
    yield "best blur", blurs(recording)
    gain, offset, dose = 1.0, 0.0, 1.0
    for name in models:
        with Denoiser(name, restarts, engine="onnxruntime") as denoiser:
            chosen = denoiser.for_recording(frames[0], sampling)
            results = [chosen.search(x, sampling) for x in frames]
        model = results[0].noise
        gain, offset, dose = model.gain, model.offset, results[0].dose
        made = (
            unbin(result.estimate.generated, result.grids) / result.grids.area * abs(gain)
            for result in results
            if result.estimate is not None
        )
        generated[name] = np.stack(list(made)) + np.float32(offset)
        yield f"gdn, {name}", np.stack([result.image for result in results])
    level = dose / STUDY_VACUUM  # of the study's units, which comparators take

    def by(method: Callable[[Case], Stack]) -> Stack:
        scaled = (frames - np.float32(offset)) / np.float32(gain * level)
        cases = (Case(x, x, Noise("poisson", level), sampling) for x in scaled)
        return np.stack([method(case) for case in cases]) * np.float32(gain * level) + np.float32(
            offset
        )

    if available("bm3d-binned"):
        tried = {n: by(partial(bm3d_at, binning=n)) for n in binnings(sampling)}
        best = min(tried, key=lambda n: recording.errors(tried[n]).mean())
        yield f"BM3D of counts summed {best}x{best}", tried[best]
    yield "U-Net (blind)", by(unet_comparator(BLIND))


if __name__ == "__main__":
    raise SystemExit(main())

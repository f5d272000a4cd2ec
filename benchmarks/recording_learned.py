"""What `--adapt` is worth on a real stack of one object: learned from some of its frames, scored by
the others, which nothing has seen.

The frames that are learned from are denoised, all their electrons given, with and without what was
learned. The other frames, aligned to a fraction of a pixel, tell which result is better (as in
`recording_held_out.py`): nothing is thinned, so that no property of the detector's noise enters.
One line for each way of learning: as it is; without the small network; with the noise law of a
pixel instead of that of coarse noise.

    python benchmarks/recording_learned.py STACK.tif --sampling 0.0455 --learn 0,1,4 --seconds 60
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from recording_held_out import Stack, by_frames, pooled, shifts_of

from gdn import Denoiser
from gdn.adaptation import adapt as adaptation
from gdn.adaptation import lessons, two_starts
from gdn.adaptation.learn import Learning, LearningSettings
from gdn.frames.formats import read_frames
from gdn.frames.source import of_array
from gdn.models import LEARNED, RESTORER, RestorerModel, find_any
from gdn.pipeline.open_models import models_named
from gdn.pipeline.options import Options

WAYS = ("as it is", "noise of a pixel", "restorer alone, noise of a pixel")


def denoised(frames: Stack, sampling: float, models: Any, threads: int) -> tuple[Stack, Any]:
    """Images of the frames, and the candidates' shares in the last."""
    with Denoiser.of(models, Options(score=False, threads=threads)) as denoiser:
        result = denoiser.denoise(frames, sampling)
    record: Any = result.record
    return result.image, (record[-1].get("mixture") or {}).get("shares", {})


def learned(
    frames: Stack, sampling: float, settings: LearningSettings, way: str, folder: Path
) -> list[RestorerModel]:
    """The models that are learned from the frames in one of WAYS."""
    base = find_any(RESTORER)
    assert isinstance(base, RestorerModel)
    source = of_array(Path("frames"), frames, "TYX", [(sampling, "Å")] * 2, "array")
    recording = adaptation.recordings_of([(source, sampling)], lambda _: source, None)[0]

    def alone(starts: Any, *more: Any) -> dict[str, Learning]:
        return two_starts.learn_from({RESTORER: starts[RESTORER]}, *more)

    with ExitStack() as patches:
        if "noise" in way:
            patches.enter_context(mock.patch.object(lessons, "coarse_noise", return_value=1.0))
        if "alone" in way:
            patches.enter_context(mock.patch.object(adaptation, "learn_from", alone))
        return adaptation.adapt(recording, base, None, settings, folder / "adapted")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", type=Path)
    parser.add_argument("--sampling", type=float, required=True, help="Å/px")
    parser.add_argument("--learn", default="0,1,4", help="frames that are learned from")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    source = read_frames(given.stack)
    frames = np.stack([source.read(number, whole=True) for number in range(source.count)])
    chosen = [int(number) for number in given.learn.split(",")]
    others = [number for number in range(len(frames)) if number not in chosen]
    shifts = shifts_of(frames, given.sampling)
    models = models_named("auto")
    plain, shares = denoised(frames[chosen], given.sampling, models, given.threads)
    flat = np.broadcast_to(plain.mean((1, 2), keepdims=True), plain.shape)

    def gains(images: Stack, other: Stack) -> list[tuple[float, float]]:
        # A gray level is not an electron: the noise of a pixel is what a pair of frames says it is.
        noise = float(np.var(np.diff(frames[0])) / 2 / frames[0].mean())
        gained = [
            by_frames(frames, shifts, t, others, pair)
            for t, pair in zip(chosen, zip(images, other, strict=True), strict=True)
        ]
        return [(gain, error * noise**0.5) for gain, error in gained]

    contrast = pooled(gains(plain, flat))[0]
    print(f"without learning: {shares}")
    print(
        "| learned | frames | better than without, % of what gdn gains over a constant | "
        "shares of the last frame |"
    )
    print("|---|---|--:|---|")
    settings = LearningSettings(seconds=given.seconds, threads=given.threads)
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            more = learned(frames[chosen], given.sampling, settings, way, Path(folder))
            images, shares = denoised(
                frames[chosen], given.sampling, [*models, *more], given.threads
            )
        each = gains(images, plain)
        gain, error = pooled(each)
        words = ", ".join(f"{100 * value / contrast:+.2f}" for value, _ in each)
        print(
            f"| {way} | {words} | {100 * gain / contrast:+.2f} ± "
            f"{100 * error / contrast:.2f} | "
            + ", ".join(f"{name} {shares.get(name, 0):.0%}" for name in LEARNED)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The counts that a network learns from: those of a recording, without the held-out ones.

A frame's counts are split as for its result (`gdn.search.thinning`): the quarter that weights the
candidates and scores the image is never seen here. Of the other three quarters a part is kept for
telling when learning no longer gains, and the rest is thinned anew at every step: one part predicts
the other (Noise2Noise, Lehtinen et al. 2018, on counts split at random).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.frames.bad_pixels import CORRELATED
from gdn.frames.coarse_noise import coarse_noise
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.likelihood import Array, NoiseLaw
from gdn.search.restored import bin_by, bin_mask, binning
from gdn.search.thinning import split, thin

KEPT = 0.15  # of the three quarters, for telling when to stop
SHARES = (0.5, 0.9)  # of what is learned from that go in; the rest is to be predicted


class CorrelatedNoise(ValueError):
    """A frame whose counts cannot be divided into independent parts."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One frame in pixels of the network; all images are (rows, columns).

    - `counts`: to learn from, electrons.
    - `share`: theirs of the frame's electrons.
    - `law`: their noise law.
    - `kept`, `kept_share`, `kept_law`: the same of the counts that are kept back.
    - `valid`: 1 where the pixels were recorded (None: everywhere).
    """

    counts: Array
    share: float
    law: NoiseLaw
    kept: Array
    kept_share: float
    kept_law: NoiseLaw
    valid: Array | None = None

    def kept_target(self) -> tuple[Array, float]:
        """The kept counts per electron of the frame, and the variance of a pixel of them."""
        variance = self.kept_law.variance(float(self.kept.mean())) / self.kept_share**2
        return self.kept / self.kept_share, float(variance)

    def pair(self, at: tuple[slice, slice], rng: np.random.Generator) -> tuple[Array, Array, float]:
        """A part of the counts in a window, the others there, and the share of the first."""
        share = float(rng.uniform(*SHARES))
        counts = self.counts[at]
        first = thin(counts, self.law, share, rng)
        return first, counts - first, share


def lesson_of(
    frame: Array,
    sampling_angstrom: float,
    target_angstrom: float,
    noise: NoiseModel | None,
    seed: int,
    stream: int = 0,
) -> Lesson:
    """What the recorded `frame` (rows, columns) teaches a network of `target_angstrom` a pixel;
    `seed` and `stream` are those of its denoising. Raises ValueError where the noise model
    contradicts the frame, and CorrelatedNoise where the noise of neighbouring pixels is correlated
    and not known how: no split makes independent parts of it."""
    defects, whole, model = examine(frame, noise, sampling_angstrom)
    if CORRELATED in defects.notes:
        raise CorrelatedNoise("the noise of neighbouring pixels is correlated")
    factor = binning(sampling_angstrom, target_angstrom)
    parts = split(model.electrons(whole), model.law, seed, stream=stream)
    # On the recorded pixels: networks of any pixel size have the same counts kept from them.
    learned = thin(parts.first, parts.law, 1 - KEPT, np.random.default_rng([seed, 0xAD, stream]))
    kept, bad = parts.first - learned, defects.bad
    law = parts.law.of_sum(factor**2)
    if factor > 1 and not law.spread:
        law = law.times(coarse_noise(learned, parts.law.of_part(1 - KEPT), sampling_angstrom))
    return Lesson(
        counts=bin_by(learned, factor),
        share=parts.share * (1 - KEPT),
        law=law.of_part(1 - KEPT),
        kept=bin_by(kept, factor),
        kept_share=parts.share * KEPT,
        kept_law=law.of_part(KEPT),
        valid=None if bad is None else bin_mask((~bad).astype(np.float32), factor),
    )


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` frames, evenly over the recording."""
    if count <= most:
        return list(range(count))
    places: NDArray[np.float64] = np.linspace(0, count - 1, most)
    return sorted({round(float(place)) for place in places})


def held_out_nats(
    lessons: Sequence[Lesson], images: Sequence[Array], start: Sequence[Array]
) -> float:
    """Nats by which `images` explain the kept counts better than those at the `start` (each per
    electron of the frame, (rows, columns)), by squared error: unbiased, as the counts were not seen
    (docs/method.md, "Trust", "Held-out score")."""
    total = 0.0
    for lesson, image, first in zip(lessons, images, start, strict=True):
        target, variance = lesson.kept_target()
        gain = (first - target) ** 2 - (image - target) ** 2
        if lesson.valid is not None:
            gain = gain * lesson.valid
        total += float(gain.sum(dtype=np.float64)) / (2 * variance)
    return total


def error_nats(lessons: Sequence[Lesson], images: Sequence[Array]) -> tuple[float, float]:
    """The squared error of `images` in the nats of `held_out_nats`, beyond what noise alone gives,
    and its standard error (docs/method.md, "Trust", "Held-out score")."""
    total, square = 0.0, 0.0
    for lesson, image in zip(lessons, images, strict=True):
        target, variance = lesson.kept_target()
        error = (image - target) ** 2
        if lesson.valid is not None:
            error = error[lesson.valid > 0]
        beyond = error.sum(dtype=np.float64) - error.size * variance
        total += float(beyond) / (2 * variance)
        square += error.size * float(error.var(dtype=np.float64)) / (2 * variance) ** 2
    return total, square**0.5

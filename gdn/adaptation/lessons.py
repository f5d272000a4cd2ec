"""What a network learns from: counts of a recording, without those that judge the result.

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

from gdn.frames.examined import examined
from gdn.frames.noise import NoiseModel
from gdn.likelihood import Array, NoiseLaw
from gdn.search.restored import bin_by, bin_mask, binning
from gdn.search.thinning import split, thin

KEPT = 0.15  # of the three quarters, for telling when to stop
SHARES = (0.5, 0.9)  # of what is learned from that go in; the rest is to be predicted


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One frame in pixels of the network, all (rows, columns): `counts` to learn from, a `share` of
    the frame's electrons, with their noise `law`; `kept` counts with their own; `valid` is 1 where
    the pixels were recorded, None: everywhere."""

    counts: Array
    share: float
    law: NoiseLaw
    kept: Array
    kept_share: float
    kept_law: NoiseLaw
    valid: Array | None = None

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
) -> Lesson:
    """What the recorded `frame` (rows, columns) teaches a network of `target_angstrom` a pixel;
    `seed` is that of its denoising. Raises ValueError where the noise model contradicts the
    frame."""
    defects, whole, model = examined(frame, noise)
    factor = binning(sampling_angstrom, target_angstrom)
    parts = split(model.electrons(whole), model.law, seed)
    counts, law = bin_by(parts.first, factor), parts.law.of_sum(factor**2)
    rng = np.random.default_rng([seed, 0xAD])
    learned = thin(counts, law, 1 - KEPT, rng)
    bad = defects.bad
    return Lesson(
        counts=learned,
        share=parts.share * (1 - KEPT),
        law=law.of_part(1 - KEPT),
        kept=counts - learned,
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
    electron of the frame, (rows, columns)), by squared error: unbiased, as the counts were not
    seen."""
    total = 0.0
    for lesson, image, first in zip(lessons, images, start, strict=True):
        target = lesson.kept / lesson.kept_share
        variance = lesson.kept_law.variance(float(lesson.kept.mean())) / lesson.kept_share**2
        gain = (first - target) ** 2 - (image - target) ** 2
        if lesson.valid is not None:
            gain = gain * lesson.valid
        total += float(gain.sum(dtype=np.float64)) / (2 * float(variance))
    return total

"""Denoise one frame: estimate the noise, bin, search, and return to the frame's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gdn.blas import one_blas_thread
from gdn.engines.base import Engine
from gdn.errors import InputError
from gdn.frames.bad_pixels import Mask
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, bin_sum, grids_for, unbin
from gdn.likelihood import Array, NoiseLaw
from gdn.search.band_mixture import Candidate, Mixing
from gdn.search.estimate import Estimate, estimate
from gdn.search.first_part import Thinned
from gdn.search.held_out_shares import Choice
from gdn.search.mixture_weights import OWN
from gdn.search.progress import Clock, Progress, Watch
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded
from gdn.search.tiles import Binned, mean_of

SAID = 0.005  # shares of a mixture that a warning names
_MOSTLY_RESIDUAL = (
    "the generator explains little of this frame: most of its part is a filtered residual"
)
MOST_OFF = 2.0  # times the mean of the counts: an image beyond is in other units


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """A denoised frame, and how it came about.

    - `image` (rows, columns): in the frame's own units and shape.
    - `raw_spread` (rows, columns): standard deviation, in the same units. It is not calibrated;
      `gdn.trust` makes the spread of it.
    - `noise`: the noise law as given or estimated.
    - `grids`: that of the frame, and the generator's.
    - `dose`: electrons per recorded pixel in vacuum.
    - `objective`: mean over tiles of the best restart's objective, nats.
    - `objectives` (tiles,): those of all tiles, nats.
    - `bank_share`: share of tiles whose best restart came from the bank.
    - `residual_share`: rms of the added residual over rms of the contrast.
    - `held_out`: what counts held out chose, and the scores.
    - `tiles`: number of tiles.
    - `estimate`: on the generator's grid; the original method has none.
    - `seconds`: by the names of the stages.
    - `warnings`: in words.
    - `bad` (rows, columns): pixels of the frame that were left out (None: none).
    - `mixing`: the candidates' weights, where there were others than generator and filter.
    """

    image: Array
    raw_spread: Array
    noise: NoiseModel
    grids: Grids
    dose: float
    objective: float
    objectives: list[float]
    bank_share: float
    residual_share: float
    held_out: Choice
    tiles: int
    estimate: Estimate | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    bad: Mask | None = None
    mixing: Mixing | None = None

    def on_frame(self, width: Array) -> Array:
        """A half-width in electrons per binned pixel, on the frame's grid and in its units. It is
        kept positive: interpolation can swing below zero where it falls steeply."""
        least = np.full_like(width, width.min())
        factor = abs(self.noise.gain)
        here, lowest = (
            np.asarray(unbin(w, self.grids) / self.grids.area * factor, dtype=np.float32)
            for w in (width, least)
        )
        return np.maximum(here, lowest)


@one_blas_thread()
def denoise_frame(
    frame: Array,
    sampling_angstrom: float,
    searcher: Searcher,
    noise: NoiseModel | None = None,
    progress: Progress = lambda share: None,
) -> FrameResult:
    """Denoise one frame (rows, columns) float32. Raises ValueError where the noise model
    contradicts it."""
    engine = searcher.engine
    watch = Watch(Clock(), progress)
    defects, whole, model = examine(frame, noise, sampling_angstrom)
    electrons = model.electrons(whole)
    grids, counts = _bin_electrons(electrons, sampling_angstrom, engine)
    law, area = model.law, grids.area
    recorded = Recorded(
        electrons=electrons, law=law, grids=grids, bad=defects.bad, stream=searcher.stream
    )
    binned = Binned(counts, law.of_sum(area), recorded.valid)
    warnings = defects.notes + _warn_of_sampling(law, binned.level, grids, engine.model.card.patch)
    watch.ended("prepare")
    estimated = estimate(binned, searcher, watch, recorded)
    result = model.units(unbin(estimated.image, grids) / area)
    doubt = np.maximum(unbin(estimated.raw_spread, grids), 0) / area * abs(model.gain)
    watch.ended("assemble", 1.0)
    fit, share = estimated.fit, estimated.residual_share
    return FrameResult(
        image=result,
        raw_spread=doubt.astype(np.float32),
        noise=model,
        grids=grids,
        dose=estimated.dose / area,
        objective=float(fit.objective.mean()),
        objectives=[float(o) for o in fit.objective],
        bank_share=fit.bank_share,
        residual_share=share,
        held_out=estimated.choice,
        tiles=len(fit.objective),
        estimate=estimated,
        seconds=watch.clock.seconds,
        warnings=[
            *warnings,
            *_warn_of_misfit(estimated.choice, share, estimated.mixing, searcher.others),
            *_warn_of_units(estimated.thinned),
        ],
        bad=defects.bad,
        mixing=estimated.mixing,
    )


def bin_frame(
    frame: Array, sampling_angstrom: float, engine: Engine, noise: NoiseModel | None
) -> tuple[NoiseModel, Grids, Array]:
    """Noise model, grids, and the frame in electrons on the generator's grid, with bad pixels
    filled in. Raises ValueError where the noise model contradicts the frame."""
    _, whole, model = examine(frame, noise, sampling_angstrom)
    return model, *_bin_electrons(model.electrons(whole), sampling_angstrom, engine)


def _bin_electrons(
    electrons: Array, sampling_angstrom: float, engine: Engine
) -> tuple[Grids, Array]:
    """Grids, and a frame in electrons on the generator's grid. Raises InputError for a frame
    without a signal."""
    grids = grids_for(
        (electrons.shape[0], electrons.shape[1]),
        sampling_angstrom,
        engine.model.card.sampling_angstrom,
    )
    binned = bin_sum(electrons, grids)
    if binned.mean() <= 0:
        raise InputError(
            "the mean of the frame is not above the estimated offset of the detector; "
            "give the noise, for example poisson"
        )
    return grids, binned


def _warn_of_misfit(
    choice: Choice, residual_share: float, mixing: Mixing | None, others: Sequence[Candidate]
) -> list[str]:
    """Warnings that the generator cannot draw this frame. Where other frames of a movie draw it
    instead, that is no fault of the generator's."""
    if mixing is not None and mixing.changed:
        large = [name for name in mixing.names if mixing.share(name) >= SAID]
        shares = ", ".join(f"{name} {mixing.share(name):.0%}" for name in large)
        of_movie = [other.name for other in others if getattr(other, "frames_seen", 1) > 1]
        known = sum(mixing.share(name) for name in (OWN[0], *of_movie))
        if known < 0.5:
            return [
                "the generator explains little of this frame; the contrast of the result is "
                f"a mixture of {shares}"
            ]
        return [_MOSTLY_RESIDUAL] if residual_share > 0.5 else []
    warnings = []
    if choice.filter_wins:
        warnings.append(
            "a plain filter explains the held-out electrons better than the generator; "
            f"{choice.share:.0%} of the result comes from the filter"
        )
    if residual_share > 0.5:
        warnings.append(_MOSTLY_RESIDUAL)
    return warnings


def _warn_of_units(thinned: Thinned | None) -> list[str]:
    """Warnings that a candidate's images are not in electrons, because their mean is far from that
    of the counts."""
    if thinned is None:
        return []
    parts = thinned.parts
    flat = np.float32(parts.level)  # where a candidate knows nothing
    means = [
        mean_of(np.where(np.isfinite(image), image, flat), parts.valid) / parts.level
        for image in thinned.images
    ]
    return [
        f"candidate {other.name}: its image has {mean:.3g} times the mean of the counts; it must "
        "return electrons, like the counts it gets"
        for other, mean in zip(thinned.others, means, strict=True)
        if not 1 / MOST_OFF < mean < MOST_OFF
    ]


def _warn_of_sampling(law: NoiseLaw, dose: float, grids: Grids, patch: int) -> list[str]:
    warnings = []
    if min(grids.binned_shape) < patch:
        warnings.append(
            f"the frame covers {grids.binned_shape[0]}x{grids.binned_shape[1]} generator "
            "px, less than one tile"
        )
    if grids.area < 1:
        warnings.append(
            "the frame's pixels are larger than the generator's: the finest detail of "
            "the result is not in the data"
        )
    if not law.gaussian and dose < 1:
        warnings.append(
            f"only {dose:.2g} electrons per generator pixel: the frame has almost no information"
        )
    return warnings

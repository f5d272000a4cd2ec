"""Which pixel size a generator explains best (docs/trust.md, "The pixel size").

A generator draws lattices of fixed spacings, so a frame whose pixel size is wrong is foreign to it.
Sizes within a factor of RANGE of the given one are tried. First the frame's spectrum is compared
with those of right frames, by the classifier of the goodness of fit (`gdn.trust.fit_law`). It
leaves a few sizes. For each of these the encoder makes an image from a part of the counts, and the
held-out counts decide. The given size is never changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.blas import one_blas_thread
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, bin_sum, grids_for
from gdn.likelihood import Array
from gdn.models import GENERAL, Card, ModelCard
from gdn.search.generator_choice import held_out_nats
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded, bin_parts, split
from gdn.search.tiles import Binned
from gdn.trust.fit_law import FitLaw
from gdn.trust.spectrum import measure_rings

Values = NDArray[np.float64]

RANGE = 1.5  # largest factor between a size and the given one
STEPS = 15  # sizes on either side of the given one, 2.7 % apart
SPLITS = 2  # of the counts, whose nats are averaged: held-out counts are noisy themselves
SPECTRUM = 4.0  # log-odds by which a spectrum may be worse than the best and is still tried
CLEARLY = 10.0  # nats by which another size must be better than the given one
UNDECIDED = 1.3  # sizes that explain the frame equally well lie further apart: nobody can tell
ALIKE = 0.04  # relative difference of pixel sizes that is no difference
WEIGHT = 2.0  # nats that one unit of the spectrum's log-odds is worth
RIGHT = 1.0  # log-odds: the spectrum of a right frame is hardly ever stranger


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """The pixel size of a frame according to a generator, all in Å per pixel.

    - `given`: the size that the frame was denoised with.
    - `best`: the size that explains the frame best; None if that cannot be told.
    - `low`, `high`: the range of sizes that explain it about equally well.
    - `gain_nats`: by how much the best size explains the frame better than `given`: nats of
      held-out counts, and WEIGHT for each unit of the spectrum's log-odds.
    - `odds`: log-odds by its spectrum that the frame is not of the right kind, at the best size; 0
      without a calibration.
    - `model`, `specimen`: the generator, and what it was trained for.
    """

    given: float
    best: float | None
    low: float
    high: float
    gain_nats: float
    odds: float
    model: str
    specimen: str

    @property
    def explained(self) -> bool:
        """Whether the spectrum is one of a right frame, at the best size."""
        return self.odds < RIGHT

    @property
    def contradicts(self) -> bool:
        """Whether another size explains the frame far better than the given one."""
        return (
            self.best is not None
            and self.explained
            and self.gain_nats > CLEARLY
            and abs(math.log(self.best / self.given)) > ALIKE
        )

    @property
    def words(self) -> str:
        """The result in a sentence."""
        if self.specimen == GENERAL:
            return general_words(self.model)
        if not self.explained:
            return (
                f"at no pixel size from {self.given / RANGE:.2g} to {self.given * RANGE:.2g} Å "
                f"does the spectrum of this frame look like one of {self.specimen}"
            )
        if self.best is None:
            return (
                "gdn cannot tell the pixel size of this frame: sizes from "
                f"{self.low:.3g} to {self.high:.3g} Å/px explain it about equally well"
            )
        if self.contradicts:
            return (
                f"{self.best:.3g} Å/px explains this frame far better than the {self.given:.3g} "
                f"given and used; if it shows {self.specimen}, check the pixel size"
            )
        return (
            f"the pixel size given, {self.given:.3g} Å, explains this frame as well as any from "
            f"{self.given / RANGE:.2g} to {self.given * RANGE:.2g} Å"
        )

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "given_angstrom": self.given,
            "best_angstrom": None if self.best is None else round(self.best, 5),
            "low_angstrom": round(self.low, 5),
            "high_angstrom": round(self.high, 5),
            "gain_nats": round(self.gain_nats, 1),
            "spectrum_log_odds": round(self.odds, 2),
            "contradicts": self.contradicts,
            "words": self.words,
        }


def general_words(model: str) -> str:
    """What is said of a model for any crystal."""
    return (
        f"the model {model} is for any crystal and fits almost any pixel size: it cannot tell "
        "which one is right"
    )


@dataclass(frozen=True)
class Explainer:
    """A generator that may explain a frame, with the law of its goodness of fit (None: not
    calibrated; the spectrum is then not used)."""

    searcher: Searcher
    law: FitLaw | None

    @property
    def card(self) -> ModelCard:
        """Of its model."""
        return self.searcher.engine.model.card


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The size number `size` tried with one generator: its `grids`, and the log-odds `odds` of the
    frame's spectrum."""

    size: int
    explainer: Explainer
    grids: Grids
    odds: float


@one_blas_thread()
def find_pixel_size(
    frame: Array,
    sampling_angstrom: float,
    explainers: Sequence[Explainer],
    noise: NoiseModel | None = None,
) -> PixelSize | None:
    """The pixel size that generators explain best, for a `frame` (rows, columns) as recorded.
    All `explainers` are tried at every size, also where their patch is larger than the frame, or a
    size would win only because a better generator fits there; the one counts that explains the
    frame best. Deterministic. None if there is no generator for some specimen.
    Raises ValueError where the noise model contradicts the frame."""
    defects, whole, model = examine(frame, noise, sampling_angstrom)
    sizes = sampling_angstrom * np.exp(np.linspace(-1, 1, 2 * STEPS + 1) * np.log(RANGE))
    electrons = np.asarray(model.electrons(whole), dtype=np.float32)
    trials = []
    for number, size in enumerate(sizes.tolist()):
        rings: dict[Grids, Values] = {}
        for explainer in explainers:
            if explainer.card.specimen.material == GENERAL:
                continue
            shape = (frame.shape[0], frame.shape[1])
            grids = grids_for(shape, size, explainer.card.sampling_angstrom)
            on_grid = Recorded(electrons=electrons, law=model.law, grids=grids, bad=defects.bad)
            if grids not in rings:
                rings[grids] = _rings(on_grid, electrons)
            odds = 0.0
            if explainer.law is not None:
                odds = float(explainer.law.spectrum.odds(rings[grids][None])[0])
            trials.append(Trial(size=number, explainer=explainer, grids=grids, odds=odds))
    if not trials:
        return None
    recorded = Recorded(electrons=electrons, law=model.law, grids=trials[0].grids, bad=defects.bad)
    return decide(sizes, _plausible(trials), _explained(recorded, _plausible(trials)))


def untold(given: float, card: Card) -> PixelSize:
    """Nothing is known: of a model for any crystal."""
    return PixelSize(
        given=given,
        best=None,
        low=given / RANGE,
        high=given * RANGE,
        gain_nats=0.0,
        odds=0.0,
        model=card.name,
        specimen=card.specimen.material,
    )


def _rings(recorded: Recorded, electrons: Array) -> Values:
    """Features of the frame's spectrum on the grid of `recorded`."""
    grids = recorded.grids
    binned = Binned(bin_sum(electrons, grids), recorded.law.of_sum(grids.area), recorded.valid)
    return measure_rings(binned, float(np.mean(grids.binned_sampling)))


def _plausible(trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose spectrum is not clearly stranger than that generator's best one, and those
    of the given size."""
    least: dict[str, float] = {}
    for trial in trials:
        name = trial.explainer.card.name
        least[name] = min(trial.odds, least.get(name, np.inf))
    return [
        trial
        for trial in trials
        if trial.size == STEPS or trial.odds <= least[trial.explainer.card.name] + SPECTRUM
    ]


def _explained(recorded: Recorded, trials: Sequence[Trial]) -> Values:
    """Nats of each trial (n,), without the residual, which draws anything."""
    nats, seed = np.zeros(len(trials)), trials[0].explainer.searcher.bank.seed
    for number in range(SPLITS):
        parts = split(recorded.electrons, recorded.law, seed + number)
        for k, trial in enumerate(trials):
            part = replace(recorded, electrons=parts.first, grids=trial.grids, depth=1)
            binned = bin_parts(parts, trial.grids, part.valid)
            nats[k] += held_out_nats(binned, trial.explainer.searcher, residual=False)
    return nats / SPLITS


def decide(sizes: Values, trials: Sequence[Trial], nats: Values) -> PixelSize:
    """The pixel size from the `nats` (n,) of `trials` at some of the `sizes`, of which the middle
    one is given."""
    score, best_trials = np.full(len(sizes), -np.inf), {}
    for trial, value in zip(trials, nats.tolist(), strict=True):
        total = value - WEIGHT * trial.odds
        if total > score[trial.size]:
            score[trial.size], best_trials[trial.size] = total, (trial, value)
    best, middle = int(np.argmax(score)), len(sizes) // 2
    trial, value = best_trials[best]
    alike = sizes[score >= score[best] - CLEARLY]
    low, high = float(alike.min()), float(alike.max())
    told = value > CLEARLY and high / low < UNDECIDED
    return PixelSize(
        given=float(sizes[middle]),
        best=_peak(sizes, score, best) if told else None,
        low=low,
        high=high,
        gain_nats=float(score[best] - score[middle]),
        odds=trial.odds,
        model=trial.explainer.card.name,
        specimen=trial.explainer.card.specimen.material,
    )


def _peak(sizes: Values, nats: Values, best: int) -> float:
    """The size at the top of the parabola through the best size and its neighbours."""
    around = nats[max(best - 1, 0) : best + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return float(sizes[best])
    before, top, after = around
    bend = before - 2 * top + after
    move = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(sizes[best] * (sizes[1] / sizes[0]) ** move)

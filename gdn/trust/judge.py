"""The judgement of a denoised frame: spread, goodness of fit, held-out scores, columns, and
warnings in words (docs/method.md, "Trust")."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gdn.blas import one_blas_thread
from gdn.errors import InputError
from gdn.likelihood import Array
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate
from gdn.search.progress import Progress
from gdn.search.settings import Searcher, SearchSettings
from gdn.trust.calibration import LEVELS, Calibration
from gdn.trust.comparison import Comparison, Expected
from gdn.trust.fit import REFUSED, Explained, explain_counts, shown_share
from gdn.trust.held_out_score import (
    denoise_part,
    recover_recorded,
    score_held_out,
    score_on_following,
)
from gdn.trust.pixel_size import PixelSize
from gdn.trust.spread import nested, spread_of
from gdn.trust.standing import Standing, standing_of

if TYPE_CHECKING:
    from gdn.trust.atoms import Atoms

RATE = 0.05  # stated false-discovery rate of columns


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What is judged.

    - `score`: the held-out score, which needs a second search.
    - `atoms`: columns.
    - `rate`: their false-discovery rate.
    - `seed`: of the split of the counts.
    - `intervals`: levels in per cent whose half-widths are wanted as images.
    """

    score: bool = True
    atoms: bool = False
    rate: float = RATE
    seed: int = 0
    intervals: tuple[int, ...] = ()


def levels_of(text: str) -> tuple[int, ...]:
    """'50,90' -> (50, 90). Raises InputError for a level that is not calibrated."""
    levels = [entry.strip() for entry in text.split(",") if entry.strip()]
    wrong = [entry for entry in levels if entry not in map(str, LEVELS)]
    if wrong:
        raise InputError(
            f"intervals {text}: choose from {', '.join(map(str, LEVELS))}, separated by commas",
            "intervals",
        )
    return tuple(int(entry) for entry in levels)


@dataclass(frozen=True, kw_only=True)
class Trust:
    """How far to believe a result.

    - `spread`: in the frame's units and shape.
    - `intervals`: half-widths in the same units and shape for other levels in per cent, if asked
      for.
    - `calibrated`: whether these are calibrated.
    - `fit`: how well the generator explains the frame (None: there is no calibration).
    - `scores`: against the best blur and the constant; empty if not asked for.
    - `atoms`: the columns, if asked for.
    - `own`: the result's mean squared error.
    - `warnings`: in words.
    - `pixel_size`: which one explains the frame best, if that was looked for.
    """

    spread: Array
    intervals: dict[int, Array]
    calibrated: bool
    fit: Explained | None
    scores: list[Comparison]
    atoms: Atoms | None
    own: Expected
    warnings: list[str] = field(default_factory=list)
    pixel_size: PixelSize | None = None

    @property
    def explained(self) -> bool:
        """Whether the generator may explain the frame, as far as that is known."""
        return self.fit is None or self.fit.p >= REFUSED

    def with_pixel_size(self, size: PixelSize) -> Trust:
        """The same with what was found out about the pixel size; a warning if the given one is
        wrong."""
        warnings = [*self.warnings, *([size.words] if size.contradicts else [])]
        return replace(self, pixel_size=size, warnings=warnings)

    @property
    def against_blur(self) -> Comparison | None:
        """The score against the best Gaussian blur, where scores were asked for."""
        return next((c for c in self.scores if c.against == "best blur"), None)

    @cached_property
    def standing(self) -> Standing | None:
        """What the result may be called and used for, as far as that is known."""
        return standing_of(None if self.fit is None else self.fit.p, self.against_blur)

    def row(self) -> dict[str, Any]:
        """The entries that it adds to the JSON of a frame."""
        blur = self.against_blur
        gain = {} if blur is None else blur.record()
        return {
            "explained_p": None if self.fit is None else round(self.fit.p, 4),
            "standing": None if self.standing is None else self.standing.name,
            "heldout_gain_db": gain.get("gain_db"),
            "heldout_gain_se_db": gain.get("gain_se_db"),
            "heldout_gain_why": gain.get("gain_why"),
            "atoms": None if self.atoms is None else self.atoms.counts(),
            "pixel_size": None if self.pixel_size is None else self.pixel_size.record(),
            "warnings": self.warnings,
        }

    def detail(self) -> dict[str, Any]:
        """The other entries that it adds to the record."""
        return {
            "spread_calibrated": self.calibrated,
            "expected_rms_error_of_vacuum": _finite(self.own.square**0.5),
            "tiles_explained_p": None
            if self.fit is None
            else [round(float(p), 4) for p in self.fit.tiles],
            "held_out_scores": [score.record() for score in self.scores],
            "missing_columns": None if self.atoms is None else self.atoms.missing,
            "false_discovery_rate": None if self.atoms is None else self.atoms.rate,
        }


def leave_unjudged(result: FrameResult) -> Trust:
    """The trust of a result that has no estimate on a generator's grid, so that nothing can be
    judged."""
    return Trust(
        spread=result.raw_spread,
        intervals={},
        calibrated=False,
        fit=None,
        scores=[],
        atoms=None,
        own=Expected(float("nan")),
        warnings=result.warnings,
    )


@one_blas_thread()
def judge(
    frame: Array,
    result: FrameResult,
    searcher: Searcher,
    calibration: Calibration | None,
    settings: JudgeSettings,
    progress: Progress = lambda share: None,
) -> Trust:
    """Judge the result of a `frame` (rows, columns), as recorded. `searcher` is the one that
    `denoise_frame` was given.

    The calibration holds for the default estimate only; other estimates keep the raw spread.
    """
    estimate = result.estimate
    if estimate is None:
        return leave_unjudged(result)
    law = calibration if searcher.settings.estimate == "mean" else None
    spread = spread_of(estimate, law)
    deviation, calibrated = spread.of_one_deviation, spread.calibrated
    own = expect_error(deviation, estimate.dose, law)
    sampling = float(np.mean(result.grids.binned_sampling))
    fit = (
        explain_counts(estimate, sampling, law.fit_of(shown_share(estimate.tiling)))
        if law
        else None
    )
    half_width = result.on_frame(deviation)
    levels = nested(
        {level: result.on_frame(spread.level(level)) for level in settings.intervals}, half_width
    )
    del spread, deviation  # of a large frame a few hundred megabytes, and another search is to come
    scores = []
    if settings.score:
        halves = denoise_part(
            estimate,
            lambda: recover_recorded(frame, result, searcher.stream),
            settings.seed,
            searcher,
            progress,
        )
        scores = score_held_out(halves, own)
    atoms = None
    if settings.atoms and law:
        from gdn.trust.atoms import find_atoms

        atoms = find_atoms(estimate, result.grids, law.columns, settings.rate)
    warnings = [*result.warnings, *_warn_of_trust(law, searcher.settings, fit, scores, settings)]
    return Trust(
        spread=half_width,
        intervals=levels,
        calibrated=calibrated,
        fit=fit,
        scores=scores,
        atoms=atoms,
        own=own,
        warnings=warnings,
    )


def _warn_of_trust(
    law: Calibration | None,
    search: SearchSettings,
    fit: Explained | None,
    scores: list[Comparison],
    settings: JudgeSettings,
) -> list[str]:
    """Warnings in words."""
    warnings = []
    if law is None:
        why = (
            "the calibration is for estimate mean"
            if search.estimate != "mean"
            else "the model has no calibration"
        )
        warnings.append(
            f"the spread is not calibrated ({why})"
            + ("; atom columns cannot be tested" if settings.atoms else "")
        )
    if fit is not None and fit.p < REFUSED:
        warnings.append(fit.words)
    warnings += [
        f"on held-out electrons the result is worse than the {c.against}"
        for c in scores
        if c.verdict == "worse"
    ]
    return warnings


def expect_error(spread: Array, dose: float, law: Calibration | None) -> Expected:
    """A result's mean squared error according to its `spread` (electrons per binned pixel, like
    `dose`; docs/method.md, "Trust", "Spread")."""
    square = float((spread.astype(np.float64) ** 2).mean()) / dose**2
    if law is None:
        return Expected(square, float("nan"))
    square *= law.spread.frame_factor
    return Expected(square, square * law.spread.frame_log_error)


def _finite(value: float) -> float | None:
    """JSON has neither infinity nor nan."""
    return round(value, 6) if np.isfinite(value) else None


def next_frame(estimate: Estimate, following: Estimate, own: Expected) -> list[Comparison]:
    """The scores of one frame's result on the counts of the next frame, if both have the same
    size."""
    if estimate.binned.counts.shape != following.binned.counts.shape:
        return []
    return score_on_following(estimate, following.binned, own)

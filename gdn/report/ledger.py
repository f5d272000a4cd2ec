"""Collect the scores and pictures of a run's frames, for the pooled score and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array
from gdn.pipeline.recording import JudgedFrame
from gdn.report.charts import histogram, ranked
from gdn.report.pictures import Picture, pictures_of, share_map, unit_of, whitened_residual
from gdn.report.profile import profile_of
from gdn.report.shares import LegendLine, legend
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate
from gdn.trust.comparison import Comparison, Pool
from gdn.trust.fit import REFUSED
from gdn.trust.judge import Trust

PICTURES = 40  # frames with pictures in a report; all are in its table


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A frame in the report.

    - `file`, `frame`: the file's name, and the frame's number in it.
    - `row`: of the table.
    - `noise`: in words.
    - `expected_rms`: of the result's error, as a share of the vacuum level.
    - `scores`: against the best blur and the constant.
    - `missing`: number of missing columns, if columns were asked for.
    - `calibrated`: whether the spread is.
    - `explained`: whether the generator may explain the frame.
    - `pictures`, `profile`, `charts`: pictures, and charts as SVG, if any.
    - `standing`: the words for what the result may be used for.
    - `candidates`: the legend of the picture of their shares.
    """

    file: str
    frame: int
    row: dict[str, Any]
    noise: str
    expected_rms: float
    scores: list[Comparison]
    missing: int | None
    calibrated: bool
    explained: bool = True
    pictures: list[Picture] = field(default_factory=list)
    profile: str = ""
    standing: str = ""
    charts: list[str] = field(default_factory=list)
    candidates: list[LegendLine] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the page calls the frame."""
        return f"{self.file} [{self.frame}]"


@dataclass(kw_only=True)
class Ledger:
    """Sees every frame of a run (`gdn.pipeline.denoise_file.Witness`).

    - `keep`: store an entry for each frame, for a report, not only what the pooled score needs.
    - `pictures`: the first PICTURES entries have pictures.
    - `entries`: one for each frame.
    - `pools`: the pooled scores, by the name of the other image.
    - `frames`, `scored`, `unlike`: how many frames there were, how many had scores, and how many
      the generator cannot explain.
    """

    keep: bool = False
    pictures: bool = True
    entries: list[Entry] = field(default_factory=list)
    pools: dict[str, Pool] = field(default_factory=dict)
    frames: int = 0
    scored: int = 0
    unlike: int = 0

    def __call__(self, source: Path, index: int, frame: Array, judged: JudgedFrame) -> None:
        """Remember a frame."""
        result, trust = judged.result, judged.trust
        show = self.pictures and self.frames < PICTURES
        self._count(trust.explained, trust.scores)
        if not self.keep:
            return
        noise = result.noise
        level = (
            f"read noise {noise.read_noise:.3g}"
            if noise.kind == "gaussian"
            else f"{result.dose:.3g} e/px in vacuum"
        )
        noise_words = (
            f"{noise.kind}, {level}, gain {noise.gain:.3g}, offset {noise.offset:.3g} ({noise.how})"
        )
        self.entries.append(
            Entry(
                file=source.name,
                frame=index,
                row=_row(result, trust),
                noise=noise_words,
                expected_rms=trust.own.square**0.5,
                scores=trust.scores,
                missing=None if trust.atoms is None else trust.atoms.missing,
                calibrated=trust.calibrated,
                explained=trust.explained,
                standing="" if trust.standing is None else trust.standing.words,
                pictures=pictures_of(frame, result, trust) if show else [],
                profile=_profile(frame, result, trust) if show else "",
                charts=_charts(result.estimate) if show and result.estimate else [],
                candidates=legend(shares) if (shares := share_map(result)) else [],
            )
        )

    def add(self, entry: Entry) -> None:
        """Remember what another ledger saw of a frame."""
        self._count(entry.explained, entry.scores)
        if self.keep:
            self.entries.append(entry)

    def _count(self, explained: bool, scores: list[Comparison]) -> None:
        self.frames += 1
        self.scored += bool(scores)
        self.unlike += not explained
        for score in scores:
            self.pools.setdefault(score.against, Pool()).add(score)

    def pooled(self) -> list[Comparison]:
        """The scores over all frames that have them."""
        return [pool.result() for pool in self.pools.values()]

    def score_words(self) -> list[str]:
        """The scores of several frames together, a sentence each."""
        if self.scored < 2:
            return []
        return [
            f"{self.scored} frames, on held-out electrons: {sentence(c)}" for c in self.pooled()
        ]

    def words(self) -> list[str]:
        """What the page says of several frames together."""
        said = self.score_words()
        if self.unlike and self.frames > 1:
            said.append(
                f"{self.unlike} of {self.frames} frames cannot be explained by the generator "
                f"(p < {REFUSED:g})"
            )
        return said


def sentence(c: Comparison) -> str:
    """A comparison in words."""
    words = {
        "better": f"gdn is better than the {c.against}",
        "worse": f"gdn is WORSE than the {c.against}",
        "not resolved": f"gdn and the {c.against} cannot be told apart",
    }
    return f"{words[c.verdict]} ({decibels(c)})"


def decibels(c: Comparison) -> str:
    """A comparison's gain with its standard error, if that is known. Where the error leaves nothing
    of the gain, as in an empty field, that is said instead."""
    if c.unresolved:
        return c.unresolved
    error = c.gain_error_db
    return f"{c.gain_db:+.2f}" + (f" ± {error:.2f} dB" if np.isfinite(error) else " dB")


def _row(result: FrameResult, trust: Trust) -> dict[str, Any]:
    sampling = result.grids.sampling_angstrom
    return trust.row() | {
        "dose": result.dose,
        "objective": result.objective,
        "sampling_angstrom": sampling,
        "frame_shape": result.grids.frame_shape,
    }


def _profile(frame: Array, result: FrameResult, trust: Trust) -> str:
    """The chart of a line profile, where the offset and gain are those of electrons."""
    noise, field_angstrom = result.noise, frame.shape[1] * result.grids.sampling_angstrom
    if noise.gain <= 0 or noise.offset != 0:
        return ""
    spread = np.nan_to_num(trust.spread)
    chart = profile_of(frame, result.image, spread, unit_of(noise), field_angstrom)
    return chart.svg()


def _charts(estimate: Estimate) -> list[str]:
    residual: NDArray[np.float64] = whitened_residual(estimate).ravel().astype(np.float64)
    charts = [
        histogram(residual, "residual; dashed: pure noise", "standard deviations of the noise")
    ]
    above = _above_best(estimate)
    return [
        *charts,
        ranked(above, "restarts: nats above the best", "restart, best first (mean over tiles)"),
    ]


def _above_best(estimate: Estimate) -> NDArray[np.float64]:
    """How far the restarts' objectives lie above the best one, by rank; mean over tiles."""
    fit = estimate.fit
    groups = [np.sort(fit.objectives[fit.tile == t]) for t in range(len(fit.objective))]
    depth = min(len(g) for g in groups)
    return np.asarray(np.mean([g[:depth] - g[0] for g in groups], 0))

"""Collect the scores and pictures of a run's frames, for the pooled score and the report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdn.likelihood import Array
from gdn.pipeline.recording import JudgedFrame
from gdn.report.shares import CAPTION, LegendLine, legend, share_picture
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate
from gdn.search.share_map import ShareMap
from gdn.trust.fit import REFUSED
from gdn.trust.held_out_score import Comparison, Pool
from gdn.trust.judge import Trust

PICTURES = 40  # frames with pictures in a report; all are in its table
PIXELS = 560  # of a picture, longer side
QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One frame: its row of the table, and its pictures, if any, as (caption, data URI or SVG).
    `candidates` is the legend of the picture of their shares."""

    name: str
    row: dict[str, Any]
    noise: str
    expected_rms: float
    scores: list[Comparison]
    missing: int | None
    calibrated: bool
    pictures: list[tuple[str, str]] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    candidates: list[LegendLine] = field(default_factory=list)


@dataclass(kw_only=True)
class Ledger:
    """Sees every frame of a run (`gdn.pipeline.denoise_file.Witness`). With `keep` it stores an
    entry for each frame, for a report; with `pictures` the first PICTURES of them have pictures.
    Without `keep` it stores only what the pooled score needs."""

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
        show = self.keep and self.pictures and self.frames < PICTURES
        noise = result.noise
        level = (
            f"read noise {noise.read_noise:.3g}"
            if noise.kind == "gaussian"
            else f"{result.dose:.3g} e/px in vacuum"
        )
        noise_words = (
            f"{noise.kind}, {level}, gain {noise.gain:.3g}, offset {noise.offset:.3g} ({noise.how})"
        )
        self.add(
            Entry(
                name=f"{source.name} [{index}]",
                row=trust.row() | {"dose": result.dose, "objective": result.objective},
                noise=noise_words,
                expected_rms=trust.own.square**0.5,
                scores=trust.scores,
                missing=None if trust.atoms is None else trust.atoms.missing,
                calibrated=trust.calibrated,
                pictures=_pictures(frame, result, trust) if show else [],
                charts=_charts(result.estimate) if show and result.estimate else [],
                candidates=legend(shares) if show and (shares := share_map(result)) else [],
            )
        )

    def add(self, entry: Entry) -> None:
        """Remember what was seen of a frame."""
        self.frames += 1
        self.scored += bool(entry.scores)
        self.unlike += entry.row["explained_p"] is not None and entry.row["explained_p"] < REFUSED
        for score in entry.scores:
            self.pools.setdefault(score.against, Pool()).add(score)
        if self.keep:
            self.entries.append(entry)

    def pooled(self) -> list[Comparison]:
        """The scores over all frames that have them."""
        return [pool.result() for pool in self.pools.values()]

    def words(self) -> list[str]:
        """The text to print after a run of several frames."""
        said = []
        if self.scored > 1:
            said = [
                f"{self.scored} frames, on held-out electrons: {sentence(c)}" for c in self.pooled()
            ]
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
    """A comparison's gain with its standard error, if that is known."""
    error = f" ± {c.gain_error_db:.2f}" if np.isfinite(c.gain_error_db) else ""
    return f"{c.gain_db:+.2f}{error} dB"


def whitened_residual(estimate: Estimate) -> Array:
    """(counts - result) / standard deviation of the noise, on the generator's grid."""
    sigma = estimate.binned.law.deviation(estimate.image)
    return np.asarray((estimate.binned.counts - estimate.image) / sigma, dtype=np.float32)


def share_map(result: FrameResult) -> ShareMap | None:
    """The map of the candidates' local shares, if the frame is a mixture."""
    mixed = None if result.estimate is None else result.estimate.mixed
    return None if mixed is None else mixed.map


def data_uri(picture: Image.Image, kind: str = "JPEG") -> str:
    """The picture as text inside a page: in base64, as JPEG, or as PNG if areas have few
    colours."""
    stream = io.BytesIO()
    picture.save(stream, format=kind, quality=QUALITY)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode()


def _pictures(frame: Array, result: FrameResult, trust: Trust) -> list[tuple[str, str]]:
    from gdn.pipeline.column_picture import gray_picture, overlay

    pictures = [
        ("noisy", gray_picture(frame, PIXELS)),
        ("denoised", gray_picture(result.image, PIXELS)),
    ]
    if np.isfinite(trust.spread).any():
        top = float(np.nanpercentile(trust.spread, 99.5))
        level = max(abs(float(np.nanmean(result.image)) - result.noise.offset), 1e-30)
        pictures.append(
            (
                f"spread, white = {100 * top / level:.2g} % of the mean",
                gray_picture(trust.spread, PIXELS, 0.0, top),
            )
        )
    if result.estimate is not None:
        residual = gray_picture(whitened_residual(result.estimate), PIXELS, -4, 4)
        pictures.append(
            (
                "residual divided by its noise, -4 to 4",
                residual.resize(pictures[0][1].size, Image.Resampling.NEAREST),
            )
        )
    if trust.atoms is not None:
        pictures.append(("columns", overlay(result.image, trust.atoms, PIXELS)))
    if trust.fit is not None:
        spots = gray_picture(trust.fit.map, PIXELS, -5, 5).resize(
            pictures[0][1].size, Image.Resampling.NEAREST
        )
        pictures.append(("misfit of the generator, -5 to 5 standard deviations", spots))
    uris = [(caption, data_uri(picture)) for caption, picture in pictures]
    if shares := share_map(result):
        picture = share_picture(shares, pictures[0][1].size)
        uris.insert(2, (CAPTION, data_uri(picture, "PNG")))
    return uris


def _charts(estimate: Estimate) -> list[str]:
    from gdn.report.charts import histogram, ranked

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

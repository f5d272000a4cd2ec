"""Add noise to clean frames, denoise with gdn and its comparators, and measure (docs/method.md,
"Metrics")."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gdn.blas import one_blas_thread
from gdn.engines.restorer import RestorerSession
from gdn.evaluation.comparators import COMPARATORS, Case, Comparator
from gdn.evaluation.metrics import Image, column_score, psnr, ssim
from gdn.evaluation.noise_suite import Noise
from gdn.pipeline.recording import RecordingDenoiser
from gdn.search.denoise_frame import FrameResult
from gdn.search.original import original_frame
from gdn.search.settings import OriginalSettings

DEFAULT_AGAINST = ("noisy", "constant", "blur", "bm3d-binned")


@dataclass(frozen=True)
class CleanFrame:
    """A clean frame in the study's units (vacuum 0.45)."""

    file: str
    frame: int
    image: Image
    sampling_angstrom: float


@dataclass
class FrameEvaluation:
    """Rows of the table, and the last images made (for figures)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    result: FrameResult | None = None


@dataclass(frozen=True)
class Rivals:
    """The methods with which gdn is compared: `names` of `comparators`; or `original`, the study's
    own search with these settings."""

    names: tuple[str, ...] = DEFAULT_AGAINST
    comparators: Mapping[str, Comparator] = field(default_factory=lambda: COMPARATORS)
    original: OriginalSettings = field(default_factory=OriginalSettings)


@one_blas_thread()
def evaluate_frame(
    clean: CleanFrame,
    noise: Noise,
    recording: RecordingDenoiser,
    seed: int,
    rivals: Rivals,
) -> FrameEvaluation:
    """Evaluate one frame at one noise of `seed`: a row for each of the `rivals`, and for gdn, by
    `recording`."""
    case = Case(clean.image, noise.apply(clean.image, seed), noise, clean.sampling_angstrom)
    done = FrameEvaluation()

    def add(method: str, make: Callable[[], Image]) -> None:
        started = time.perf_counter()
        image = make()
        seconds = time.perf_counter() - started
        done.images[method] = image
        done.rows.append(_row(clean, noise, method, case, image, seconds))

    def run_original() -> Image:
        assert not isinstance(recording.engine, RestorerSession)
        steps = replace(rivals.original, seed=seed)
        return original_frame(case.noisy, case.sampling_angstrom, recording.engine, steps).image

    for method in rivals.names:
        if method == "original":
            add(method, run_original)
        else:
            add(method, lambda name=method: rivals.comparators[name](case))  # type: ignore[misc]

    def run() -> Image:
        done.result = recording.search(case.noisy, case.sampling_angstrom)
        return done.result.image

    add("gdn", run)
    done.images["noisy"] = case.noisy
    return done


def _row(
    clean: CleanFrame, noise: Noise, method: str, case: Case, image: Image, seconds: float
) -> dict[str, Any]:
    columns = column_score(case.clean, image, case.sampling_angstrom)
    score = {name: None if np.isnan(v) else round(v, 4) for name, v in vars(columns).items()}
    return {
        "file": clean.file,
        "frame": clean.frame,
        "noise": str(noise),
        "method": method,
        "psnr_db": round(psnr(case.clean, image), 3),
        "ssim": round(ssim(case.clean, image), 4),
        "columns": score,
        "seconds": round(seconds, 3),
    }


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation over frames for every noise and method, in order of
    appearance."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["noise"], row["method"]), []).append(row)
    for (noise, method), group in groups.items():
        db = np.array([r["psnr_db"] for r in group])
        f1 = [r["columns"]["f1"] for r in group if r["columns"]["f1"] is not None]
        yield {
            "noise": noise,
            "method": method,
            "n": len(group),
            "psnr_mean": float(db.mean()),
            "psnr_sd": float(db.std(ddof=1)) if len(db) > 1 else 0.0,
            "psnr_min": float(db.min()),
            "ssim_mean": float(np.mean([r["ssim"] for r in group])),
            "f1_mean": float(np.mean(f1)) if f1 else float("nan"),
            "seconds_mean": float(np.mean([r["seconds"] for r in group])),
        }


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    lines = [
        "| noise | method | n | PSNR dB (sd) | worst | SSIM | column F1 | s/frame |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for s in summary(rows):
        method = "blur (sigma from truth)" if s["method"] == "blur" else s["method"]
        lines.append(
            f"| {s['noise']} | {method} | {s['n']} | {s['psnr_mean']:.2f} "
            f"({s['psnr_sd']:.2f}) | {s['psnr_min']:.2f}"
            f" | {s['ssim_mean']:.3f} | {s['f1_mean']:.2f} | {s['seconds_mean']:.1f} |"
        )
    return "\n".join(lines)

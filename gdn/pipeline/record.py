"""The JSON record of a denoising: everything that is needed to repeat it, and the results of every
frame."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gdn import __version__
from gdn.frames.scan import Scan
from gdn.likelihood import Array
from gdn.models import LEARNED
from gdn.pipeline.output_files import Outputs
from gdn.pipeline.recording import JudgedFrame, RecordingDenoiser
from gdn.search.band_mixture import Candidate
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate
from gdn.search.restored import RestorerCandidate
from gdn.trust.comparison import Comparison
from gdn.trust.judge import Trust, next_frame

RECORD_SCHEMA = 3  # 2: how far to trust a frame; 3: the files that were written, and whose they are
# What a row says of a frame that was judged, null of one that was not.
NO_JUDGEMENT = (
    "explained_p",
    "standing",
    "heldout_gain_db",
    "heldout_gain_se_db",
    "heldout_gain_why",
    "atoms",
    "pixel_size",
)
NO_PIXELS: Array = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class FrameSummary:
    """A frame's result and judgement without their pixels, its scores on the next frame's counts,
    and what was taken off its rows."""

    result: FrameResult
    trust: Trust
    following: list[Comparison] = field(default_factory=list)
    scan: Scan | None = None


@dataclass(frozen=True)
class FrameLeftOut:
    """A frame of a stack that could not be denoised, and why, in one line."""

    reason: str


class RecordKeeper:
    """Collects what a recording's record says of its frames, in order, without their pixels: a long
    stack must not gather in memory. Every frame is also scored on the counts of the next one."""

    def __init__(self) -> None:
        self.frames: list[FrameSummary | FrameLeftOut] = []
        self._before: Estimate | None = None

    def leave_out(self, reason: str) -> None:
        """Remember that the next frame could not be denoised."""
        self.frames.append(FrameLeftOut(reason))
        self._before = None

    def add(self, judged: JudgedFrame) -> None:
        """Remember the next frame."""
        result, trust = judged.result, judged.trust
        if self._before is not None and result.estimate is not None:
            last = self.frames[-1]
            assert isinstance(last, FrameSummary)
            self.frames[-1] = replace(
                last, following=next_frame(self._before, result.estimate, last.trust.own)
            )
        self._before = result.estimate and replace(result.estimate, thinned=None)
        fit = trust.fit and replace(trust.fit, map=NO_PIXELS)
        small = replace(trust, spread=NO_PIXELS, intervals={}, fit=fit)
        self.frames.append(
            FrameSummary(
                replace(result, image=NO_PIXELS, raw_spread=NO_PIXELS, estimate=None, bad=None),
                small,
                scan=judged.scan,
            )
        )

    def rows(
        self,
        recording: RecordingDenoiser,
        sampling_angstrom: float,
        source: Path | None = None,
        outputs: Outputs | None = None,
    ) -> list[dict[str, Any]]:
        """One JSON object for each frame, as `gdn denoise --json` prints it; paths are null for
        what is not in a file."""
        of_file = {
            "input": None if source is None else str(source),
            "output": None if outputs is None else str(outputs.denoised),
            "spread": str(outputs.spread) if outputs and outputs.with_spread else None,
            "sampling_angstrom": sampling_angstrom,
        }
        return [_row(of_file, recording, *numbered) for numbered in enumerate(self.frames)]

    def details(self) -> list[dict[str, Any]]:
        """What the record holds of each frame besides."""
        return [_detail(frame) for frame in self.frames]


def _row(
    of_file: dict[str, Any],
    recording: RecordingDenoiser,
    index: int,
    frame: FrameSummary | FrameLeftOut,
) -> dict[str, Any]:
    made_by = {
        "model": recording.engine.model.card.name,
        "engine": recording.engine.name,
        "restarts": recording.search_record["restarts"],
        "seed": recording.options.seed,
    }
    row = {"input": of_file["input"], "frame": index, **of_file, **made_by}
    if isinstance(frame, FrameLeftOut):
        names = ("noise", "objective", "tiles", "tiles_from_bank", "seconds", *NO_JUDGEMENT)
        return row | dict.fromkeys(names) | {"warnings": [f"not denoised: {frame.reason}"]}
    result, noise = frame.result, frame.result.noise
    return (
        row
        | {
            "noise": {
                "kind": noise.kind,
                "gain": noise.gain,
                "offset": noise.offset,
                "dose": result.dose,
                "read_noise": noise.read_noise,
            },
            "objective": result.objective if np.isfinite(result.objective) else None,
            "tiles": result.tiles,
            "tiles_from_bank": round(result.bank_share * result.tiles),
            "seconds": round(sum(result.seconds.values()), 3),
        }
        | frame.trust.row()
    )


def _detail(frame: FrameSummary | FrameLeftOut) -> dict[str, Any]:
    if isinstance(frame, FrameLeftOut):
        return {"left_out": frame.reason}
    result = frame.result
    return {
        "noise_how": result.noise.how,
        "objectives": [round(o, 3) for o in result.objectives],
        "best_from_bank_share": round(result.bank_share, 4),
        "residual_share": round(result.residual_share, 4),
        "held_out": _finite(asdict(result.held_out)),
        "scan": None if frame.scan is None else frame.scan.record(),
        "stages": result.seconds,
        "mixture": None if result.mixing is None else result.mixing.record(),
        "next_frame_scores": [score.record() for score in frame.following],
    } | frame.trust.detail()


def key_of(content: str, recording: RecordingDenoiser, reading: dict[str, Any]) -> str:
    """Hash of everything that determines a result: the input's `content` hash, the models, the
    engine, the settings, the version, and in `reading` how the input is read."""
    settings = (
        recording.search_record
        | {
            "others": [other.identity for other in recording.others],
            "rivals": list(recording.rivals),
        }
        | reading
    )
    parts = [content, recording.engine.model.hash, recording.engine.name, settings, __version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def document(
    key: str,
    input_record: dict[str, Any],
    sampling_angstrom: float,
    recording: RecordingDenoiser,
    frames: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The whole record, as NAME_gdn.json holds it."""
    engine = recording.engine
    return {
        "schema": RECORD_SCHEMA,
        "key": key,
        "input": input_record,
        "sampling_angstrom": sampling_angstrom,
        "model": {
            "name": engine.model.card.name,
            "sha256": engine.model.hash,
            "sampling_angstrom": engine.model.card.sampling_angstrom,
        },
        "generators_nats": dict(recording.nats),
        "others": [_candidate(other) for other in recording.others],
        "engine": {"name": engine.name, "device": engine.device, "reason": engine.reason},
        "search": recording.search_record,
        "versions": {
            "gdn": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
        },
        "frames": list(frames),
    }


def _candidate(other: Candidate) -> dict[str, Any]:
    """One of the candidates beside the generator; of a network that learned from the recording also
    for how many steps, those that `--adapt-steps` takes, and from what."""
    record: dict[str, Any] = {"name": other.name, "identity": other.identity}
    if isinstance(other, RestorerCandidate) and other.name in LEARNED:
        training = other.session.model.card.training
        kept = ("from", "frames", "settings", "learned", "steps")
        record["training"] = {name: training[name] for name in kept if name in training}
    return record


def signature(recording: RecordingDenoiser) -> str:
    """Program, model and seed in one line, for the images' own metadata."""
    model, seed = recording.engine.model, recording.options.seed
    return f"gdn {__version__}, model {model.card.name} {model.hash[:16]}, seed {seed}"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a number that is not finite becomes null."""
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }

"""Files in, files out: one input becomes a denoised TIFF, a spread TIFF, a JSON record, and the table of its columns."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gdn import __version__
from gdn.engines.base import Engine
from gdn.engines.observation import Array
from gdn.engines.restorer import RestorerSession
from gdn.frames.files import result_writer, writing
from gdn.frames.noise import NoiseModel
from gdn.frames.pixels import filled
from gdn.frames.source import FrameError, FrameFile
from gdn.report.figure import save_atoms
from gdn.report.outputs import Outputs, Style, is_done, job_key
from gdn.search.bank import Bank
from gdn.search.denoise import FrameResult, denoise_frame
from gdn.search.estimate import Estimate
from gdn.search.mixture import Candidate
from gdn.search.original import OriginalSettings, original_frame
from gdn.search.restored import restore_frame
from gdn.search.tiles import SearchSettings
from gdn.trust.calibration import Calibration, calibration_of
from gdn.trust.heldout import Comparison
from gdn.trust.judge import JudgeSettings, Trust, judge, next_frame, score_record, unjudged

NO_PIXELS: Array = np.zeros((0, 0), np.float32)

RECORD_SCHEMA = 2  # 2: how far to trust a frame
Witness = Callable[[Path, int, Array, FrameResult, Trust], None]  # sees every frame with its result


@dataclass(frozen=True)
class Job:
    """What every file of a run shares. `sampling_angstrom` overrides the files' own. A restorer alone is an `engine` without
    a bank; beside a generator it is one of the `others`, the candidates of a mixture."""

    engine: Engine | RestorerSession
    bank: Bank | None
    seed: int
    settings: SearchSettings
    noise: NoiseModel | None
    noise_text: str
    sampling_angstrom: float | None
    original: OriginalSettings | None = None  # the study's search instead of gdn's
    judging: JudgeSettings = field(default_factory=JudgeSettings)
    style: Style = field(default_factory=Style)
    dataset: str | None = None
    summed: bool = False
    witness: Witness | None = None
    others: Sequence[Candidate] = ()
    rivals: Sequence[str] = ()  # hashes of the generators among which the first frame decides
    nats: Mapping[str, float] = field(default_factory=dict)  # by which each generator explains counts held out

    def denoise(self, frame: Array, sampling_angstrom: float, progress: Callable[[float], None]) -> FrameResult:
        """One frame by this job's method."""
        if isinstance(self.engine, RestorerSession):
            return restore_frame(frame, sampling_angstrom, self.engine, self.seed, self.noise, progress)
        if self.original is not None:
            missing = ~np.isfinite(frame)
            frame = filled(frame, missing) if missing.any() else frame
            return original_frame(frame, sampling_angstrom, self.engine, self.seed, self.original, self.noise, progress)
        assert self.bank is not None
        return denoise_frame(
            frame, sampling_angstrom, self.engine, self.bank, self.settings, self.noise, progress, self.others
        )  # fmt: skip

    def judge(self, frame: Array, result: FrameResult) -> Trust:
        """How far to trust this job's result of a frame."""
        begun = time.perf_counter()
        if isinstance(self.engine, RestorerSession):
            return unjudged(result)
        assert self.bank is not None
        found = judge(frame, result, self.engine, self.bank, self.settings, self.calibration, self.judging, self.others)
        result.seconds["judge"] = round(time.perf_counter() - begun, 4)
        return found

    @cached_property
    def calibration(self) -> Calibration | None:
        """The model's, read once."""
        return None if isinstance(self.engine, RestorerSession) else calibration_of(self.engine.model)

    def provenance(self, outputs: Outputs) -> str:
        """One line for the images' own metadata."""
        model = self.engine.model
        return f"gdn {__version__}, model {model.card.name} {model.hash[:16]}, seed {self.seed}; details: {outputs.record.name}"

    def key(self, source: Path) -> str:
        """Hash of all that determines the results of a file."""
        about = self.search_record() | {
            "others": [other.identity for other in self.others], "rivals": list(self.rivals),
            "sampling": self.sampling_angstrom, "style": asdict(self.style), "dataset": self.dataset, "summed": self.summed,
        }  # fmt: skip
        return job_key(source, self.engine.model.hash, self.engine.name, about)

    def is_done(self, source: Path, outputs: Outputs) -> bool:
        """Whether a file's results are complete and those of this job."""
        judging = self.judging
        return is_done(outputs, judging.intervals, judging.atoms, self.key(source))

    def search_record(self) -> dict[str, Any]:
        """Method, seed and settings, for the JSON record and the resume key."""
        if self.bank is None:
            return {"method": "restorer", "seed": self.seed, "noise": self.noise_text, "restarts": 0}
        common: dict[str, Any] = {
            "method": "gdn" if self.original is None else "original",
            "seed": self.seed,
            "noise": self.noise_text,
        }
        common |= {"judging": asdict(self.judging)}
        if self.original is not None:
            return common | asdict(self.original)
        return common | {"restarts": len(self.bank)} | asdict(self.settings)


def denoise_file(frames: FrameFile, outputs: Outputs, job: Job, progress: Callable[[float], None]) -> list[dict[str, Any]]:
    """Denoise every one of `frames`; returns one row per frame. Nothing is left behind on failure.

    Raises FrameError (with the file's name) for what is wrong with the file or a frame in it.
    """
    source = frames.path
    sampling = frames.sampling(job.sampling_angstrom)
    if min(frames.frame_shape) * sampling < 4:
        raise FrameError(f"{source}: the field is {min(frames.frame_shape) * sampling:.2g} Å wide; check --sampling")
    done: list[Judged] = []
    before: Estimate | None = None
    with ExitStack() as stack:
        # First in, so that it gets its name last: where the record is, everything is.
        record = stack.enter_context(writing(outputs.record))
        levels = job.judging.intervals
        paths = outputs.images(levels)
        image, spread, *widths = (
            stack.enter_context(result_writer(path, frames, sampling, job.style.dtype, outputs.kind, job.provenance(outputs)))
            for path in paths
        )
        for index in range(frames.count):
            frame = frames.read(index)
            try:
                result = job.denoise(frame, sampling, lambda share, n=index: progress((n + 0.5 * share) / frames.count))  # type: ignore[misc]
                trust = job.judge(frame, result)
                trust = replace(trust, warnings=[*frames.notes, *_stretched(frames, result.noise), *trust.warnings])
            except ValueError as error:
                raise FrameError(f"{source}: frame {index}: {error}") from None
            progress((index + 1) / frames.count)
            image[index], spread[index] = result.image, trust.spread
            for width, level in zip(widths, levels, strict=True):
                width[index] = trust.intervals.get(level, np.full_like(result.image, np.nan))
            if trust.atoms is not None:
                table, picture = (stack.enter_context(writing(path)) for path in outputs.atoms(index))
                save_atoms(table, picture, result.image, trust.atoms)
            if job.witness is not None:
                job.witness(source, index, frame, result, trust)
            if before is not None and result.estimate is not None:
                done[-1] = replace(done[-1], following=next_frame(before, result.estimate, done[-1].trust.own))
            before = result.estimate
            done.append(Judged.of(result, trust))
        rows = [_row(source, index, outputs, job, one) for index, one in enumerate(done)]
        record.write_text(json.dumps(_record(source, frames, sampling, job, done, rows), indent=1) + "\n", encoding="utf-8")
    return rows


def _stretched(frames: FrameFile, noise: NoiseModel) -> list[str]:
    """A warning for 8-bit pictures whose gray levels are not counts."""
    if frames.dtype != np.uint8 or 0.67 < noise.gain < 1.5:
        return []
    return [
        f"8-bit values that are no counts: taken for an affine map of them, {noise.gain:.3g} gray levels an electron "
        f"above {noise.offset:.3g}, as estimated; what was clipped is lost"
    ]


@dataclass(frozen=True)
class Judged:
    """A frame's result and judgement without their pixels, and its scores on the next frame's counts.

    A long stack must not gather its frames in memory: the record needs none of their pixels.
    """

    result: FrameResult
    trust: Trust
    following: list[Comparison] = field(default_factory=list)

    @staticmethod
    def of(result: FrameResult, trust: Trust) -> Judged:
        """Without the images."""
        fit = trust.fit and replace(trust.fit, map=NO_PIXELS)
        small = replace(trust, spread=NO_PIXELS, intervals={}, fit=fit)
        return Judged(replace(result, image=NO_PIXELS, spread=NO_PIXELS, estimate=None, bad=None), small)


def _row(source: Path, index: int, outputs: Outputs, job: Job, judged: Judged) -> dict[str, Any]:
    result = judged.result
    noise = result.noise
    return {
        "input": str(source),
        "frame": index,
        "output": str(outputs.denoised),
        "spread": str(outputs.spread),
        "model": job.engine.model.card.name,
        "engine": job.engine.name,
        "restarts": job.search_record()["restarts"],
        "seed": job.seed,
        "noise": {
            "kind": noise.kind,
            "gain": noise.gain,
            "offset": noise.offset,
            "dose": result.dose,
            "read_noise": noise.read_noise,
        },
        "objective": result.objective if np.isfinite(result.objective) else None,
        "seconds": round(sum(result.seconds.values()), 3),
    } | judged.trust.row()


def _record(
    source: Path, frames: FrameFile, sampling: float, job: Job, done: list[Judged], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    engine = job.engine
    details = [
        {
            "noise_how": r.noise.how, "tiles": r.tiles, "objectives": [round(o, 3) for o in r.objectives],
            "best_from_bank_share": round(r.bank_share, 4), "residual_share": round(r.residual_share, 4),
            "held_out": _finite(asdict(r.held_out)), "stages": r.seconds,
            "mixture": None if r.mixing is None else r.mixing.record(),
            "next_frame_scores": [score_record(c) for c in judged.following],
        }
        | judged.trust.detail()
        for judged in done
        for r in (judged.result,)
    ]  # fmt: skip
    return {
        "schema": RECORD_SCHEMA,
        "key": job.key(source),
        "input": {
            "path": str(source),
            "shape": list(frames.calibration.shape),
            "axes": frames.calibration.axes,
            "dtype": str(frames.dtype),
            "format": frames.format,
            "summed": job.summed,
        },
        "sampling_angstrom": sampling,
        "model": {
            "name": engine.model.card.name,
            "sha256": engine.model.hash,
            "sampling_angstrom": engine.model.card.sampling_angstrom,
        },
        "generators_nats": dict(job.nats),
        "others": [{"name": other.name, "identity": other.identity} for other in job.others],
        "engine": {"name": engine.name, "device": engine.device, "reason": engine.reason},
        "search": job.search_record(),
        "versions": {
            "gdn": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
        },
        "frames": [row | detail for row, detail in zip(rows, details, strict=True)],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a number that is not finite becomes null."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

"""Files in, files out: one input becomes a denoised TIFF, a spread TIFF and a JSON record."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gdn import __version__
from gdn.engines.base import Engine
from gdn.engines.observation import Array
from gdn.frames.files import FrameError, FrameFile, release, result_writer, writing
from gdn.frames.noise import NoiseModel
from gdn.search.bank import Bank
from gdn.search.denoise import FrameResult, denoise_frame
from gdn.search.original import OriginalSettings, original_frame
from gdn.search.tiles import SearchSettings

RECORD_SCHEMA = 1
NO_PIXELS: Array = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Job:
    """What every file of a run shares. `sampling_angstrom` overrides the files' own."""

    engine: Engine
    bank: Bank
    seed: int
    settings: SearchSettings
    noise: NoiseModel | None
    noise_text: str
    sampling_angstrom: float | None
    original: OriginalSettings | None = None  # the study's search instead of gdn's

    def denoise(self, frame: Array, sampling_angstrom: float, progress: Callable[[float], None]) -> FrameResult:
        """One frame by this job's method."""
        if self.original is not None:
            return original_frame(frame, sampling_angstrom, self.engine, self.seed, self.original, self.noise, progress)
        return denoise_frame(frame, sampling_angstrom, self.engine, self.bank, self.settings, self.noise, progress)

    def search_record(self) -> dict[str, Any]:
        """Method, seed and settings, for the JSON record and the resume key."""
        common = {"method": "gdn" if self.original is None else "original", "seed": self.seed, "noise": self.noise_text}
        if self.original is not None:
            return common | asdict(self.original)
        return common | {"restarts": len(self.bank)} | asdict(self.settings)


@dataclass(frozen=True)
class Outputs:
    """Names of the three outputs of one input."""

    denoised: Path
    spread: Path
    record: Path


def outputs_for(source: Path, folder: Path | None) -> Outputs:
    """`NAME_denoised.tif`, `NAME_spread.tif`, `NAME.json` in `folder`, or beside the input."""
    where = folder if folder is not None else source.parent
    stem = source.name
    for suffix in (".tiff", ".tif", ".ome"):
        stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
    return Outputs(where / f"{stem}_denoised.tif", where / f"{stem}_spread.tif", where / f"{stem}.json")


def job_key(source: Path, job: Job) -> str:
    """Hash of all that determines the result: the input's bytes, the model, the settings, the version."""
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())
    about = [job.engine.model.hash, job.engine.name, job.search_record(), job.sampling_angstrom, __version__]
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()


def is_done(source: Path, outputs: Outputs, job: Job) -> bool:
    """Whether all outputs exist and were made from this very input, model and settings."""
    try:
        record = json.loads(outputs.record.read_text())
        complete = outputs.denoised.exists() and outputs.spread.exists()
        return bool(complete and record["key"] == job_key(source, job))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def denoise_file(frames: FrameFile, outputs: Outputs, job: Job, progress: Callable[[float], None]) -> list[dict[str, Any]]:
    """Denoise every one of `frames`; returns one row per frame. Nothing is left behind on failure.

    Raises FrameError (with the file's name) for what is wrong with the file or a frame in it.
    """
    source = frames.path
    sampling = frames.sampling(job.sampling_angstrom)
    if min(frames.frame_shape) * sampling < 4:
        raise FrameError(f"{source}: the field is {min(frames.frame_shape) * sampling:.2g} Å wide; check --sampling")
    rows = []
    results: list[FrameResult] = []
    with result_writer(outputs.denoised, frames, sampling) as image, result_writer(outputs.spread, frames, sampling) as spread:
        for index in range(frames.count):
            frame = frames.read(index)
            try:
                result = job.denoise(frame, sampling, lambda share, done=index: progress((done + share) / frames.count))  # type: ignore[misc]
            except ValueError as error:
                raise FrameError(f"{source}: frame {index}: {error}") from None
            image[index], spread[index] = result.image, result.spread
            release(image)
            release(spread)
            # A long stack must not gather its frames in memory: the record needs none of their pixels.
            results.append(replace(result, image=NO_PIXELS, spread=NO_PIXELS))
            rows.append(_row(source, index, outputs, job, result))
    _write_record(outputs.record, _record(source, frames, sampling, job, results, rows))
    return rows


def _row(source: Path, index: int, outputs: Outputs, job: Job, result: FrameResult) -> dict[str, Any]:
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
        "objective": result.objective,
        "seconds": round(sum(result.seconds.values()), 3),
        "warnings": result.warnings,
    }


def _record(
    source: Path, frames: FrameFile, sampling: float, job: Job, results: list[FrameResult], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    engine = job.engine
    details = [
        {
            "noise_how": r.noise.how, "tiles": r.tiles, "objectives": [round(o, 3) for o in r.objectives],
            "best_from_bank_share": round(r.bank_share, 4), "residual_share": round(r.residual_share, 4),
            "held_out": _finite(asdict(r.held_out)), "stages": r.seconds,
        }
        for r in results
    ]  # fmt: skip
    return {
        "schema": RECORD_SCHEMA,
        "key": job_key(source, job),
        "input": {
            "path": str(source),
            "shape": list(frames.calibration.shape),
            "axes": frames.calibration.axes,
            "dtype": str(frames.dtype),
        },
        "sampling_angstrom": sampling,
        "model": {
            "name": engine.model.card.name,
            "sha256": engine.model.hash,
            "sampling_angstrom": engine.model.card.sampling_angstrom,
        },
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


def _write_record(path: Path, record: dict[str, Any]) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")

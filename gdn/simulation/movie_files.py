"""The files of a movie: a TIFF stack of clean frames, one of counts for each dose, and a record.

`NAME.json` is written last: a movie that has one is complete. The stacks are compressed without
loss. 30 frames of 850x850 px take about 80 MB of clean frames and 17 MB of counts at the usual
three doses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameCalibration
from gdn.frames.writing import write_stack
from gdn.simulation.exit_waves import TORCH, Multislice, exit_wave, plain
from gdn.simulation.imaging import ENERGY_KV, FloatArray, Wave
from gdn.simulation.movies import (
    MovieScript,
    MovieSettings,
    counts_of,
    draw_script,
    movie_record,
    render_clean_frame,
)
from gdn.simulation.scenes import DEFAULT, scene_maker
from gdn.simulation.structures import split_of
from gdn.storage import json_line, write_text

FOLDER = "movies"


@dataclass(frozen=True, kw_only=True)
class MovieMaker:
    """Makes movies.

    - `out`: the folder of the data set.
    - `settings`: what the movies are.
    - `scenes`: a name of `gdn.simulation.scenes`.
    - `energy_kv`: of the beam.
    - `multislice`: which code makes the waves.
    - `device`: of torch.
    """

    out: Path
    settings: MovieSettings
    scenes: str = DEFAULT
    energy_kv: float = ENERGY_KV
    multislice: Multislice = TORCH
    device: str = "cpu"

    def make(self, index: int, seed: int, view: int = 0) -> Path:
        """Make movie `view` of structure `index`, and return the path of its record."""
        structure = scene_maker(self.scenes)(seed)
        script = draw_script(structure, seed, view, self.settings)
        waves = [
            exit_wave(state, self.energy_kv, self.multislice, self.device)
            for state in script.course.states
        ]
        return self.write(script, waves, index)

    def write(self, script: MovieScript, waves: list[Wave], index: int) -> Path:
        """Render and store a movie whose exit waves are there."""
        path = movie_path(self.out, index, script.seed, script.view)
        record = movie_record(script, [_columns(wave) for wave in waves])
        record |= {"energy_kv": self.energy_kv, "scenes": self.scenes}
        record |= {"structure": plain(script.course.states[0].parameters)}
        clean = np.stack([render_clean_frame(script, waves, f) for f in range(script.frames)])
        write_movie(path, clean, record, self.settings.doses)
        return path


def write_movie(
    path: Path, clean: FloatArray, record: dict[str, Any], doses: tuple[float, ...]
) -> None:
    """Write the files of a movie of `clean` frames (frames, rows, columns), vacuum 1.0. Its
    `record` goes to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_stack(path, "truth", clean, record)
    seeds = record["structure_seed"], record["view"]
    for dose in doses:
        counts = np.stack([counts_of(image, dose, *seeds, f) for f, image in enumerate(clean)])
        kind = np.uint8 if counts.max() < 256 else np.uint16
        _write_stack(path, f"poisson{dose:g}", counts.astype(kind), record | {"dose": dose})
    write_text(path, json_line(record | {"doses": doses}) + "\n")


def movie_path(out: Path, index: int, seed: int, view: int) -> Path:
    """The record of movie `view` of structure `index`."""
    again = f"_{view:03d}" if view else ""
    return out / FOLDER / f"{split_of(seed)}_{index:06d}_{seed}{again}.json"


def _columns(wave: Wave) -> NDArray[np.float64]:
    """Columns of a wave, (n, 3): y, x, weight."""
    return np.column_stack([wave.columns[:, ::-1], wave.weights]).astype(np.float64)


def _write_stack(path: Path, name: str, stack: NDArray[Any], record: dict[str, Any]) -> None:
    """One TIFF of a movie beside its record."""
    told = ("structure_seed", "view", "split", "kind", "dose")
    calibration = FrameCalibration(
        sampling_angstrom=record["sampling_angstrom"], axes="TYX", shape=stack.shape
    )
    description = {key: record[key] for key in told if key in record}
    write_stack(path.with_name(f"{path.stem}_{name}.tif"), stack, calibration, description)


@dataclass(frozen=True)
class StoredMovie:
    """A stored movie: its `record`, and its frames from the files beside it."""

    path: Path
    record: dict[str, Any]

    def truth(self) -> FloatArray:
        """Clean frames (frames, rows, columns) float32, vacuum 1.0."""
        return self._stack("truth")

    def counts(self, dose: float) -> FloatArray:
        """Electrons counted at `dose` electrons a pixel in vacuum, (frames, rows, columns)
        float32."""
        return self._stack(f"poisson{dose:g}")

    def _stack(self, name: str) -> FloatArray:
        source = read_frames(self.path.with_name(f"{self.path.stem}_{name}.tif"))
        return np.stack([source.read(i, whole=True) for i in range(source.count)])


def read_movie(path: Path) -> StoredMovie:
    """The movie whose record is `path`. Raises ValueError naming the file if it is no such
    record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != 1:
            raise ValueError(f"schema {record['schema']}")
        events, frames = record["events"], record["frames"]
        if len(record["corner_angstrom"]) != frames or not isinstance(events, list):
            raise ValueError("its parts do not agree")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not the record of a movie ({error}); delete it and simulate again"
        ) from None
    return StoredMovie(path, record)


def movies_in(folder: Path) -> Iterator[StoredMovie]:
    """The complete movies of a folder, by name."""
    for path in sorted(folder.glob("*.json")):
        yield read_movie(path)

"""Movies of simulated scenes: drift, and events that are known for every frame (docs/simulation.md,
"Pt on CeO2", "Movies").

A movie is a pure function of its structure's seed, its number among the movies of that structure,
and its settings. The cell is 64 Å wide and periodic. So a specimen may move only as far as the
simulated scene extends beyond the field: at the limit its path is reflected (4.0 Å from the middle
for 850 px of 0.0612 Å, farther for smaller frames). Motion within one frame's exposure is not
simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gdn.recipes import Imaging
from gdn.simulation.imaging import (
    FRAME_SAMPLING,
    FRAME_SHAPE,
    MARGIN_ANGSTROM,
    FloatArray,
    Optics,
    Wave,
    as_record,
    render,
)
from gdn.simulation.movie_events import (
    KINDS,
    Course,
    Kind,
    Scene,
    draw_any_course,
    event_record,
)
from gdn.simulation.structures import CELL_ANGSTROM, Structure, split_of

Drift = Literal["walk", "jumps", "linear"]
Path2 = NDArray[np.float64]  # (frames, 2), Å along rows and columns

FRAMES = (20, 40)  # of a movie, where their number is not given
MOST_DRIFT_ANGSTROM = 3.0  # rms a frame
DOSES = (0.045, 0.45, 4.5)  # electrons a pixel in vacuum
INNER_ANGSTROM = 5.0  # an event stays this far inside every frame


@dataclass(frozen=True, kw_only=True)
class MovieSettings:
    """What the movies of a data set are.

    - `count`: how many.
    - `frames`: of each; 0 means 20 to 40, by the seed.
    - `side`: of a frame, px.
    - `kinds`: what may happen in them.
    - `drift_angstrom`: rms displacement from frame to frame; None draws it from 0 to 3 Å, small
      ones more often.
    - `doses`: electrons per pixel and frame.
    """

    count: int = 0
    frames: int = 0
    side: int = FRAME_SHAPE[0]
    kinds: tuple[Kind, ...] = KINDS
    drift_angstrom: float | None = None
    doses: tuple[float, ...] = DOSES


@dataclass(frozen=True, kw_only=True)
class MovieScript:
    """Everything that a movie is made from, except for the waves of its states.

    - `seed`: of its structure.
    - `view`: of its optics and place.
    - `side`: of a frame, px.
    - `optics`: of all frames.
    - `course`: what happens.
    - `drift`: of which kind.
    - `drift_angstrom`: rms displacement from frame to frame.
    - `path` (frames, 2): the displacement of the specimen on the frame from the middle of the cell,
      Å along rows and columns.
    """

    seed: int
    view: int
    side: int
    optics: Optics
    course: Course
    drift: Drift
    drift_angstrom: float
    path: Path2

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.path)

    def corner(self, frame: int) -> tuple[float, float]:
        """The outer corner (y, x) Å of pixel [0, 0] of `frame` in the cell."""
        down, right = (CELL_ANGSTROM - self.side * FRAME_SAMPLING) / 2 - self.path[frame]
        return float(down), float(right)

    def pixels(self, places: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
        """Places (n, 2) Å in the cell, y and x, as rows and columns of `frame`; the centre of pixel
        [0, 0] is the origin."""
        return np.asarray((places - np.array(self.corner(frame))) / FRAME_SAMPLING - 0.5)


def room_of(side: int) -> float:
    """Distance, Å, that a field of `side` px may move from the middle of the cell in any direction.
    Raises ValueError if it is larger than the simulated field."""
    room = (CELL_ANGSTROM - side * FRAME_SAMPLING) / 2 - MARGIN_ANGSTROM
    if room < 0:
        most = int((CELL_ANGSTROM - 2 * MARGIN_ANGSTROM) / FRAME_SAMPLING)
        raise ValueError(
            f"movies of {side} px: the simulated field allows at most {most} px per side"
        )
    return room


def reflect_path(path: Path2, room: float) -> Path2:
    """A path folded into [-room, room], as if there were mirrors at both ends."""
    if room <= 0:
        return np.zeros_like(path)
    turned = np.mod(path + room, 4 * room)
    return np.asarray(np.where(turned > 2 * room, 4 * room - turned, turned) - room)


def drift_path(
    drift: Drift, frames: int, rms_angstrom: float, room: float, rng: np.random.Generator
) -> Path2:
    """A random path: a random walk; a specimen at rest except for a few jumps; or a line at a
    steady rate, slow enough to stay in the room. `rms_angstrom` is from frame to frame."""
    steps = np.zeros((frames, 2))
    if drift == "walk":
        steps[1:] = rng.normal(0, rms_angstrom / np.sqrt(2), (frames - 1, 2))
    elif drift == "jumps" and frames > 1:
        at = rng.choice(np.arange(1, frames), min(frames - 1, 1 + frames // 10), replace=False)
        angle = rng.uniform(0, 2 * np.pi, len(at))
        length = rms_angstrom * np.sqrt((frames - 1) / len(at))
        steps[at] = length * np.stack([np.sin(angle), np.cos(angle)], 1)
    elif drift == "linear":
        heading = rng.uniform(0, 2 * np.pi)
        rate = min(rms_angstrom, 2 * room / max(1, frames - 1))
        times = np.arange(frames) - (frames - 1) / 2
        return np.outer(times, rate * np.array([np.sin(heading), np.cos(heading)]))
    return reflect_path(steps.cumsum(0), room)


def draw_script(
    structure: Structure,
    seed: int,
    view: int,
    settings: MovieSettings,
    ranges: Imaging = Imaging(),
) -> MovieScript:
    """Draw movie `view` of the structure of `seed`."""
    rng = np.random.default_rng([seed, view, 0x4D])
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    drifts: tuple[Drift, ...] = ("walk", "jumps", "linear")
    drift = drifts[rng.integers(len(drifts))]
    drawn = float(MOST_DRIFT_ANGSTROM * rng.random() ** 2)
    optics = Optics.random(rng, ranges)
    frames = settings.frames or frames
    rms = drawn if settings.drift_angstrom is None else settings.drift_angstrom
    path = drift_path(drift, frames, rms, room_of(settings.side), rng)
    half = settings.side * FRAME_SAMPLING / 2
    reach = half - INNER_ANGSTROM - np.abs(path).max(0)
    course = draw_any_course(Scene(structure, frames, reach), settings.kinds, rng)
    return MovieScript(
        seed=seed,
        view=view,
        side=settings.side,
        optics=optics,
        course=course,
        drift=drift,
        drift_angstrom=rms,
        path=path,
    )


def render_clean_frame(script: MovieScript, waves: list[Wave], frame: int) -> FloatArray:
    """Frame `frame` without noise, (side, side) float32, vacuum 1.0, from the `waves` of the
    states."""
    course = script.course
    focus = script.optics.defocus_nm + float(course.defocus_nm[frame])
    image = render(
        waves[course.state_of_frame[frame]],
        replace(script.optics, defocus_nm=focus),
        FRAME_SAMPLING,
        (script.side, script.side),
        script.corner(frame),
    )
    return np.maximum(image, 0)


def counts_of(clean: FloatArray, dose: float, seed: int, view: int, frame: int) -> FloatArray:
    """Electrons counted on `clean` at `dose` electrons per pixel in vacuum. The same arguments give
    the same counts."""
    rng = np.random.default_rng([seed, view, frame, round(1e6 * dose), 0x4E])
    return rng.poisson(dose * clean).astype(np.float32)


def movie_record(script: MovieScript, columns: list[NDArray[np.float64]]) -> dict[str, Any]:
    """The record of a movie, ready for JSON. `columns` of each state are (n, 3): y, x in Å in the
    cell and summed atomic number. A frame shows them at the rows and columns `(place - corner) /
    sampling - 1/2`, with the centre of pixel [0, 0] at the origin."""
    course = script.course
    moved = script.path - script.path[0]
    rates = np.hypot(*np.diff(script.path, axis=0).T)
    events = []
    for event in course.events:
        place = script.pixels(np.array([event.place]), event.frame)[0]
        events.append(event_record(event) | {"place_px": place.round(2).tolist()})
    return {
        "schema": 1,
        "structure_seed": script.seed,
        "view": script.view,
        "split": split_of(script.seed),
        "kind": course.kind,
        "frames": script.frames,
        "shape": [script.side, script.side],
        "sampling_angstrom": FRAME_SAMPLING,
        "optics": as_record(script.optics),
        "defocus_nm": (script.optics.defocus_nm + course.defocus_nm).round(4).tolist(),
        "drift": script.drift,
        "drift_rms_angstrom": {
            "asked": script.drift_angstrom,
            "made": float(np.sqrt((rates**2).mean())) if len(rates) else 0.0,
        },
        "drift_angstrom": moved.round(5).tolist(),
        "corner_angstrom": [[round(v, 5) for v in script.corner(f)] for f in range(script.frames)],
        "events": events,
        "state_of_frame": course.state_of_frame.tolist(),
        "columns_of_state": [c.round(3).tolist() for c in columns],
    }

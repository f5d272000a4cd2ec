"""Events in a movie: a column that appears, vanishes or hops, a layer that grows, a particle that
turns, a focus that creeps.

A course is a short list of structures, its states, and the number of the state that each frame
shows. So only the states need exit waves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gdn.simulation.particle_columns import PARTICLE_NUMBER, ParticleColumns, particle_columns
from gdn.simulation.structures import Structure, rotation

Kind = Literal["static", "vanish", "appear", "hop", "layer", "rotate", "defocus"]
KINDS: tuple[Kind, ...] = ("static", "vanish", "appear", "hop", "layer", "rotate", "defocus")

LAYER_COLUMNS = 6  # that grow in one movie at most
LAYER_LEAST = 3
LAYER_DEPTH_ANGSTROM = 0.8  # columns of one layer are this even along its normal
LAYER_STEP_ANGSTROM = 3.0  # from one column of a layer to the next
ROTATION_DEGREES, ROTATION_STEPS = (0.4, 1.0), 4
CREEP_NM = (2.0, 6.0)  # of defocus, in the whole movie


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change.

    - `kind`: of change.
    - `frame`: from which on it is visible.
    - `place`: (y, x) Å in the cell.
    - `change`: 1 for a new column, -1 for a column that is gone, 0 if it does not concern one
      column.
    - `size`: atoms of the column, degrees of the rotation, or nm of defocus.
    """

    kind: Kind
    frame: int
    place: tuple[float, float]
    change: int
    size: float


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happens in a movie.

    - `kind`: of its events.
    - `states`: the structures that it shows.
    - `state_of_frame` (frames,): the number of the state that each frame shows.
    - `defocus_nm` (frames,): added to that of the optics.
    - `events`: each with its frame.
    """

    kind: Kind
    states: list[Structure]
    state_of_frame: NDArray[np.int64]
    defocus_nm: NDArray[np.float64]
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    """What an event is drawn for: the first structure, the number of frames of the movie, and how
    far (y, x) Å from the middle of the cell an event may be."""

    structure: Structure
    frames: int
    reach: NDArray[np.float64]

    @property
    def columns(self) -> ParticleColumns | None:
        """The columns of the particle."""
        return particle_columns(self.structure)

    def course(
        self, kind: Kind, states: list[Structure], starts: list[int], events: list[Event]
    ) -> Course:
        """A course that shows state i + 1 from frame `starts[i]` on."""
        shown = np.searchsorted(np.array(starts, dtype=int), np.arange(self.frames), side="right")
        return Course(
            kind=kind,
            states=states,
            state_of_frame=shown.astype(np.int64),
            defocus_nm=np.zeros(self.frames),
            events=events,
        )


def draw_course(scene: Scene, kind: Kind, rng: np.random.Generator) -> Course | None:
    """A course of `kind`; None where the scene has no place for it."""
    return _MAKERS[kind](scene, rng)


def draw_any_course(scene: Scene, kinds: tuple[Kind, ...], rng: np.random.Generator) -> Course:
    """A course of the first of the shuffled `kinds` that is possible in the scene, else a static
    one."""
    for kind in rng.permutation(np.array(kinds)):
        course = draw_course(scene, kind, rng)
        if course is not None:
            return course
    return _static(scene, rng)


def without(structure: Structure, atoms: NDArray[np.int64]) -> Structure:
    """The structure without some of its atoms."""
    keep = np.ones(len(structure.numbers), bool)
    keep[atoms] = False
    return replace(structure, numbers=structure.numbers[keep], positions=structure.positions[keep])


def _middle_frame(scene: Scene, rng: np.random.Generator) -> int:
    """A frame of the middle third: there are frames before and after it."""
    low = max(1, scene.frames // 3)
    return int(rng.integers(low, max(low + 1, 2 * scene.frames // 3)))


def _static(scene: Scene, rng: np.random.Generator) -> Course:
    return scene.course("static", [scene.structure], [], [])


def _surface_column(scene: Scene, rng: np.random.Generator) -> tuple[ParticleColumns, int] | None:
    columns = scene.columns
    surface = columns.surface(scene.reach) if columns is not None else np.zeros(0, np.int64)
    return (columns, int(rng.choice(surface))) if columns is not None and len(surface) else None


def _event(columns: ParticleColumns, index: int, kind: Kind, frame: int, change: int) -> Event:
    y, x = columns.places[index]
    size = len(columns.atoms[index])
    return Event(kind=kind, frame=frame, place=(float(y), float(x)), change=change, size=size)


def _vanish(scene: Scene, rng: np.random.Generator) -> Course | None:
    chosen = _surface_column(scene, rng)
    if chosen is None:
        return None
    columns, index = chosen
    frame = _middle_frame(scene, rng)
    event = _event(columns, index, "vanish", frame, -1)
    states = [scene.structure, without(scene.structure, columns.atoms[index])]
    return scene.course("vanish", states, [frame], [event])


def _appear(scene: Scene, rng: np.random.Generator) -> Course | None:
    gone = _vanish(scene, rng)
    if gone is None:
        return None
    (event,) = gone.events
    came = replace(event, kind="appear", change=1)
    return scene.course("appear", gone.states[::-1], [event.frame], [came])


def _hop(scene: Scene, rng: np.random.Generator) -> Course | None:
    columns = scene.columns
    if columns is None:
        return None
    for index in rng.permutation(columns.surface(scene.reach)):
        vectors = columns.hops(int(index))
        if not vectors:
            continue
        vector = vectors[int(rng.integers(len(vectors)))]
        positions = scene.structure.positions.copy()
        positions[columns.atoms[index]] += vector
        frame = _middle_frame(scene, rng)
        left = _event(columns, int(index), "hop", frame, -1)
        y, x = np.array(left.place) + vector[1::-1]
        events = [left, replace(left, place=(float(y), float(x)), change=1)]
        moved = replace(scene.structure, positions=positions)
        return scene.course("hop", [scene.structure, moved], [frame], events)
    return None


def layer_of(columns: ParticleColumns, index: int, surface: NDArray[np.int64]) -> list[int]:
    """The columns of `surface` in the outermost layer that contains column `index`, in their order
    along it."""
    normal = columns.outward(index)[1]
    apart = columns.sites[surface] - columns.sites[index]
    along = apart @ np.array([-normal[1], normal[0]])
    level = np.flatnonzero(np.abs(apart @ normal) < LAYER_DEPTH_ANGSTROM)
    level = level[along[level].argsort()]
    here = int(np.flatnonzero(surface[level] == index)[0])
    breaks = np.flatnonzero(np.diff(along[level]) > LAYER_STEP_ANGSTROM) + 1
    part = next(p for p in np.split(np.arange(len(level)), breaks) if here in p)
    return [int(i) for i in surface[level[part]]]


def _layer(scene: Scene, rng: np.random.Generator) -> Course | None:
    columns = scene.columns
    if columns is None:
        return None
    surface = columns.surface(scene.reach)
    room = scene.frames // 2  # frames in which it grows
    for index in rng.permutation(surface):
        layer = layer_of(columns, int(index), surface)[: min(LAYER_COLUMNS, room)]
        if len(layer) < LAYER_LEAST:
            continue
        if rng.random() < 0.5:
            layer.reverse()
        pace = max(1, room // len(layer))
        starts = [scene.frames // 4 + pace * i for i in range(len(layer))]
        missing = [np.concatenate([columns.atoms[i] for i in layer[k:]]) for k in range(len(layer))]
        states = [without(scene.structure, atoms) for atoms in missing] + [scene.structure]
        events = [_event(columns, i, "layer", f, 1) for i, f in zip(layer, starts, strict=True)]
        return scene.course("layer", states, starts, events)
    return None


def _rotate(scene: Scene, rng: np.random.Generator) -> Course | None:
    structure = scene.structure
    atoms = np.flatnonzero(structure.numbers == PARTICLE_NUMBER)
    steps = min(ROTATION_STEPS, scene.frames - 1)
    if not len(atoms) or not steps:
        return None
    degrees = float(rng.choice([-1, 1]) * rng.uniform(*ROTATION_DEGREES))
    centre = structure.positions[atoms].mean(0)
    states = [structure]
    for step in range(1, steps + 1):
        positions = structure.positions.copy()
        turn = rotation([0, 0, 1], degrees * step / steps)
        positions[atoms] = (positions[atoms] - centre) @ turn.T + centre
        states.append(replace(structure, positions=positions))
    pace = max(1, scene.frames // (2 * steps))
    first = max(1, (scene.frames - pace * (steps - 1)) // 2)
    starts = [first + pace * i for i in range(steps)]
    place, size = (float(centre[1]), float(centre[0])), degrees / steps
    events = [Event(kind="rotate", frame=f, place=place, change=0, size=size) for f in starts]
    return scene.course("rotate", states, starts, events)


def _defocus(scene: Scene, rng: np.random.Generator) -> Course:
    creep = float(rng.choice([-1, 1]) * rng.uniform(*CREEP_NM))
    middle = scene.structure.cell[:2] / 2
    place = (float(middle[1]), float(middle[0]))
    event = Event(kind="defocus", frame=0, place=place, change=0, size=creep)
    course = scene.course("defocus", [scene.structure], [], [event])
    return replace(course, defocus_nm=np.linspace(0, creep, scene.frames))


_MAKERS: dict[Kind, Callable[[Scene, np.random.Generator], Course | None]] = {
    "static": _static,
    "vanish": _vanish,
    "appear": _appear,
    "hop": _hop,
    "layer": _layer,
    "rotate": _rotate,
    "defocus": _defocus,
}


def event_record(event: Event) -> dict[str, Any]:
    """`event` as a JSON-ready dictionary."""
    return {
        "kind": event.kind,
        "frame": event.frame,
        "place_angstrom": [round(v, 4) for v in event.place],
        "change": event.change,
        "size": event.size,
    }

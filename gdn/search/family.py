"""Which of the shipped generators a frame gets: the largest patch that the frame covers; and the restorers beside it.

A large patch sees more of the crystal and gives the better image (docs/measurements/comparison.md). But the encoder does not
know tiles that lie partly beyond the frame, and those cost more than that (docs/measurements/search.md). Engines and banks are
opened when the first frame needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from gdn.engines.base import Engine
from gdn.engines.restorer import RestorerSession
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import grids_for
from gdn.likelihood import Array
from gdn.models import AUTO, FAMILY, RESTORER, Model, RestorerModel, find_any, shipped_models
from gdn.search.band_mixture import Candidate
from gdn.search.bank import Bank
from gdn.search.filtered import CollaborativeCandidate
from gdn.search.generator_choice import best_generator
from gdn.search.restored import RestorerCandidate
from gdn.search.tile_search import SearchSettings

OpenRestorer = Callable[[RestorerModel], RestorerSession]


def members(names_or_folders: str) -> list[Model | RestorerModel]:
    """The models that `--model` stands for, those of the largest field first, restorers last: the family and the shipped
    restorer for 'auto', else those named, separated by commas. Raises ModelError."""
    names = [name.strip() for name in names_or_folders.split(",")]
    if names == [AUTO]:
        names = [*FAMILY, *([RESTORER] if RESTORER in shipped_models() else [])]
    return sorted((find_any(name) for name in names), key=_field, reverse=True)


def usual_candidates(threads: int | None = None) -> list[Candidate]:
    """What stands beside every generator where nothing else is asked for: the collaborative filter, and the shipped restorer."""
    shipped = [find_any(RESTORER)] if RESTORER in shipped_models() else []
    sessions = [RestorerSession(model, threads=threads) for model in shipped if isinstance(model, RestorerModel)]
    return [CollaborativeCandidate(), *(RestorerCandidate(session) for session in sessions)]


def _field(model: Model | RestorerModel) -> float:
    return model.card.patch * model.card.sampling_angstrom if isinstance(model, Model) else 0.0


@dataclass(frozen=True)
class Team:
    """What works on a recording: `engine` and `bank` of a generator (or a restorer alone, without a bank), the candidates
    beside it, and, where there was a choice, by how much each generator explains counts held out of the first frame, nats by
    name."""

    engine: Engine | RestorerSession
    bank: Bank | None
    others: list[Candidate]
    nats: dict[str, float] = field(default_factory=dict)


class Family:
    """Engines and banks of one or several generators, one of them for each frame, and the restorers among the models. A
    context manager.

    `open_engine`, `open_bank` and `open_restorer` make them; what they raise comes out of `fitting` and `restorers`.
    """

    def __init__(
        self,
        models: Sequence[Model | RestorerModel],
        open_engine: Callable[[Model], Engine],
        open_bank: Callable[[Engine], Bank],
        open_restorer: OpenRestorer = RestorerSession,
    ) -> None:
        self._generators = [model for model in models if isinstance(model, Model)]
        self._restorers = [model for model in models if isinstance(model, RestorerModel)]
        self._open_engine, self._open_bank, self._open_restorer = open_engine, open_bank, open_restorer
        self._opened: dict[str, tuple[Engine, Bank]] = {}
        self._sessions: list[RestorerSession] = []
        self._stack = ExitStack()

    @property
    def opened(self) -> bool:
        """Whether any of the models has been opened."""
        return bool(self._opened or self._sessions)

    def restorers(self) -> list[RestorerCandidate]:
        """The restorers, as candidates beside the generator."""
        if not self._sessions:
            self._sessions = [self._stack.enter_context(self._open_restorer(model)) for model in self._restorers]
        return [RestorerCandidate(session) for session in self._sessions]

    def at_work(
        self, frame: Array, sampling_angstrom: float, settings: SearchSettings | None = None, noise: NoiseModel | None = None
    ) -> Team:
        """What works on a recording with such a `frame` (rows, columns) of `sampling_angstrom` Å: of the `teams` the one whose
        generator explains it best, with `settings` and `noise`."""
        teams = self.teams((frame.shape[0], frame.shape[1]), sampling_angstrom)
        generators = [
            (team.engine, team.bank) for team in teams if not isinstance(team.engine, RestorerSession) and team.bank is not None
        ]
        if len(generators) < 2:
            return teams[0]
        number, nats = best_generator(frame, sampling_angstrom, generators, settings or SearchSettings(), noise)
        return replace(teams[number], nats=nats)

    def teams(self, shape: tuple[int, int], sampling_angstrom: float) -> list[Team]:
        """What may work on frames of `shape` (rows, columns) px of `sampling_angstrom` Å: one team for each generator of the
        largest fitting field; or a restorer alone, where there is no generator."""
        if not self._generators:
            return [Team(self.restorers()[0].session, None, [])]
        # Generators first: an engine that does not start is then an error before anything is open (`opened`).
        running = [self._open(model) for model in fitting_models(self._generators, shape, sampling_angstrom)]
        others = self.others()
        return [Team(engine, bank, others) for engine, bank in running]

    def others(self) -> list[Candidate]:
        """The candidates beside the generator: the collaborative filter, and the restorers."""
        return [CollaborativeCandidate(), *self.restorers()]

    def fitting(self, shape: tuple[int, int], sampling_angstrom: float) -> tuple[Engine, Bank]:
        """Engine and bank for frames of `shape` (rows, columns) px of `sampling_angstrom` Å."""
        return self._open(fitting_models(self._generators, shape, sampling_angstrom)[0])

    def _open(self, model: Model) -> tuple[Engine, Bank]:
        if model.card.name not in self._opened:
            engine = self._stack.enter_context(self._open_engine(model))
            self._opened[model.card.name] = engine, self._open_bank(engine)
        return self._opened[model.card.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def fitting_models(models: list[Model], shape: tuple[int, ...], sampling_angstrom: float) -> list[Model]:
    """Those of `models`, largest field first, that have the largest field whose patch lies within the frame; the smallest if
    none does."""

    def covers(model: Model) -> bool:
        grids = grids_for((shape[0], shape[1]), sampling_angstrom, model.card.sampling_angstrom)
        return min(grids.binned_shape) >= model.card.patch

    within = [model for model in models if covers(model)]
    largest = _field(within[0] if within else models[-1])
    return [model for model in models if _field(model) == largest]

"""Chooses the models for a frame: those that were named, and among the generators those with the
largest patch that fits into the frame.

A large patch sees more of the crystal and gives the better image (docs/measurements/comparison.md),
but a tile that lies partly beyond the frame is foreign to the encoder and costs more than that
(docs/measurements/search.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from gdn.engines.base import Engine, EngineError
from gdn.engines.restorer import RestorerSession
from gdn.frames.resampling import grids_for
from gdn.models import AUTO, FAMILY, RESTORER, Model, RestorerModel, find_any, shipped_models
from gdn.pipeline.options import Options
from gdn.pipeline.pixel_sizes import check_pixel_size
from gdn.restarts import restart_latents
from gdn.search.bank import Bank, bank_for, empty_bank
from gdn.search.settings import Searcher
from gdn.trust.calibration import calibration_of
from gdn.trust.pixel_size import Explainer

OpenBank = Callable[[Engine], Bank]
FEW = 16  # restarts, for what the encoder does: a generator without one asks them


def models_named(names_or_folders: str) -> list[Model | RestorerModel]:
    """The models that `--model` names, those of the largest field first, restorers last: the
    shipped generators and the shipped restorer for 'auto', else those named, separated by commas.
    Raises ModelError."""
    names = [name.strip() for name in names_or_folders.split(",")]
    if names == [AUTO]:
        names = [*FAMILY, *([RESTORER] if RESTORER in shipped_models() else [])]
    return sorted((find_any(name) for name in names), key=_field, reverse=True)


def beside_restorer(model: Model) -> list[Model | RestorerModel]:
    """A generator and the shipped restorer, if there is one: what works where the generator is the
    one that was chosen."""
    return [model, *([find_any(RESTORER)] if RESTORER in shipped_models() else [])]


def _field(model: Model | RestorerModel) -> float:
    return model.card.patch * model.card.sampling_angstrom if isinstance(model, Model) else 0.0


class OpenModels:
    """Engines and banks of generators, and sessions of restorers, each opened when a frame first
    needs it.

    `options` say how; `open_bank` makes a bank otherwise than they do. What opening raises comes
    out of the methods.
    """

    def __init__(
        self,
        models: Sequence[Model | RestorerModel],
        options: Options,
        open_bank: OpenBank | None = None,
    ) -> None:
        self._generators = [model for model in models if isinstance(model, Model)]
        self._restorers = [model for model in models if isinstance(model, RestorerModel)]
        self._options, self._open_bank = options, open_bank or options.open_bank
        self._engines: dict[str, Engine] = {}
        self._opened: dict[str, tuple[Engine, Bank]] = {}
        self._explainers: dict[str, Explainer] = {}
        self._sessions: list[RestorerSession] = []
        self._stack = ExitStack()

    @property
    def opened(self) -> bool:
        """Whether any of the models has been opened."""
        return bool(self._opened or self._sessions)

    def generators(
        self, shape: tuple[int, int], sampling_angstrom: float
    ) -> list[tuple[Engine, Bank]]:
        """Engine and bank of each generator in question for frames of `shape` (rows, columns) px;
        none if there are restorers alone. Raises EngineError, CacheError."""
        return [
            self._open(model)
            for model in fitting_models(self._generators, shape, sampling_angstrom)
        ]

    def generator(self, shape: tuple[int, int], sampling_angstrom: float) -> tuple[Engine, Bank]:
        """The first of them, opened alone."""
        return self._open(fitting_models(self._generators, shape, sampling_angstrom)[0])

    def restorers(self) -> list[RestorerSession]:
        """All restorers. Raises EngineError."""
        if not self._sessions:
            self._sessions = [
                self._stack.enter_context(self._options.open_restorer(model))
                for model in self._restorers
            ]
            for session, model in zip(self._sessions, self._restorers, strict=True):
                check_restorer(session, model)
        return self._sessions

    def check_pixel_size(self, sampling_angstrom: float) -> None:
        """Raises InputError for frames whose pixels (Å) are far coarser than the models'."""
        models = self._generators or self._restorers
        check_pixel_size(sampling_angstrom, min(model.card.sampling_angstrom for model in models))

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()

    def explainers(self) -> list[Explainer]:
        """What tells by each generator which pixel size is right. Raises EngineError,
        CacheError."""
        return [self._explainer(model) for model in self._generators]

    def _explainer(self, model: Model) -> Explainer:
        name = model.card.name
        if name not in self._explainers:
            engine, seed, search = self._engine(model), self._options.seed, self._options.search
            asked = not (search.encoder and "encoder.onnx" in model.card.files)
            bank = bank_for(engine, seed, FEW, False) if asked else empty_bank(engine, seed)
            law = calibration_of(model)
            self._explainers[name] = Explainer(
                Searcher(engine=engine, bank=bank, settings=search),
                None if law is None else law.fit,
            )
        return self._explainers[name]

    def _open(self, model: Model) -> tuple[Engine, Bank]:
        if model.card.name not in self._opened:
            engine = self._engine(model)
            self._opened[model.card.name] = engine, self._open_bank(engine)
        return self._opened[model.card.name]

    def _engine(self, model: Model) -> Engine:
        if model.card.name not in self._engines:
            engine = self._stack.enter_context(self._options.open_engine(model))
            check_generator(engine)
            self._engines[model.card.name] = engine
        return self._engines[model.card.name]


def check_generator(engine: Engine) -> None:
    """Raises EngineError if a generator's images of a few latents, the origin and three restarts,
    have values that are not finite."""
    size = engine.model.card.latent
    latents = np.concatenate([np.zeros((1, size), np.float32), restart_latents(0, range(3), size)])
    if not np.isfinite(engine.generate(latents)).all():
        raise EngineError(_broken(engine.model))


def check_restorer(session: RestorerSession, model: RestorerModel) -> None:
    """Raises EngineError if a restorer makes values that are not finite of a flat frame."""
    side = -(-64 // model.card.multiple) * model.card.multiple
    if not np.isfinite(session.restore(np.ones((1, side, side), np.float32))).all():
        raise EngineError(_broken(model))


def _broken(model: Model | RestorerModel) -> str:
    return f"{model.folder}: the model makes images of NaN; export it again, or choose another"


def fitting_models(
    models: list[Model], shape: tuple[int, ...], sampling_angstrom: float
) -> list[Model]:
    """Those of `models`, largest field first, that have the largest field whose patch lies within
    the frame; the smallest if none does."""

    def covers(model: Model) -> bool:
        grids = grids_for((shape[0], shape[1]), sampling_angstrom, model.card.sampling_angstrom)
        return min(grids.binned_shape) >= model.card.patch

    if not models:
        return []
    within = [model for model in models if covers(model)]
    largest = _field(within[0] if within else models[-1])
    return [model for model in models if _field(model) == largest]

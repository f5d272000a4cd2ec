"""Which of the shipped generators a frame gets: the largest patch that the frame covers.

A large patch sees more of the crystal and gives the better image (docs/comparison.md), but a tile that lies partly beyond
the frame is foreign to the encoder and costs more than that (docs/latent-search.md). Engines and banks are opened when
the first frame needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from gdn.engines.base import Engine
from gdn.frames.sampling import grids_for
from gdn.models import AUTO, FAMILY, Model, find_model
from gdn.search.bank import Bank


def members(name_or_folder: str) -> list[Model]:
    """The models that `--model` stands for, largest field first: the family for 'auto', else one. Raises ModelError."""
    names = FAMILY if name_or_folder == AUTO else (name_or_folder,)
    return sorted((find_model(name) for name in names), key=_field, reverse=True)


def _field(model: Model) -> float:
    return model.card.patch * model.card.sampling_angstrom


class Family:
    """Engines and banks of one or several models, one of them for each frame. A context manager.

    `open_engine` and `open_bank` make them; what they raise comes out of `fitting`.
    """

    def __init__(self, models: list[Model], open_engine: Callable[[Model], Engine], open_bank: Callable[[Engine], Bank]) -> None:
        self._models, self._open_engine, self._open_bank = models, open_engine, open_bank
        self._opened: dict[str, tuple[Engine, Bank]] = {}
        self._stack = ExitStack()

    @property
    def opened(self) -> bool:
        """Whether any of the models has been opened."""
        return bool(self._opened)

    def fitting(self, shape: tuple[int, int], sampling_angstrom: float) -> tuple[Engine, Bank]:
        """Engine and bank for frames of `shape` (rows, columns) px of `sampling_angstrom` Å."""
        model = chosen(self._models, shape, sampling_angstrom)
        if model.card.name not in self._opened:
            engine = self._stack.enter_context(self._open_engine(model))
            self._opened[model.card.name] = engine, self._open_bank(engine)
        return self._opened[model.card.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def chosen(models: list[Model], shape: tuple[int, int], sampling_angstrom: float) -> Model:
    """The first of `models`, largest field first, whose patch lies within the frame; the smallest if none does."""
    within = (
        m for m in models if min(grids_for(shape, sampling_angstrom, m.card.sampling_angstrom).binned_shape) >= m.card.patch
    )
    return next(within, models[-1])

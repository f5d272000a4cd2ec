"""Which generator a frame gets."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.models import AUTO, FAMILY, RESTORER, Model, ModelError, find_model, shipped_models
from gdn.pipeline.open_models import OpenModels, fitting_models, models_named
from gdn.pipeline.options import Options
from gdn.search import generator_choice as which
from gdn.search.bank import bank_for
from gdn.search.settings import SearchSettings


@pytest.fixture
def pair() -> list[Model]:
    """The 64-px model, and a card of twice the patch."""
    small = find_model("pt-ceo2-64")
    return [
        Model(small.folder, small.card.model_copy(update={"name": "large", "patch": 128})),
        small,
    ]


@pytest.mark.parametrize(
    ("shape", "sampling", "expected"),
    [
        ((850, 850), 0.0612, "large"),  # 52 Å: 130 px
        ((1200, 830), 0.0612, "pt-ceo2-64"),  # 127 px on one side
        ((512, 512), 0.0612, "pt-ceo2-64"),
        ((100, 100), 0.0612, "pt-ceo2-64"),  # neither: the smaller loses less
        ((512, 512), 0.1, "large"),  # exactly
    ],
)
def test_the_largest_field_that_the_frame_covers(
    pair: list[Model], shape: tuple[int, int], sampling: float, expected: str
) -> None:
    assert [model.card.name for model in fitting_models(pair, shape, sampling)] == [expected]


def test_auto_is_the_whole_family_and_a_name_is_one() -> None:
    restorer = [RESTORER] if RESTORER in shipped_models() else []
    assert [m.card.name for m in models_named(AUTO)] == [*FAMILY, *restorer]
    assert [m.card.name for m in models_named("pt-ceo2-64,pt-ceo2-128")] == [
        "pt-ceo2-128",
        "pt-ceo2-64",
    ]
    assert [m.card.name for m in models_named("pt-ceo2-64")] == ["pt-ceo2-64"]
    with pytest.raises(ModelError, match="no such model"):
        models_named("pt-ceo3")


def test_engines_are_opened_once_and_only_when_needed(
    pair: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_one(options: Options, model: Model) -> Engine:
        opened.append(model.card.name)
        return open_engine(find_model("pt-ceo2-64"), threads=1)

    monkeypatch.setattr(Options, "open_engine", open_one)
    models = OpenModels(pair, Options(restarts=4, cache=False))
    assert not models.opened
    first = models.generators((300, 300), 0.1)
    assert models.opened
    assert opened == ["pt-ceo2-64"]
    assert models.generator((400, 400), 0.1) is first[0]
    models.generators((600, 600), 0.1)
    models.close()
    assert opened == ["pt-ceo2-64", "large"]


def test_of_generators_of_one_field_the_first_stays_unless_another_explains_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 4, use_cache=False)
    frame = np.random.default_rng(0).poisson(2.0, (300, 300)).astype(np.float32)
    nats = iter((10.0, 12.0, 10.0, 20.0))
    monkeypatch.setattr(which, "held_out_nats", lambda *arguments: next(nats))
    assert (
        which.best_generator(frame, 0.1, [(engine, bank)] * 2, SearchSettings())[0] == 0
    )  # within the margin
    assert which.best_generator(frame, 0.1, [(engine, bank)] * 2, SearchSettings())[0] == 1


def test_bright_columns_get_the_wide_generator_and_a_demo_frame_the_other() -> None:
    """The demo's frames are dark-column ones; the frame's contrast turned over is bright."""
    pairs = []
    for name in ("pt-ceo2-128", "pt-ceo2-wide-128"):
        engine = open_engine(find_model(name), threads=1)
        pairs.append((engine, bank_for(engine, 0, 16, use_cache=False)))
    frame = demo_frames()[0]
    found = {}
    for name, clean in (
        ("dark", frame.image),
        ("bright", 2 * np.median(frame.image) - frame.image),
    ):
        noisy = DEMO_NOISE.apply(np.maximum(clean, 0.01).astype(np.float32), 1)
        found[name], nats = which.best_generator(
            noisy, frame.sampling_angstrom, pairs, SearchSettings()
        )
        assert set(nats) == {"pt-ceo2-128", "pt-ceo2-wide-128"}
    assert found == {"dark": 0, "bright": 1}


def test_a_frame_that_cannot_be_tried_gets_the_first(pair: list[Model]) -> None:
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 4, use_cache=False)
    empty = np.zeros((300, 300), np.float32)
    assert which.best_generator(empty, 0.1, [(engine, bank)] * 2, SearchSettings()) == (0, {})

"""Which generator a frame gets."""

from __future__ import annotations

import pytest

from gdn.engines.choose import open_engine
from gdn.models import AUTO, FAMILY, RESTORER, Model, ModelError, find_model, shipped_models
from gdn.search.bank import bank_for
from gdn.search.family import Family, chosen, members


@pytest.fixture
def pair() -> list[Model]:
    """The 64-px model, and a card of twice the patch."""
    small = find_model("pt-ceo2-64")
    return [Model(small.folder, small.card.model_copy(update={"name": "large", "patch": 128})), small]


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
    assert chosen(pair, shape, sampling).card.name == expected


def test_auto_is_the_whole_family_and_a_name_is_one() -> None:
    restorer = [RESTORER] if RESTORER in shipped_models() else []
    assert [m.card.name for m in members(AUTO)] == [*FAMILY, *restorer]
    assert [m.card.name for m in members("pt-ceo2-64,pt-ceo2-128")] == ["pt-ceo2-128", "pt-ceo2-64"]
    assert [m.card.name for m in members("pt-ceo2-64")] == ["pt-ceo2-64"]
    with pytest.raises(ModelError, match="no such model"):
        members("pt-ceo3")


def test_engines_are_opened_once_and_only_when_needed(pair: list[Model]) -> None:
    opened: list[str] = []

    def open_one(model: Model):
        opened.append(model.card.name)
        return open_engine(find_model("pt-ceo2-64"), threads=1)

    with Family(pair, open_one, lambda engine: bank_for(engine, 0, 4, use_cache=False)) as family:
        assert not family.opened
        first = family.fitting((300, 300), 0.1)
        assert family.opened
        assert opened == ["pt-ceo2-64"]
        assert family.fitting((400, 400), 0.1) is first
        family.fitting((600, 600), 0.1)
    assert opened == ["pt-ceo2-64", "large"]

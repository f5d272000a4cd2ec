"""`Denoiser(adapt=...)`: networks learn from what is given, and join the candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdn
from gdn.pipeline.budget import Budget
from gdn.pipeline.learning import budget_of
from gdn.pipeline.recording import RecordingDenoiser
from tests.helpers.frames import noisy_frame

pytest.importorskip("torch", reason="needs the adapt extra (torch)")

SMALL: dict[str, Any] = {"model": "pt-ceo2-64,restore", "restarts": 4, "threads": 1}


@pytest.mark.slow
@pytest.mark.parametrize("movie", ["off", "on"])
def test_steps_repeat_a_result(movie: str) -> None:
    stack = np.stack([noisy_frame((140, 150), n, dose=5) for n in range(3)]).astype(np.float32)
    shares: list[float] = []
    images = []
    for _ in range(2):
        with gdn.Denoiser(
            **SMALL, movie=movie, score=False, adapt=5, adapt_steps=(2, 20)
        ) as opened:
            result = opened.denoise(stack, 0.1, progress=shares.append)
        images.append(result.image)
    np.testing.assert_array_equal(*images)
    assert max(shares) == 1
    learned = [one for one in result.header["others"] if "training" in one]
    assert learned
    assert learned[0]["training"]["steps"] == [2, 20]
    assert len(learned[0]["training"]["frames"]) == 3
    assert learned[0]["name"] in result.frames[-1].record["mixture"]["shares"]


def test_what_was_learned_has_not_seen_what_weighs_it() -> None:
    """A frame is thinned by the draws of its place in the stack, as it was for the lessons."""

    class Learned(RecordingDenoiser):
        learned = True

    one = Learned(engine=None, bank=None, options=None)
    streams = [one.for_frame(None, i, 3, lambda share: None)[0].stream for i in range(3)]
    assert streams == [0, 1, 2]


@pytest.mark.parametrize("wrong", ["x", -1, float("nan"), None])
def test_a_wrong_time_is_an_input_error(wrong: Any) -> None:
    with pytest.raises(gdn.InputError, match="adapt"):
        gdn.Denoiser(**SMALL, adapt=wrong)


@pytest.mark.parametrize("wrong", [0, -3, (1, 2, 3), (0, 0), 1.5, "9"])
def test_wrong_steps_are_an_input_error(wrong: Any) -> None:
    with pytest.raises(gdn.InputError, match="adapt_steps"):
        gdn.Denoiser(**SMALL, adapt=True, adapt_steps=wrong)


@pytest.mark.parametrize("alone", [{"model": "restore"}, {"method": "original"}])
def test_what_mixes_nothing_learns_nothing(alone: dict[str, Any]) -> None:
    with pytest.raises(gdn.InputError, match="mixes nothing"):
        gdn.Denoiser(**({"model": "pt-ceo2-64"} | alone), adapt=True)


def test_budgets() -> None:
    assert budget_of(False, None) is None
    assert budget_of(0, 5) is None
    assert budget_of(True, None) == Budget(60)
    assert budget_of(7, (0, 9)) == Budget(7, 0, 9)

"""What a result may be called and used for."""

from __future__ import annotations

import pytest

from gdn.trust.comparison import Comparison
from gdn.trust.standing import EXPLAINED, FILTERED, UNSUPPORTED, Standing, standing_of


def against_blur(difference: float) -> Comparison:
    """A comparison with a standard error of 1."""
    return Comparison(
        against="best blur",
        difference=difference,
        error=1.0,
        expected=1.0,
        nats=difference,
        nats_error=1.0,
    )


@pytest.mark.parametrize(
    ("p", "difference", "standing"),
    [
        (0.5, 5.0, EXPLAINED),
        (0.01, 0.0, EXPLAINED),
        (0.5, -5.0, UNSUPPORTED),  # whatever p says
        (0.001, 5.0, FILTERED),
        (0.001, 1.0, UNSUPPORTED),  # not resolved
        (0.001, -5.0, UNSUPPORTED),
    ],
)
def test_the_rule(p: float, difference: float, standing: Standing) -> None:
    assert standing_of(p, against_blur(difference)) is standing


def test_without_p_or_score_nothing_is_said() -> None:
    assert standing_of(None, against_blur(5.0)) is None
    assert standing_of(0.5, None) is None

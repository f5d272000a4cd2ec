"""The tables that set what gdn says of a frame against the truth."""

from __future__ import annotations

from typing import Any

from rivals_tables import alarms, judged, standings

Row = dict[str, Any]


def rows(frame: str, gdn: float, p: float, standing: str) -> list[Row]:
    """A frame that blur and BM3D restore with 20 and 30 dB."""
    head: Row = {"frame": frame, "noise": "poisson:1"}
    return [
        head | {"method": "blur", "psnr_db": 20.0},
        head | {"method": "bm3d-binned", "psnr_db": 30.0},
        head | {"method": "gdn", "psnr_db": gdn, "explained_p": p, "standing": standing},
    ]


MADE = rows("a", 31.0, 0.6, "explained") + rows("b", 26.0, 0.002, "filtered")


def test_gdn_is_set_against_the_best_rival_and_the_blur() -> None:
    assert [(r["behind"], r["over_blur"]) for r in judged(MADE)] == [(-1.0, 11.0), (4.0, 6.0)]


def test_alarms_are_counted_by_what_was_lost() -> None:
    lines = list(alarms(MADE))
    assert "| not behind | 1 | 0.600 | 0% | 0% |" in lines
    assert "| more than 3 | 1 | 0.002 | 100% | 100% |" in lines


def test_each_standing_is_a_line() -> None:
    lines = list(standings(MADE))
    assert "| filtered | 1 | 6.00 | 6.00 | 4.00 | 4.00 |" in lines
    assert not any(line.startswith("| unsupported") for line in lines)

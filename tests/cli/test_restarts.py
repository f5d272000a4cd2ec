"""What a run says of its restarts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdn.cli.hints import restarts_said
from tests.helpers.commands import FAST, gdn


def row(tiles: int | None, taken: int | None, restarts: int = 4096) -> dict[str, object]:
    return {"tiles": tiles, "tiles_from_bank": taken, "restarts": restarts}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [row(100, 12), row(82, 0), row(None, None)],
            "4,096 restarts: 12 of 182 tiles took one; the encoder's guess was better elsewhere",
        ),
        ([row(4, 0, 256)], "256 restarts: the encoder's guess was better in all 4 tiles"),
        ([row(9, 9, 256)], "256 restarts: 9 of 9 tiles took one"),
        ([row(0, 0, 0), {"restarts": 256}], ""),  # a restorer alone; a record of an older gdn
    ],
)
def test_what_the_restarts_did(rows: list[dict[str, object]], words: str) -> None:
    assert restarts_said(rows) == words


def test_every_run_says_what_its_restarts_did(frame_file: Path, tmp_path: Path) -> None:
    result = gdn("denoise", frame_file, *FAST, "--model", "pt-ceo2-64", "--json", "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout)
    assert restarts_said([made]) in result.stderr
    assert 0 <= made["tiles_from_bank"] <= made["tiles"]

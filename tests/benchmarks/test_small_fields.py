"""The benchmark of fields smaller than a tile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.places import BENCHMARKS
from tests.helpers.scripts import run_script


def test_frames_flagged_are_counted_by_kind_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ase", reason="the script reads what far.py wrote")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import importlib

    script: Any = importlib.import_module("small_fields")
    row = {"file": "own-1", "size": 10, "place": 0, "factor": 1.0}
    rows = [row | {"p": 0.5}, row | {"p": 0.02, "place": 1}, row | {"p": 0.001, "factor": 0.7}]
    before = [row | {"p": 0.003}]
    assert script.table(rows, before).splitlines()[2:] == [
        "| right frames | 10 | 2 | 1 | 0 | 1 | 0.26 |",
        "| pixel size x 0.7 | 10 | 1 | - | 1 | 1 | 0.001 |",
    ]
    cuts = list(script.cuts_of("own-1"))
    assert len(cuts) == 5 * (3 + 2)
    assert len(list(script.cuts_of("bright-1"))) == 5


@pytest.mark.benchmark
def test_the_script_measures_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("ase", reason="the script reads what far.py wrote")
    image = np.full((230, 230), 0.45, np.float32)
    record = json.dumps({"name": "crystals-1"})
    np.savez(tmp_path / "crystals-1.npz", image=image, sampling_angstrom=0.1, record=record)
    rows = tmp_path / "rows.jsonl"
    said = run_script("small_fields", tmp_path, "--rows", rows)
    assert said.count("| other specimens |") == 5
    before = rows.read_text()
    assert len(before.splitlines()) == 5
    assert run_script("small_fields", tmp_path, "--rows", rows) == said
    assert rows.read_text() == before

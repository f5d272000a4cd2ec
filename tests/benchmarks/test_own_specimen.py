"""The comparison of a model of one's own specimen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.frames.source import FrameCalibration
from gdn.frames.writing import write_tiff
from tests.helpers.frames import noisy_frame
from tests.helpers.places import BENCHMARKS
from tests.helpers.scripts import run_script


def test_rows_become_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ase", reason="the script reads what far.py wrote")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import importlib

    script: Any = importlib.import_module("own_specimen")
    row = {"file": "test_1.tif", "method": "own", "psnr_db": 30.0, "ssim": 0.9, "f1": None}
    rows = [
        row | {"p": 0.5, "inside": 0.7},
        row | {"psnr_db": 32.0, "f1": 0.8, "p": 0.1, "inside": 0.6},
        row | {"file": "srtio3.npz", "method": "blur"},
    ]
    lines = script.table(rows).splitlines()[2:]
    assert lines == [
        "| own test structures | gdn, own model | 2 | 31.00 (1.41) | 30.00 | 0.900 | 0.80 | 0.3 "
        "| 65 |",
        "| far set | blur | 1 | 30.00 | 30.00 | 0.900 | - | - | - |",
    ]


@pytest.mark.benchmark
def test_the_script_measures_once_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("ase", reason="the script reads what far.py wrote")
    clean = noisy_frame((120, 130), 0, 1000.0).astype(np.float32)
    path = tmp_path / "test_1.tif"
    write_tiff(path, clean / clean.mean(), FrameCalibration(sampling_angstrom=0.0612), {})
    methods = "constant,auto=pt-ceo2-64"
    rows = tmp_path / "rows.jsonl"
    given = (path, "--rows", rows, "--methods", methods, "--restarts", 16)
    said = run_script("own_specimen", *given, "--picture", tmp_path / "a.png", "--show", path.name)
    assert "| own test structures | gdn, shipped models | 1 |" in said
    before = rows.read_text()
    assert {json.loads(line)["method"] for line in before.splitlines()} == {"constant", "auto"}
    run_script("own_specimen", *given)
    assert rows.read_text() == before
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

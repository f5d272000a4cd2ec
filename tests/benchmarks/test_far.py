"""The set of frames far from what the generators know."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.needs import needs_training
from tests.helpers.places import BENCHMARKS


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("far")


@needs_training
def test_the_far_set_is_what_it_says(far: Any) -> None:
    assert Counter(frame.group for frame in far.FRAMES) == {"pt-ceo2": 12, "other": 20}
    assert len({frame.name for frame in far.FRAMES}) == 32
    wanted = Counter(frame.contrast for frame in far.FRAMES if frame.group == "pt-ceo2")
    assert wanted == {"bright": 4, "dark": 4, "intermediate": 4}
    others = [frame for frame in far.FRAMES if frame.group == "other"]
    assert len({frame.specimen.replace(",", " ").split()[0] for frame in others}) >= 10
    assert {frame.mode for frame in others} == {"HRTEM", "HAADF", "ABF"}
    assert {frame.optics.voltage_kv for frame in others} == {80, 200, 300}


@needs_training
@pytest.mark.parametrize("name", ["mos2-platinum", "graphene-vacancies"])
def test_a_far_frame_is_built_and_read(far: Any, tmp_path: Path, name: str) -> None:
    frame = replace(
        next(f for f in far.FRAMES if f.name == name), sampling_angstrom=0.2, shape=(150, 140)
    )
    if frame.mode == "HRTEM":
        frame = replace(frame, foci_nm=(2, 4, 6))
    far.write(tmp_path / "frame.npz", far.make(frame, 7))
    found = far.read(tmp_path / "frame.npz")
    assert found["image"].shape == (150, 140)
    assert 0.1 < found["image"].mean() < 0.6
    assert found["record"]["periodic"]
    assert len(found["columns"]) == len(found["weights"]) == len(found["elements"]) > 50
    assert len(found["vacancies"]) + len(found["adatoms"]) >= 1

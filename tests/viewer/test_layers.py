"""The plugin of napari without napari: its manifest, its reader, and what becomes of a result."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gdn
from gdn.errors import InputError
from gdn.frames.formats import suffixes
from gdn.pipeline.column_picture import COLOURS
from gdn.viewer.layers import frames_of, result_layers, sampling_of
from gdn.viewer.reader import get_reader
from tests.helpers.frames import noisy_frame
from tests.helpers.places import ROOT

FAST = {"model": "pt-ceo2-64", "restarts": 16, "score": False, "threads": 1, "atoms": True}


def test_the_manifest_names_what_is_there() -> None:
    manifest = json.loads((ROOT / "gdn" / "viewer" / "napari.json").read_text(encoding="utf-8"))
    parts = manifest["contributions"]
    names = dict(command["python_name"].split(":") for command in parts["commands"])
    assert hasattr(importlib.import_module("gdn.viewer.reader"), names["gdn.viewer.reader"])
    assert "class DenoiseWidget" in (ROOT / "gdn" / "viewer" / "widget.py").read_text("utf-8")
    commands = {command["id"] for command in parts["commands"]}
    assert {part["command"] for part in parts["readers"] + parts["widgets"]} == commands
    patterns = {pattern.removeprefix("*") for pattern in parts["readers"][0]["filename_patterns"]}
    assert patterns == set(suffixes())


def test_a_file_becomes_a_layer_with_its_pixel_size(frame_file: Path, tmp_path: Path) -> None:
    reader = get_reader(str(frame_file))
    assert reader is not None
    ((image, options, kind),) = reader(str(frame_file))
    assert (kind, image.shape) == ("image", (220, 240))
    assert options["scale"] == pytest.approx((0.0061, 0.0061))
    assert options["units"] == ("nm", "nm")
    assert options["metadata"]["gdn"]["sampling_angstrom"] == pytest.approx(0.061)
    assert get_reader(str(tmp_path / "notes.txt")) is None
    assert get_reader([str(frame_file), str(tmp_path)]) is None


@pytest.mark.parametrize(
    ("scale", "units", "sampling"),
    [
        ((0.0061, 0.0061), ("nanometer", "nanometer"), 0.061),
        ((1, 0.061, 0.061), ("pixel", "angstrom", "angstrom"), 0.061),
        ((1, 1), ("pixel", "pixel"), None),
        ((0.1, 0.2), ("nm", "nm"), None),
    ],
)
def test_another_readers_layer_has_its_pixel_size(scale, units, sampling) -> None:
    layer = SimpleNamespace(metadata={}, scale=np.array(scale), units=units)
    assert sampling_of(layer) == (None if sampling is None else pytest.approx(sampling))


def test_what_is_no_image_is_refused() -> None:
    layer = SimpleNamespace(name="a", rgb=True, multiscale=False, data=np.zeros((9, 9, 3)))
    with pytest.raises(InputError, match="a colour picture"):
        frames_of(layer)
    layer = SimpleNamespace(name="a", rgb=False, multiscale=False, data=np.zeros((2, 2, 9, 9)))
    with pytest.raises(InputError, match="4 axes"):
        frames_of(layer)


@pytest.mark.slow
def test_a_stack_becomes_layers_with_a_ring_for_each_column() -> None:
    frames = np.stack([noisy_frame((130, 140), seed, dose=20) for seed in (0, 1)])
    result = gdn.denoise(frames, 0.061, **FAST)
    denoised, spread, columns = result_layers(result, "movie")
    np.testing.assert_array_equal(denoised[0], result.image)
    np.testing.assert_array_equal(spread[0], result.spread)
    assert denoised[1]["scale"] == pytest.approx((1, 0.0061, 0.0061))
    assert not spread[1]["visible"]
    places, options, kind = columns
    tables = result.columns
    assert kind == "points"
    assert len(places) == sum(map(len, tables))
    assert places[0].tolist() == [0, tables[0][0]["y_px"], tables[0][0]["x_px"]]
    verdicts = options["features"]["verdict"]
    colours = np.rint(255 * options["border_color"][:, :3]).astype(int).tolist()
    assert colours == [list(COLOURS[verdict]) for verdict in verdicts]

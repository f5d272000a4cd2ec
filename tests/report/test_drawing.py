"""The pieces of a report's pictures: scale bars, colour maps, spectra, profiles."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gdn.pipeline.scale_bar import bar_length, in_words, with_scale_bar
from gdn.report.colours import CIVIDIS, coloured
from gdn.report.profile import profile_of
from gdn.report.spectra import SIDE, spectrum_picture


@pytest.mark.parametrize(
    ("field_angstrom", "words"),
    [(3.0, "0.05 nm"), (52.0, "1 nm"), (400.0, "10 nm"), (9e4, "2000 nm")],
)
def test_a_scale_bar_is_a_round_length(field_angstrom: float, words: str) -> None:
    length = bar_length(field_angstrom)
    assert in_words(length) == words
    white = Image.new("L", (500, 400), 255)
    plate = np.asarray(with_scale_bar(white, field_angstrom / 500))
    dark = np.flatnonzero((plate == 0).any(1))
    bar = plate[dark[-1] - 8]  # a row of the bar, between the plate's margins
    runs = np.diff(np.flatnonzero(bar == 0))
    assert abs(runs.max() - 1 - length / field_angstrom * 500) <= 1


def test_a_colour_map_is_told_apart_by_lightness() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    light = np.asarray(coloured(ramp, CIVIDIS).convert("L"), float)[0]
    assert (np.diff(light) > -1.5).all()
    assert light[-1] - light[0] > 180


def test_a_lattice_is_two_spots_in_the_spectrum() -> None:
    x = np.arange(400) * 0.1
    image = np.tile(np.cos(2 * np.pi * x / 2.5), (400, 1)).astype(np.float32)
    spots = np.asarray(spectrum_picture(image, 0.1).convert("L"))[SIDE // 2]
    at = (np.flatnonzero(spots > 250) - SIDE / 2) / (SIDE / 2) * 1.25  # 1/Å
    assert len(at)
    assert abs(np.abs(at).mean() - 0.4) < 0.01
    assert np.abs(np.abs(at) - 0.4).max() < 0.06


def test_a_profile_keeps_the_values() -> None:
    denoised = np.linspace(0, 2, 120, dtype=np.float32) * np.ones((100, 1), np.float32)
    profile = profile_of(denoised, denoised, 0 * denoised + 0.1, "e/px", 12.0)
    row = profile.pictures["denoised"][50] / 255 * profile.top
    np.testing.assert_allclose(row, denoised[50], atol=0.01)
    assert "e/px" in profile.svg()

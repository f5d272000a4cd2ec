"""Frames of real microscopes, where the internal test data are there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.helpers.commands import FAST, gdn, one_line, unwrapped
from tests.helpers.needs import needs_shared
from tests.helpers.places import SHARED


@pytest.mark.slow
@needs_shared
def test_real_counted_frames_run(tmp_path: Path) -> None:
    path = SHARED / "real" / "nanoparticle_hrtem" / "frames.tif"
    result = gdn("denoise", path, *FAST, "--sampling", "0.0455", "--json", "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 5
    # Contrast-stretched counts: the gain found must be the spacing of the gray levels' clusters,
    # near 32.
    assert all(r["noise"]["kind"] == "poisson" and 28 < r["noise"]["gain"] < 36 for r in rows)
    image = tifffile.imread(rows[0]["output"])
    assert image.shape == (5, 488, 512)
    assert np.isfinite(image).all()


@needs_shared
def test_a_specimen_that_the_generator_does_not_know_is_flagged(tmp_path: Path) -> None:
    picture = SHARED / "real" / "soot_hrtem" / "ExampleImage.tif"
    one_line(gdn("denoise", picture, *FAST, "--sampling", "0.2", "-o", tmp_path), 1, "colour")
    soot = tifffile.imread(picture)[60:220, 120:280, 1]
    tifffile.imwrite(tmp_path / "soot.tif", soot)
    result = gdn(
        "denoise", tmp_path / "soot.tif", *FAST, "--sampling", "0.2", "--json", "-o", tmp_path
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert any("explains little" in w for w in row["warnings"])
    assert row["explained_p"] < 0.01
    assert any("cannot explain this frame" in w for w in row["warnings"])
    assert row["standing"] in {"filtered", "unsupported"}
    assert "1 of 1 results" in unwrapped(result.stderr)
    found = tifffile.imread(row["output"]).astype(float)
    assert np.corrcoef(found.ravel(), soot.ravel())[0, 1] > 0.9


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("name", ["10_dso_8nm_none_none.png", "Si110_5nmX25us_03_none_none.png"])
def test_stem_images_are_not_explained(name: str, tmp_path: Path) -> None:
    from PIL import Image

    picture = np.asarray(Image.open(SHARED / "real" / "adf_stem_png" / name).convert("L"))[
        :400, :400
    ]
    tifffile.imwrite(tmp_path / "stem.tif", picture)
    result = gdn(
        "denoise",
        tmp_path / "stem.tif",
        *FAST,
        "--sampling",
        "0.15",
        "--no-score",
        "--strict",
        "--json",
    )
    assert json.loads(result.stdout)["explained_p"] < 0.01
    one_line(result, 1, "--strict", "cannot explain 1 of 1 frames")


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("name", ["16_STOimage_1.ser", "Acquisition_18.emd"])
def test_real_files_of_microscopes(name: str, tmp_path: Path) -> None:
    """Read with their own pixel size where the formats extra is there, else refused saying what is
    missing."""
    result = gdn(
        "denoise",
        SHARED / "real" / "sto_stem" / name,
        *FAST,
        "--no-score",
        "--no-residual",
        "--json",
        "-o",
        tmp_path,
    )
    if importlib.util.find_spec("rsciio") is None:
        one_line(result, 1, name, "gdn[formats]")
        return
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["explained_p"] < 0.01  # STEM of SrTiO3
    assert tifffile.imread(row["output"]).shape == (1024, 1024)

"""`gdn denoise` with a restorer, alone or beside a generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from tests.helpers.commands import FAST, gdn, one_line, unwrapped
from tests.helpers.needs import needs_training

pytestmark = needs_training


# The command


NAMES = ("generator", "filter", "restore")


def test_denoise_with_a_restorer_beside_a_generator(
    frame_file: Path, restorer: Path, tmp_path: Path
) -> None:
    result = gdn(
        "denoise",
        frame_file,
        *FAST,
        "--model",
        f"pt-ceo2-64,{restorer}",
        "--report",
        "-o",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "frame_gdn.json").read_text())
    assert record["model"]["name"] == "pt-ceo2-64"
    assert [other["name"] for other in record["others"]] == ["collaborative", "lattice", "restore"]
    assert set(record["frames"][0]["mixture"]["shares"]) == {*NAMES, "collaborative", "lattice"}
    again = gdn("denoise", frame_file, *FAST, "--model", "pt-ceo2-64", "--resume", "-o", tmp_path)
    assert "already complete" not in unwrapped(again.stderr)  # another mixture is another result


def test_denoise_by_a_restorer_alone(frame_file: Path, restorer: Path, tmp_path: Path) -> None:
    result = gdn(
        "denoise", frame_file, *FAST, "--model", restorer, "--json", "--report", "-o", tmp_path
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["model"] == "restore"
    assert row["objective"] is None
    image = tifffile.imread(tmp_path / "frame_denoised.tif")
    assert image.shape == (220, 240)
    assert np.isfinite(tifffile.imread(tmp_path / "frame_spread.tif")).all()
    assert (tmp_path / "report.html").exists()
    done = gdn("denoise", frame_file, *FAST, "--model", restorer, "--resume", "-o", tmp_path)
    assert "already complete" in unwrapped(done.stderr)
    one_line(
        gdn("denoise", frame_file, "--model", restorer, "--atoms", "-o", tmp_path / "x"),
        2,
        "--atoms",
        "a restorer alone cannot do this",
    )
    one_line(gdn("demo", "--model", restorer, "-o", tmp_path / "x"), 2, "needs a generator")

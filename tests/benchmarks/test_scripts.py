"""The benchmarks' scripts at toy size: each runs to its end and prints its table."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import gdn
from tests.helpers.needs import needs_shared, needs_training
from tests.helpers.places import SHARED
from tests.helpers.scripts import run_script

pytestmark = pytest.mark.benchmark


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_damaged_files_by_the_hundred() -> None:
    """A sample; `benchmarks/hostile.py` alone takes twenty thousand."""
    said = run_script("hostile", "--cases", 160, "--first", 70000)
    assert "| model | 8 |" in said
    assert "| place | 32 |" in said


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_a_batch_that_is_ended_and_resumed() -> None:
    """A sample; `benchmarks/crash.py` alone ends three hundred, and kills workers too."""
    said = run_script("crash", "--kills", 2, "--workers", 0, "--files", 3)
    assert "| 1 | 0 |" in said


@needs_training
def test_the_benchmark_of_engines_runs_without_a_card(tmp_path: Path) -> None:
    run_script(
        "gpu",
        "--seconds",
        0.05,
        "--model",
        "pt-ceo2-64",
        "--side",
        300,
        "--stack",
        1,
        "--restarts",
        16,
        "--original",
        1,
        2,
        2,
        "--json",
        tmp_path / "rows",
    )
    rows = {
        row["engine"]: row for row in map(json.loads, (tmp_path / "rows").read_text().splitlines())
    }
    assert len(rows) == 6
    assert rows["onnxruntime, cpu"]["image_error"] < 1e-5
    assert rows["torch, cpu"]["gradient_error"] < 1e-3
    for row in rows.values():
        assert "reason" in row or (
            row["map_no_worse"] and row["mean_psnr_db"] > row["original_psnr_db"]
        )


@needs_training
@needs_shared
@pytest.mark.parametrize(
    ("name", "channels"), [("mnist", "1"), ("cifar100_subset", "1"), ("cifar100_subset", "3")]
)
def test_digits_and_photographs_train_with_the_study_recipe(
    tmp_path: Path, name: str, channels: str
) -> None:
    result = gdn(
        "train",
        "--recipe",
        "dcgan",
        "--data",
        SHARED / f"{name}.npz",
        "--patch",
        "32",
        "--channels",
        channels,
        "--images",
        "144",
        "-o",
        tmp_path / "r",
        "--threads",
        "1",
    )
    assert result.returncode == 0, result.stderr
    table = run_script(
        "latent_recovery",
        tmp_path / "r",
        "--data",
        SHARED / f"{name}.npz",
        "--targets",
        2,
        "--restarts",
        2,
        "--steps",
        2,
        "--lbfgs-steps",
        2,
        "--threads",
        1,
    )
    assert table.count("| lbfgs |") == 6


@needs_training
@pytest.mark.slow
def test_the_instrument_prints_a_row_for_a_run(tmp_path: Path, full_run: Path) -> None:
    pytest.importorskip("abtem")  # the unseen structures are simulated on the spot
    said = run_script(
        "generators",
        full_run,
        "--rows",
        tmp_path / "rows.jsonl",
        "--tiles",
        4,
        "--targets",
        2,
        "--samples",
        16,
        "--steps",
        2,
        "--frames",
        0,
        "--threads",
        1,
        "--data",
        tmp_path / "data",
    )
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["test_2"]["all"]["n"] == 4
    assert {"precision", "recall", "spectrum_db"} == set(row["likeness"])
    assert "| full | 80 |" in said


@needs_training
def test_rivals_that_learn_from_the_frame_and_one_that_cannot_start(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:96, :96]
    image = (0.45 + 0.1 * np.sin(rows / 4) * np.sin(columns / 4)).astype(np.float32)
    places = rng.uniform(10, 30, (4, 2)).astype(np.float32)
    record = {"name": "toy", "number": 1, "group": "pt-ceo2", "mode": "HRTEM"}
    record |= {"contrast": "bright", "periodic": False}
    defects = dict.fromkeys(
        ("vacancies", "vacancy_peers", "adatoms", "adatom_peers"), np.zeros((0, 2), np.float32)
    )
    np.savez(
        tmp_path / "toy.npz",
        image=image,
        sampling_angstrom=0.1,
        columns=places,
        record=json.dumps(record),
        **defects,
    )
    said = run_script(
        "rivals",
        "--far",
        tmp_path,
        "--json",
        tmp_path / "rows.jsonl",
        "--methods",
        "noisy,zs-n2n,noise2self,topaz",
        "--python",
        f"topaz={shutil.which('false')}",
        "--learn",
        3,
    )
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    by_method = {line["method"]: line for line in lines}
    assert "ended unasked" in by_method["topaz"]["failed"]
    assert "topaz failed on 1 frames" in said
    for name in ("zs-n2n", "noise2self"):
        assert by_method[name]["angstrom"] == pytest.approx(0.3)
        assert by_method[name]["vacuum_percent"] > 0
        assert 0 < by_method[name]["seconds"] < 60
        assert by_method[name]["peak_mib"] > 50
        assert by_method[name]["psnr_db"] > by_method["noisy"]["psnr_db"] + 2

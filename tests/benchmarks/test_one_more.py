"""What one more generator would bring to auto: a small frame, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.helpers.needs import needs_training
from tests.helpers.scripts import run_script

pytestmark = [pytest.mark.benchmark, needs_training]


def test_a_generator_beside_its_copy_is_never_taken(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    import far

    image = 0.45 + 0.5 * gaussian_filter(rng.normal(size=(260, 260)), 8)
    record = {"group": "bright", "mode": "HRTEM"}
    content = {
        "image": image.astype(np.float32),
        "sampling_angstrom": 0.1,
        "record": json.dumps(record),
    }
    far.write(tmp_path / "bright-1.npz", content)
    said = run_script(
        "one_more",
        "pt-ceo2-64",
        "pt-ceo2-64",
        "--frames",
        tmp_path,
        "--noise",
        "poisson:1",
        "--restarts",
        4,
        "--rows",
        tmp_path / "rows.jsonl",
    )
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["chosen"] == 0
    assert row["db"][0] == row["db"][1]
    assert "| poisson:1 | all | 1 |" in said


def test_the_table_has_the_choice_and_the_better_one() -> None:
    from learning_tables import one_more_table

    kept = {"noise": "poisson:1", "models": ["a", "b"], "group": "g", "seconds": [2.0, 4.0]}
    rows = [
        kept | {"db": [30.0, 32.0], "chosen": 1, "choosing": 0.5},
        kept | {"db": [31.0, 30.0], "chosen": 1, "choosing": 0.3},
    ]
    lines = one_more_table(rows).splitlines()
    assert lines[-1] == "| poisson:1 | all | 2 | 30.50 | 31.00 | 31.00 | 31.50 | 2 | 1.10 |"

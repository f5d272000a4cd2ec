"""The frames, the measuring and the tables of cost.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.needs import needs_training

pytestmark = needs_training


def row(side: int, **changes: Any) -> dict[str, Any]:
    """A line of one frame."""
    parts = {"refine": 3.0, "judge": 5.0}
    line = {"method": "gdn", "frames": 1, "side": side, "options": "", "seed": 0, "load": 1.0}
    line |= {"wall_seconds": 10.0, "cpu_seconds": 8.0, "peak_mib": 1500, "parts": parts}
    return line | changes


def test_frames_of_all_sizes_show_the_same_scene() -> None:
    from cost_frames import SCENE, scene, sized

    clean = scene(3)
    assert np.array_equal(clean, scene(3))
    assert not np.array_equal(clean, scene(4))
    assert np.array_equal(sized(clean, 256), clean[472:728, 472:728])
    assert clean[:200].min() > 0.99  # vacuum
    large = sized(clean, 3000)
    assert np.array_equal(large[:SCENE, :SCENE], clean)
    assert np.array_equal(large[:SCENE, SCENE : 2 * SCENE], clean[:, ::-1])


def test_each_frame_of_a_stack_has_its_own_noise_at_the_dose(tmp_path: Path) -> None:
    import tifffile
    from cost_frames import scene, sized, write_stack

    write_stack(tmp_path / "stack.tif", 3, 200, 1)
    stack = tifffile.imread(tmp_path / "stack.tif")
    assert stack.shape == (3, 200, 200)
    assert not np.array_equal(stack[0], stack[1])
    dose = 0.45 * sized(scene(1), 200).mean()
    assert stack.mean() == pytest.approx(dose, rel=0.02)


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_time_and_memory_are_those_of_the_process(tmp_path: Path) -> None:
    from cost import run

    work = "import time\nheld = b'1' * (150 << 20)\nwhile time.process_time() < 0.6: pass"
    measured = run([sys.executable, "-c", work], tmp_path, 60)
    assert measured.code == 0
    assert 0.6 <= measured.cpu_seconds < 1.5
    assert 150 < measured.peak_mib < 200


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_a_command_that_does_not_end_or_fails_is_a_line_that_says_so(tmp_path: Path) -> None:
    from cost import row_of, run

    endless = row_of({}, run([sys.executable, "-c", "while True: pass"], tmp_path, 0.3))
    assert endless["failed"] == "not ended at the limit"
    assert endless["cpu_seconds"] >= 0.3
    failing = row_of({}, run([sys.executable, "-c", "raise SystemExit('no room')"], tmp_path, 60))
    assert failing["failed"] == "no room"
    good = row_of({}, run([sys.executable, "-c", ""], tmp_path, 60))
    assert "failed" not in good


def test_the_last_line_counts_and_shares_are_those_of_the_clock() -> None:
    from cost_tables import frames_table

    lines = frames_table([row(512), row(2000, wall_seconds=20.0), row(512, cpu_seconds=9.0)])
    small, large = lines.splitlines()[2:]
    assert "| 512x512 |" in small
    assert "| 9.0 |" in small
    assert small.split(" | ")[6] == "20"  # start, files: what no part accounts for
    assert small.endswith("| 30 | 0 | 0 | 50 |")
    assert large.split(" | ")[3] == "2.0"  # seconds a megapixel


def test_a_rival_that_failed_is_told_with_its_reason() -> None:
    from cost_tables import lines_of_plot, rivals_table, stacks_table

    rows = [row(512), row(4096, peak_mib=3000), row(512, method="topaz", angstrom=0.2448)]
    rows += [row(4096, method="topaz", angstrom=0.2448, failed="Killed")]
    rows += [row(256, frames=40, options="--movie off", cpu_seconds=40.0)]
    table = rivals_table(rows).splitlines()
    assert table[0] == "| CPU s / peak MiB | Å a pixel | 512x512 | 4096x4096 |"
    assert table[2] == "| gdn |  | 8.0 / 1,500 | 8.0 / 3,000 |"
    assert table[3] == "| Topaz | 0.24 | 8.0 / 1,500 | 8.0 / 1,500: Killed |"
    assert "| 40 | 256x256 | `--movie off` | 40.0 | 1.00 |" in stacks_table(rows)
    lines = lines_of_plot(rows)
    assert [line["side"] for line in lines["gdn"]] == [512, 4096]
    assert [line["side"] for line in lines["Topaz"]] == [512]

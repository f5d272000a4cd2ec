"""`gdn simulate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdn.simulation.imaging import Optics, oversampled, read_wave
from gdn.simulation.simulate import seed_of_path
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import needs_training

pytestmark = needs_training


@pytest.mark.slow
def test_simulate_in_parallel_resumes_and_repeats(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert (
        gdn(
            "simulate", a, "--count", "3", "--seed", "9", "--frames", "1", "--workers", "2"
        ).returncode
        == 0
    )
    waves = sorted((a / "waves").iterdir())
    assert len(waves) == 3
    assert len(list((a / "frames").iterdir())) == 1
    before = {p: p.stat().st_mtime_ns for p in waves}
    waves[1].unlink()
    (a / "waves" / "000001.123.part").write_text("left by a kill")
    assert gdn("simulate", a, "--count", "3", "--seed", "9").returncode == 0
    assert sorted((a / "waves").iterdir()) == waves
    assert waves[0].stat().st_mtime_ns == before[waves[0]]
    assert gdn("simulate", b, "--count", "2", "--seed", "9").returncode == 0
    for p in waves[:2]:
        one, two = read_wave(p), read_wave(b / "waves" / p.name)
        scale = np.abs(one.spectrum).max()
        np.testing.assert_allclose(one.spectrum / scale, two.spectrum / scale, atol=1e-5)
        assert one.record == two.record
        assert one.record["seed"] == seed_of_path(p)


@pytest.mark.slow
def test_abtem_makes_waves_if_asked_to_and_never_in_a_folder_of_the_others(tmp_path: Path) -> None:
    pytest.importorskip("abtem")
    waves = []
    for name in ("torch", "abtem"):
        done = gdn("simulate", tmp_path / name, "--count", "1", "--seed", "9", "--multislice", name)
        assert done.returncode == 0, done.stderr
        waves.append(read_wave(next((tmp_path / name / "waves").iterdir())))
    assert [w.record["simulation"] for w in waves] == ["gdn", "abTEM"]
    assert waves[0].record["structure"] == waves[1].record["structure"]
    images = [oversampled(w, Optics(defocus_nm=5), 160, 0.4) for w in waves]
    assert (
        np.sqrt(np.mean((images[0] - images[1]) ** 2)) < 0.1 * images[1].std()
    )  # docs/measurements/simulation.md: what is left
    one_line(
        gdn("simulate", tmp_path / "abtem", "--count", "2", "--seed", "9"), 1, "--multislice abtem"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--multislice", "magic"), "torch or abtem"),
        (("--device", "tpu"), "cpu, cuda or cuda:N"),
        (("--device", "cuda:99"), "torch sees"),
    ],
)
def test_waves_by_nobody_and_nowhere_are_refused(
    tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    one_line(gdn("simulate", tmp_path / "d", "--count", "1", "--seed", "1", *more), 2, words)
    assert not list(tmp_path.glob("d/waves/*"))

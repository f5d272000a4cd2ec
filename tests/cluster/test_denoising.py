"""A cluster of real worker processes: the same results as without."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.candidates import command, script
from tests.helpers.cluster import COUNT, OPTIONS, certificate_files, same
from tests.helpers.commands import gdn, one_line, unwrapped
from tests.helpers.needs import needs_cluster, needs_training
from tests.helpers.places import ROOT

pytestmark = [
    needs_cluster,
    pytest.mark.cluster,
    # Dask leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_those_of_one_machine(frames: Path, workers: int) -> None:
    out = f"local{workers}"
    done = gdn(
        "denoise",
        "in",
        "-o",
        out,
        "--report",
        "--json",
        "--cluster",
        f"local:{workers}",
        *OPTIONS,
        cwd=frames,
    )
    assert done.returncode == 0, done.stderr
    same(frames, "alone", out)
    rows = {row["input"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert sorted(rows) == [f"in/f{n}.tif" for n in range(COUNT)]
    pages = [(frames / name / "report.html").read_text() for name in ("alone", out)]
    assert [page.count("<img") for page in pages] == [pages[0].count("<img")] * 2
    assert pages[1].index("f0.tif [0]") < pages[1].index("f5.tif [0]")


def test_a_candidate_runs_on_the_workers(frames: Path, tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "from scipy.ndimage import gaussian_filter\nnp.save(target, gaussian_filter(counts, 3))",
    )
    shutil.copytree(frames / "in", tmp_path / "in")
    own = ("--candidate", command(path), *OPTIONS)
    for out, more in (("alone", ()), ("local1", ("--cluster", "local:1"))):
        done = gdn("denoise", "in", "-o", out, *more, *own, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / out / "gdn-summary.csv").unlink()  # it has times
    same(tmp_path, "alone", "local1")
    record = json.loads((tmp_path / "local1" / "f0_gdn.json").read_text())
    assert "own" in record["frames"][0]["mixture"]["shares"]


def test_resume_goes_on_in_either_mode_and_failures_are_said(frames: Path) -> None:
    shutil.copytree(frames / "alone", frames / "mixed")
    for name in ("f1_denoised.tif", "f4_spread.tif"):
        (frames / "mixed" / name).unlink()
    before = (frames / "mixed" / "f0_gdn.json").stat().st_mtime_ns
    refused = gdn("denoise", "in", "-o", "mixed", "--cluster", "local:1", *OPTIONS, cwd=frames)
    assert refused.returncode == 1
    assert (
        unwrapped(refused.stderr).count("exists already") == COUNT
    )  # f1 and f4 have left images behind
    (frames / "in2").mkdir()
    (frames / "in2" / "bad.tif").write_bytes(b"II*\0no tiff at all")
    done = gdn(
        "denoise",
        "in",
        "in2",
        "-o",
        "mixed",
        "--resume",
        "--cluster",
        "local:2",
        *OPTIONS,
        cwd=frames,
    )
    assert done.returncode == 1
    assert "bad.tif" in done.stderr
    assert f"1 of {COUNT + 1} files failed" in unwrapped(done.stderr)
    assert f"{COUNT - 2} of {COUNT + 1} files were already complete" in unwrapped(done.stderr)
    assert "Traceback" not in done.stderr
    same(frames, "alone", "mixed")
    assert (frames / "mixed" / "f0_gdn.json").stat().st_mtime_ns == before
    shutil.rmtree(frames / "in2")
    again = gdn("denoise", "in", "-o", "mixed", "--resume", *OPTIONS, cwd=frames)
    assert f"{COUNT} of {COUNT} files were already complete" in unwrapped(again.stderr)


def test_what_cannot_be_meant_is_one_line(frame_file: Path) -> None:
    one_line(
        gdn("denoise", frame_file, "--cluster", "local:none"), 2, "local:N with N from 1 to 1024"
    )
    one_line(
        gdn("denoise", "--watch", frame_file.parent, "--cluster", "local:1"),
        2,
        "cannot be used with --cluster",
    )


@needs_training
def test_structures_on_a_cluster_are_those_of_one_machine(tmp_path: Path) -> None:
    arguments = ("--count", "2", "--seed", "5", "--frames", "1")
    assert gdn("simulate", tmp_path / "a", *arguments).returncode == 0
    done = gdn("simulate", "b", *arguments, "--cluster", "local:2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b: 2 exit waves, 1 frames\n"
    ours, theirs = (sorted((tmp_path / name).rglob("*.npz")) for name in "ab")
    assert [p.name for p in ours] == [p.name for p in theirs]
    for one, other in zip(ours, theirs, strict=True):
        with np.load(one) as mine, np.load(other) as its:
            assert set(mine) == set(its)
            scale = np.abs(mine["spectrum"]).max()
            np.testing.assert_allclose(mine["spectrum"], its["spectrum"], atol=1e-5 * scale)


@pytest.mark.filterwarnings("ignore:Port 8787")  # another scheduler's status page
def test_the_slurm_example_makes_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("needs dask-jobqueue, of the extra 'cluster'")
    text = (ROOT / "docs" / "scaling.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(sys, "argv", ["example.py", "--dry-run"])
    import dask.config

    certificate_files(tmp_path)
    both = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    tls = {"ca-file": both["cert"], "scheduler": both, "worker": both, "client": both}
    with (
        dask.config.set({f"distributed.comm.tls.{name}": value for name, value in tls.items()}),
        pytest.raises(SystemExit) as end,
    ):
        exec(compile(code, "scaling.md", "exec"), {"__name__": "__main__"})
    assert end.value.code in (None, 0)
    said = capsys.readouterr().out
    assert "#SBATCH --cpus-per-task=8" in said
    assert "distributed.cli.dask_worker" in said

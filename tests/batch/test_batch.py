"""Batches as a laboratory runs them: folders, lists, watching, interruption, what is kept and what
is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock, call

import numpy as np
import pytest
import tifffile

from tests.helpers.commands import FAST, gdn, left_behind, one_line, unwrapped
from tests.helpers.frames import noisy_frame, write_hspy, write_mrc
from tests.helpers.needs import needs_formats

QUICK = [*FAST, "--sampling", "0.1", "--no-score"]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A folder of three small frames in two formats, one damaged file, and one of no format."""
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(2):
        tifffile.imwrite(folder / f"f{number}.tif", noisy_frame((100, 100), number))
    write_mrc(folder / "g.mrc", noisy_frame((100, 100), 7), 0.1)
    (folder / "bad.tif").write_bytes(b"II*\0 not a picture")
    (folder / "notes.txt").write_text("dose 0.45")
    return folder


def test_a_folder_is_a_batch_and_its_results_are_not(night: Path) -> None:
    first = gdn("denoise", night, *QUICK, "--json")
    assert first.returncode == 1
    one_line(first, 1, "bad.tif", "a TIFF without an image")
    one_line(first, 1, "1 of 4 files failed; the others are done")
    assert len(first.stdout.splitlines()) == 3
    # Results are kept, and are no input of a second run.
    before = (night / "f0_denoised.tif").stat().st_mtime_ns
    second = gdn("denoise", night, *QUICK, "--json")
    assert second.stdout == ""
    one_line(
        second, 1, "f0_denoised.tif", "exists already; --overwrite replaces results, --resume skips"
    )
    assert (night / "f0_denoised.tif").stat().st_mtime_ns == before
    third = gdn("denoise", night, *QUICK, "--resume", "--json")
    assert third.stdout == ""
    one_line(third, 1, "3 of 4 files were already complete")
    other = gdn("denoise", night / "f0.tif", *QUICK, "--overwrite", "--seed", 4, "--json")
    assert other.returncode == 0, other.stderr
    assert json.loads((night / "f0_gdn.json").read_text())["search"]["seed"] == 4
    assert left_behind(night) == []


def test_names_from_stdin(night: Path, tmp_path: Path) -> None:
    names = f"{night / 'f0.tif'}\n\n{night / 'f*.tif'}\r\n"
    result = gdn("denoise", "-", *QUICK, "--json", "-o", tmp_path / "out", stdin=names)
    assert result.returncode == 0, result.stderr
    assert [Path(json.loads(line)["input"]).name for line in result.stdout.splitlines()] == [
        "f0.tif",
        "f1.tif",
    ]


def test_formats_of_results(night: Path, tmp_path: Path) -> None:
    import mrcfile

    out = tmp_path / "out"
    result = gdn(
        "denoise",
        night / "g.mrc",
        night / "f0.tif",
        *FAST,
        "--no-score",
        "--sampling",
        0.1,
        "--format",
        "same",
        "-o",
        out,
    )
    assert result.returncode == 0, result.stderr
    with mrcfile.open(out / "g_denoised.mrc") as file:
        assert float(file.voxel_size.x) == pytest.approx(0.1)
        assert file.data.shape == (100, 100)
        assert b"gdn" in file.header.label[-1] or any(
            b"gdn" in label for label in file.header.label
        )
    assert (out / "f0_denoised.tif").exists()
    rounded = gdn("denoise", night / "f0.tif", *QUICK, "--dtype", "uint16", "-o", tmp_path / "b")
    assert rounded.returncode == 0, rounded.stderr
    assert tifffile.imread(tmp_path / "b" / "f0_denoised.tif").dtype == np.uint16
    one_line(
        gdn("denoise", night / "f0.tif", "--format", "jpg"),
        2,
        "--format jpg",
        "tif, mrc, zarr, same",
    )
    one_line(gdn("denoise", night / "f0.tif", "--dtype", "int7"), 2, "--dtype int7", "float32")


@pytest.mark.slow
@needs_formats
def test_a_movie_of_dose_fractions_is_summed(tmp_path: Path) -> None:
    write_hspy(
        tmp_path / "movie.hspy",
        np.stack([noisy_frame((100, 100), seed) for seed in range(4)]),
        scale=0.01,
    )
    each = gdn(
        "denoise", tmp_path / "movie.hspy", *FAST, "--no-score", "--json", "-o", tmp_path / "each"
    )
    assert len(each.stdout.splitlines()) == 4, each.stderr
    total = gdn(
        "denoise",
        tmp_path / "movie.hspy",
        *FAST,
        "--no-score",
        "--sum",
        "--json",
        "-o",
        tmp_path / "sum",
    )
    (row,) = [json.loads(line) for line in total.stdout.splitlines()]
    assert row["noise"]["dose"] == pytest.approx(4 * 0.45, rel=0.05)
    assert tifffile.imread(row["output"]).shape == (100, 100)
    assert json.loads((tmp_path / "sum" / "movie_gdn.json").read_text())["input"]["summed"] is True


def test_provenance_is_in_the_image(frame_file: Path) -> None:
    assert gdn("denoise", frame_file, *FAST, "--no-score").returncode == 0
    with tifffile.TiffFile(frame_file.with_name("frame_denoised.tif")) as tif:
        assert "details: frame_gdn.json" in str((tif.imagej_metadata or {}).get("Info"))


@pytest.mark.slow
def test_watching_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scope"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", noisy_frame((100, 100), 0))
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, noisy_frame((100, 100), 1))

    def microscope() -> None:
        content = whole.read_bytes()
        with (folder / "b.tif").open("wb") as stream:  # written in pieces
            for first in range(0, len(content), len(content) // 4 + 1):
                stream.write(content[first : first + len(content) // 4 + 1])
                stream.flush()
                time.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(microscope)
        options = ("--watch-idle", "6", "--json", "-o", tmp_path / "out")
        done = gdn("denoise", "--watch", folder, *QUICK, *options)
        written.result()
    assert done.returncode == 0, done.stderr
    assert sorted(Path(json.loads(line)["input"]).name for line in done.stdout.splitlines()) == [
        "a.tif",
        "b.tif",
    ]
    one_line(gdn("denoise", "--watch", folder, whole), 2, "FILES or --watch DIR")
    one_line(gdn("denoise"), 2, "nothing to denoise: give either FILES")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interruption_leaves_whole_files_only(tmp_path: Path, kind: signal.Signals) -> None:
    for number in range(30):
        tifffile.imwrite(tmp_path / f"f{number:02d}.tif", noisy_frame((200, 200), number))
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "gdn",
        "denoise",
        str(tmp_path),
        *FAST,
        "--sampling",
        "0.1",
        "-o",
        str(out),
    ]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without a terminal lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(kind, signal.SIG_DFL),
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.readline()
    running.send_signal(kind)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "of 30 files are done" in unwrapped(err)
    assert "--resume" in err
    assert "Traceback" not in err
    assert left_behind(out) == []
    records = sorted(p.stem.removesuffix("_gdn") for p in out.glob("*_gdn.json"))
    assert len(records) >= 2
    for stem in records:
        assert tifffile.imread(out / f"{stem}_denoised.tif").shape == (200, 200)


@pytest.mark.slow
def test_a_run_is_repeated_by_its_config(frame_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = gdn(
        "denoise", frame_file, *FAST, "--no-score", "--seed", 5, "--intervals", "90", "-o", out
    )
    assert first.returncode == 0, first.stderr
    written = out / "gdn-run.toml"
    before = {p.name: p.read_bytes() for p in out.glob("*.tif")}
    again = gdn("denoise", "--config", written, "--overwrite", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").glob("*.tif")} == before
    # What is typed wins over the file; what the file gets wrong is said.
    other = gdn("denoise", "--config", written, "--seed", 6, "-o", tmp_path / "other")
    assert other.returncode == 0, other.stderr
    assert json.loads((tmp_path / "other" / "frame_gdn.json").read_text())["search"]["seed"] == 6
    broken = tmp_path / "broken.toml"
    broken.write_text("restart = 3")
    one_line(
        gdn("denoise", frame_file, "--config", broken), 2, "broken.toml", "no such option: restart"
    )
    broken.write_text("restarts = ")
    one_line(gdn("denoise", frame_file, "--config", broken), 2, "broken.toml", "cannot be read")
    broken.write_text('restarts = "many"')
    one_line(gdn("denoise", frame_file, "--config", broken), 2, "restarts")


def test_a_log_says_how_far_it_is_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    from gdn.batch.terminal import Log, duration

    times = iter([0.0, 10.0, 71.0, 80.0, 7300.0])
    log = Log("denoising", 40, lambda: next(times))
    log(0.5, text="a.tif (1/40)")
    log(1, text="b.tif (2/40), frame 1/3")
    log(2)
    log(20, text="u.tif (21/40)")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "gdn: denoising: a.tif (1/40), 1%, about 13 min left",  # once, as soon as it is known
        "gdn: denoising: b.tif (2/40), frame 1/3, 2%, about 46 min left",
        "gdn: denoising: u.tif (21/40), 50%, about 2 h 02 min left",
    ]
    assert [duration(s) for s in (3, 89, 95, 5300, 5400)] == [
        "3 s",
        "89 s",
        "2 min",
        "88 min",
        "1 h 30 min",
    ]


def test_a_log_does_not_take_an_earlier_runs_work_for_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from gdn.batch.terminal import Log

    times = iter([0.0, 0.1, 10.0])
    log = Log("simulating", 400, lambda: next(times))
    log(200)  # what an earlier run has left
    log(210)
    assert capsys.readouterr().err == "gdn: simulating: 210 done, 52%, about 3 min left\n"


def test_the_bar_looks_at_the_file_in_hand() -> None:
    """Which of its frames, and only where it has moved; until the block ends."""
    from gdn.batch.run import Drawn
    from gdn.batch.terminal import keep_drawing
    from gdn.search.progress import Reached

    reached, bar = Reached(), MagicMock()
    drawn = Drawn(update=bar, files=1, text="b.tif (2/40)", reached=reached)
    drawn.draw()
    reached.frames = 3
    reached(0.5)
    drawn.draw()
    drawn.draw()
    reached(1.0)
    drawn.draw()
    assert bar.call_args_list == [
        call(1.5, text="b.tif (2/40), frame 2/3"),
        call(2.0, text="b.tif (2/40), frame 3/3"),
    ]
    looked = threading.Event()
    with keep_drawing(looked.set):
        assert looked.wait(10)
    assert not [t for t in threading.enumerate() if t.name == "gdn progress"]


def test_names_that_are_patterns_and_other_alphabets(tmp_path: Path) -> None:
    names = (
        ["run [3] 0.5e.TIF", "Probe_Ångström é.tif", "b*.tif"]
        if os.name != "nt"
        else ["run [3] 0.5e.TIF", "é.tif"]
    )
    for number, name in enumerate(names):
        tifffile.imwrite(tmp_path / name, noisy_frame((100, 100), number))
    done = gdn(
        "denoise", *(tmp_path / name for name in names), *QUICK, "--json", "-o", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert [Path(json.loads(line)["input"]).name for line in done.stdout.splitlines()] == names
    assert (tmp_path / "out" / "run [3] 0.5e_denoised.tif").exists()
    # Windows shells leave patterns to the program, and may write the suffix in capitals.
    other = gdn("denoise", str(tmp_path / "run*"), *QUICK, "--json", "-o", tmp_path / "other")
    assert len(other.stdout.splitlines()) == 1, other.stderr


def test_a_fault_of_gdns_own_costs_one_file(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdn.pipeline import denoise_file as files

    real = files.denoise_file

    def faulty(frames, *rest):
        if frames.path.name == "f0.tif":
            raise KeyError("lattice")
        return real(frames, *rest)

    monkeypatch.setattr(files, "denoise_file", faulty)
    command = (
        "denoise",
        night / "f0.tif",
        night / "f1.tif",
        *QUICK,
        "--overwrite",
        "-o",
        tmp_path / "out",
    )
    result = gdn(*command)
    assert result.returncode == 1
    assert (
        "f0.tif: internal error, please report it: KeyError: 'lattice' (gdn --debug shows where)"
        in unwrapped(result.stderr)
    )
    assert "1 of 2 files failed; the others are done" in unwrapped(result.stderr)
    assert "Traceback" not in result.stderr
    assert (tmp_path / "out" / "f1_denoised.tif").exists()
    monkeypatch.setenv("GDN_DEBUG", "1")
    assert "Traceback" in gdn(*command).stderr

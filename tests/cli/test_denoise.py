"""`gdn denoise` as its user meets it: what it writes, and one line for every fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.helpers.commands import FAST, gdn, left_behind, one_line
from tests.helpers.frames import noisy_frame


def test_denoise_writes_three_files_and_a_row(frame_file: Path, tmp_path: Path) -> None:
    result = gdn("denoise", frame_file, *FAST, "--json", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert {
        "input",
        "frame",
        "output",
        "spread",
        "model",
        "engine",
        "restarts",
        "seed",
        "noise",
        "objective",
        "seconds",
    } <= set(row)
    assert {"kind", "gain", "offset", "dose"} <= set(row["noise"])
    assert row["noise"]["kind"] == "poisson"
    with tifffile.TiffFile(row["output"]) as tif:
        assert tif.is_imagej
        assert tif.series[0].shape == (220, 240)
        assert tif.series[0].dtype == np.float32
        assert tif.imagej_metadata["unit"] == "nm"
        top, bottom = tif.pages[0].tags["XResolution"].value
        assert top / bottom == pytest.approx(10 / 0.061, rel=1e-4)
    image = tifffile.imread(row["output"])
    assert image.mean() == pytest.approx(0.45, rel=0.05)  # counts come back as expected counts
    record = json.loads((tmp_path / "out" / "frame_gdn.json").read_text())
    assert record["search"]["restarts"] == 16
    assert record["model"]["sha256"]
    assert record["frames"][0]["objectives"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "frame_denoised.tif",
        "frame_gdn.json",
        "frame_spread.tif",
        "gdn-run.toml",
        "gdn-summary.csv",
    ]


def test_a_stack_comes_back_as_a_stack_and_a_seed_repeats(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    stack = np.stack([noisy_frame((130, 140), i) for i in range(3)]).astype(np.uint16)
    meta = (
        {"axes": "TYX"}
        | {f"PhysicalSize{a}": 0.09 for a in "XY"}
        | {f"PhysicalSize{a}Unit": "Å" for a in "XY"}
    )
    tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata=meta)
    outs = []
    for name in ("a", "b"):
        result = gdn("denoise", path, *FAST, "--no-score", "--seed", 3, "-o", tmp_path / name)
        assert result.returncode == 0, result.stderr
        outs.append(tifffile.imread(tmp_path / name / "movie_denoised.tif"))
    assert outs[0].shape == (3, 130, 140)
    np.testing.assert_array_equal(outs[0], outs[1])
    assert json.loads((tmp_path / "a" / "movie_gdn.json").read_text())["search"]["seed"] == 3


def test_globs_and_resume(tmp_path: Path) -> None:
    for i in range(2):
        tifffile.imwrite(tmp_path / f"f{i}.tif", noisy_frame((100, 100), i))
    arguments = [
        "denoise",
        str(tmp_path / "f?.tif"),
        *FAST,
        "--sampling",
        "0.1",
        "--resume",
        "--json",
        "-o",
        tmp_path / "out",
    ]
    first = gdn(*arguments)
    assert len(first.stdout.splitlines()) == 2
    (tmp_path / "out" / "f1_denoised.tif").unlink()
    again = gdn(*arguments)
    assert [json.loads(line)["input"] for line in again.stdout.splitlines()] == [
        str(tmp_path / "f1.tif")
    ]
    one_line(gdn("denoise", tmp_path / "g*.tif", *FAST), 2, "no file has such a name")


@pytest.mark.slow
def test_small_oblong_and_coarse_frames_come_back(tmp_path: Path) -> None:
    for shape, sampling in (((60, 64), 0.1), ((16, 200), 0.3), ((40, 40), 0.8)):
        path = tmp_path / "small.tif"
        tifffile.imwrite(path, noisy_frame(shape, dose=5))
        result = gdn(
            "denoise",
            path,
            *FAST,
            "--sampling",
            str(sampling),
            "--overwrite",
            "-o",
            tmp_path / "out",
        )
        assert result.returncode == 0, result.stderr
        image = tifffile.imread(tmp_path / "out" / "small_denoised.tif")
        assert image.shape == shape
        assert np.isfinite(image).all()


def bad_files(folder: Path) -> dict[str, str]:
    """Deliberately broken inputs and a word that each one's message must have."""
    good = noisy_frame((100, 100)).astype(np.float32)
    (folder / "text.tif").write_text("this is not a picture")
    tifffile.imwrite(folder / "whole.tif", good)
    (folder / "cut.tif").write_bytes((folder / "whole.tif").read_bytes()[:20_000])
    (folder / "whole.tif").unlink()
    (folder / "empty.tif").write_bytes(b"")
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        broken = good.copy()
        broken[3:] = value
        tifffile.imwrite(folder / f"{name}.tif", broken)
    tifffile.imwrite(folder / "constant.tif", np.full((100, 100), 7, np.uint8))
    tifffile.imwrite(folder / "one.tif", np.ones((1, 1), np.uint8))
    colour = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    tifffile.imwrite(folder / "colour.tif", colour, photometric="rgb")
    tifffile.imwrite(folder / "complex.tif", good.astype(np.complex64))
    return {
        "text": "not a readable TIFF",
        "cut": "cut.tif",
        "empty": "not a readable TIFF",
        "nan": "NaN",
        "inf": "infinite",
        "constant": "constant",
        "one": "at least 16x16",
        "colour": "colour",
        "complex": "complex64",
        "missing": "no such file",
    }


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    words = bad_files(tmp_path)
    tifffile.imwrite(tmp_path / "good.tif", noisy_frame((100, 100)))
    names = [*words, "good"]
    result = gdn(
        "denoise",
        *(tmp_path / f"{n}.tif" for n in names),
        *FAST,
        "--sampling",
        "0.1",
        "--json",
        "-o",
        tmp_path / "out",
    )
    for name, word in words.items():
        one_line(result, 1, f"{name}.tif", word)
    assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == [
        str(tmp_path / "good.tif")
    ]
    run = ["gdn-run.toml", "gdn-summary.csv"]
    names = [*run, "good_denoised.tif", "good_gdn.json", "good_spread.tif"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    assert not left_behind(tmp_path)


def test_negative_counts(tmp_path: Path) -> None:
    path = tmp_path / "n.tif"
    tifffile.imwrite(path, noisy_frame((100, 100), dose=5).astype(np.float32) - 3)
    one_line(
        gdn(
            "denoise", path, *FAST, "--sampling", "0.1", "--noise", "poisson", "-o", tmp_path / "o"
        ),
        1,
        "n.tif",
        "negative",
    )
    assert gdn("denoise", path, *FAST, "--sampling", "0.1", "-o", tmp_path / "o").returncode == 0


def test_sampling_must_come_from_somewhere(tmp_path: Path) -> None:
    path = tmp_path / "n.tif"
    tifffile.imwrite(path, noisy_frame())
    one_line(gdn("denoise", path, *FAST), 1, "n.tif", "--sampling")


def test_a_full_cache_folder_costs_nothing(
    frame_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path / "cache"))
    result = gdn("denoise", frame_file, *FAST, "-o", tmp_path / "o")
    assert result.returncode == 0, result.stderr


def test_denoise_by_the_original_method(frame_file: Path) -> None:
    done = gdn("denoise", frame_file, "--method", "original", "--original-steps", "2,3,5", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(frame_file.with_name(f"{frame_file.stem}_gdn.json").read_text())
    record["search"].pop("judging")
    assert record["search"] == {
        "method": "original",
        "seed": 0,
        "noise": "auto",
        "restarts": 2,
        "restart_steps": 3,
        "final_steps": 5,
        "rate": 0.01,
        "clamp": 5.0,
    }
    assert not frame_file.with_name("frame_spread.tif").exists()  # the method has none
    assert np.isfinite(tifffile.imread(frame_file.with_name("frame_denoised.tif"))).all()
    bad = gdn("denoise", frame_file, "--method", "original", "--original-steps", "2,3")
    assert bad.returncode == 2
    assert "three positive numbers" in " ".join(bad.stderr.split())


@pytest.mark.slow
def test_a_run_says_how_far_to_trust_it(tmp_path: Path) -> None:
    """Columns, intervals, report and the record's new entries, for a file and a stack."""
    for name, seeds in (("one", (1,)), ("two", (2, 3))):
        stack = np.stack([noisy_frame((450, 460), seed, 2.0) for seed in seeds])
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    options = [
        "--sampling",
        "0.0612",
        "--atoms",
        "--report",
        "--intervals",
        "50,90",
        "--json",
        "-o",
        out,
    ]
    result = gdn("denoise", tmp_path / "one.tif", tmp_path / "two.tif", *FAST, *options)
    assert result.returncode == 0, result.stderr  # p < 0.01 is no failure without --strict
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert 0 < row["explained_p"] <= 1
        assert row["standing"] in {"explained", "filtered", "unsupported"}
        assert isinstance(row["heldout_gain_db"], float)
        assert row["heldout_gain_se_db"] > 0
        assert set(row["atoms"]) == {"present", "cannot_tell", "absent"}
        assert isinstance(row["warnings"], list)
    assert "3 frames, on held-out electrons" in " ".join(result.stderr.split())
    expected = [
        f"one{end}"
        for end in (
            "_gdn.json",
            "_atoms.csv",
            "_atoms.png",
            "_denoised.tif",
            "_interval50.tif",
            "_interval90.tif",
            "_spread.tif",
        )
    ]
    names = sorted(p.name for p in out.iterdir())
    assert [n for n in names if n.startswith("one")] == sorted(expected)
    assert {"two_atoms_0000.csv", "two_atoms_0001.csv", "two_atoms_0001.png", "report.html"} <= set(
        names
    )
    narrow, middle, wide = (
        tifffile.imread(out / f"one_{n}.tif") for n in ("interval50", "spread", "interval90")
    )
    assert (narrow > 0).all()
    assert narrow.mean() < middle.mean() < wide.mean()
    record = json.loads((out / "two_gdn.json").read_text())
    first = record["frames"][0]
    assert first["spread_calibrated"] is True
    assert {s["against"] for s in first["held_out_scores"]} == {"best blur", "constant"}
    assert all("own_mse_unbiased_se" in s for s in first["held_out_scores"])
    assert {s["against"] for s in first["next_frame_scores"]} == {"best blur", "constant"}
    assert "one.tif [0]" in (out / "report.html").read_text()
    again = gdn("denoise", tmp_path / "one.tif", *FAST, *options, "--resume")
    assert again.stdout == ""


@pytest.mark.slow
def test_denoise_map_and_laplace(frame_file: Path) -> None:
    for option in ("--laplace=sampled", "--laplace=exact", "--estimate=map"):
        done = gdn("denoise", frame_file, *FAST, "--no-score", "--overwrite", option)
        assert done.returncode == 0, done.stderr
        assert np.isfinite(tifffile.imread(frame_file.with_name("frame_spread.tif"))).all()
    bad = gdn("denoise", frame_file, "--estimate", "median")
    assert bad.returncode == 2
    assert "mean or map" in " ".join(bad.stderr.split())
    assert gdn("denoise", frame_file, "--laplace", "maybe").returncode == 2
    assert "50, 68, 90, 99" in gdn("denoise", frame_file, "--intervals", "95").stderr

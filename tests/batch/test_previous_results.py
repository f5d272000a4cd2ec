"""Nothing of anyone else's is replaced, and nothing of gdn's without being asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.batch.free_names import check_free, free_name
from gdn.cli.run_files import COLUMNS
from gdn.frames.source import FrameError
from gdn.pipeline.output_files import content_hash, outputs_for
from gdn.pipeline.previous_results import is_complete, own_files
from tests.helpers.commands import gdn, one_line, unwrapped
from tests.helpers.frames import noisy_frame

SEARCH = ("--model", "pt-ceo2-64", "--restarts", "8", "--threads", "1", "--no-score")
QUICK = (*SEARCH, "--sampling", "0.1", "--no-cache")


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, noisy_frame((64, 64), seed).astype(np.uint16))
    return path


def record(path: Path, **changes: object) -> dict[str, object]:
    """What a record has at least."""
    content: dict[str, object] = dict.fromkeys(("schema", "model", "engine", "search"), "")
    content |= {"key": "k", "input": {"path": "a.tif", "folder": str(path.parent)}, "frames": []}
    return content | changes


def test_a_sidecar_and_another_programs_result_stay(tmp_path: Path) -> None:
    source = write(tmp_path / "scan.tif")
    (tmp_path / "scan.json").write_text('{"spatial_calibrations": "the only copy"}')
    other = write(tmp_path / "b.tif")
    (tmp_path / "b_denoised.tif").write_text("another program's")
    for how in ("--resume", "--overwrite"):
        result = gdn("denoise", source, other, *QUICK, how)
        one_line(result, 1, "b_denoised.tif: exists already", "choose another folder")
        assert (tmp_path / "b_denoised.tif").read_text() == "another program's"
        assert "only copy" in (tmp_path / "scan.json").read_text()
        assert (tmp_path / "scan_gdn.json").is_file()


def test_results_of_an_earlier_gdn_are_resumed(tmp_path: Path) -> None:
    """Whose rows do not hold everything that those of today do."""
    out = tmp_path / "out"
    source = write(tmp_path / "scan.tif")
    assert gdn("denoise", source, "-o", out, *QUICK).returncode == 0
    content = json.loads((out / "scan_gdn.json").read_text())
    for name in ("standing", "heldout_gain_why", "pixel_size"):
        del content["frames"][0][name]
    (out / "scan_gdn.json").write_text(json.dumps(content))
    done = gdn("denoise", source, "-o", out, *QUICK, "--resume")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 files were already complete" in unwrapped(done.stderr)


def test_results_of_another_file_of_that_name_stay(tmp_path: Path) -> None:
    one, two = write(tmp_path / "n1" / "i.tif"), write(tmp_path / "n2" / "i.tif", 1)
    out = tmp_path / "out"
    assert gdn("denoise", one, "-o", out, *QUICK).returncode == 0
    before = (out / "i_denoised.tif").read_bytes()
    for how in ("--resume", "--overwrite"):
        result = gdn("denoise", two, "-o", out, *QUICK, how)
        one_line(result, 1, "is the result of another input", str(one))
    assert (out / "i_denoised.tif").read_bytes() == before
    assert sorted(p.name for p in out.iterdir() if p.name.startswith("gdn")) == [
        "gdn-run.toml",
        "gdn-summary.csv",
    ]


def test_own_results_are_replaced_when_asked(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif")
    assert gdn("denoise", source, *QUICK, "--atoms").returncode == 0
    one_line(gdn("denoise", source, *QUICK), 1, "exists already")
    write(source, 3)  # recorded again under the same name
    assert gdn("denoise", source, *QUICK, "--overwrite").returncode == 0
    content = json.loads((tmp_path / "a_gdn.json").read_text())
    assert content["outputs"] == ["a_denoised.tif", "a_spread.tif"]
    assert content["former_outputs"] == ["a_atoms.csv", "a_atoms.png"]  # still gdn's own
    moved = source.rename(tmp_path / "b.tif").rename(tmp_path / "a.tif")
    assert gdn("denoise", moved, *QUICK, "--overwrite", "--atoms").returncode == 0
    table = tmp_path / "a_atoms.csv"
    table.write_text("edited")
    (tmp_path / "a_gdn.json").unlink()
    one_line(gdn("denoise", source, *QUICK, "--overwrite", "--atoms"), 1, "a_denoised.tif")
    assert table.read_text() == "edited"


def test_a_former_record_counts_if_it_is_gdns_own(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif")
    outputs = outputs_for(source, None)
    for path in (outputs.denoised, outputs.spread):
        path.write_text("of version 0.1")
    outputs.former_record.write_text(json.dumps(record(source)))
    assert {outputs.denoised, outputs.spread} <= own_files(outputs, source)
    check_free(outputs, source, outputs.images(()), replacing=True)
    with pytest.raises(FrameError, match="--overwrite"):
        check_free(outputs, source, outputs.images(()), replacing=False)
    assert gdn("denoise", source, *QUICK, "--overwrite").returncode == 0
    assert not outputs.former_record.exists()
    assert outputs.record.exists()
    outputs.former_record.write_text('{"key": "k"}')
    assert outputs.former_record not in own_files(outputs, source)


def test_whose_a_record_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif")
    outputs = outputs_for(source, None)
    there = {"path": "x.tif", "folder": "/gone", "sha256": content_hash(source)}
    for said, own in (
        ({"path": "a.tif", "folder": str(tmp_path)}, True),
        ({"path": "b.tif", "folder": str(tmp_path)}, False),
        (there, True),  # moved since
        (there | {"sha256": "0" * 64}, False),
        ({"path": None}, False),
        ("nonsense", False),
    ):
        outputs.record.write_text(json.dumps(record(source, input=said, outputs=[])))
        assert (outputs.record in own_files(outputs, source)) is own, said
        assert outputs.record in own_files(outputs, None)
    outputs.record.unlink()
    link = outputs.denoised
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FrameError, match="exists already"):
        check_free(outputs, source, [link], replacing=True)


def test_a_claim_is_not_complete(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif")
    outputs = outputs_for(source, None)
    outputs.denoised.write_text("")
    content = record(source, outputs=[outputs.denoised.name])
    for complete, wanted in ((True, True), (False, False)):
        outputs.record.write_text(json.dumps(content | {"complete": complete}))
        assert is_complete(outputs, [outputs.denoised], False, "k") is wanted
    outputs.record.write_text(json.dumps(content | {"complete": True}))
    assert not is_complete(outputs, [outputs.denoised], True, "k")  # no table of columns
    assert not is_complete(outputs, [outputs.denoised], False, "another key")
    assert outputs.denoised in own_files(outputs, source)


def test_files_of_the_run_get_free_names(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.tif"), write(tmp_path / "two.tif", 1)
    out = tmp_path / "out"
    for source in (one, two):
        assert gdn("denoise", source, "-o", out, *QUICK, "--report").returncode == 0
    names = {"report.html", "report-2.html", "gdn-run.toml", "gdn-run-2.toml"}
    assert names <= {p.name for p in out.iterdir()}
    assert "one.tif [0]" in (out / "report.html").read_text()
    assert "two.tif [0]" in (out / "report-2.html").read_text()
    again = gdn("denoise", one, "-o", out, *QUICK, "--report", "--overwrite")
    assert again.returncode == 0
    assert not (out / "report-3.html").exists()
    (out / "report.html").write_text("my own page")
    free = free_name(out / "report.html", lambda path: False)
    assert free == out / "report-3.html"


def test_the_summary_has_a_line_for_every_frame(tmp_path: Path) -> None:
    stack = np.stack([noisy_frame((64, 64), n) for n in range(3)]).astype(np.uint16)
    stack[1] = 0
    tifffile.imwrite(tmp_path / "movie.tif", stack, photometric="minisblack")
    write(tmp_path / "a.tif")
    for _ in range(2):  # the second time all are complete, and the table is the same
        done = gdn("denoise", tmp_path, "-o", tmp_path / "out", *QUICK, "--resume")
        assert done.returncode == 0, done.stderr
        with (tmp_path / "out" / "gdn-summary.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert tuple(rows[0]) == COLUMNS
        assert [(Path(r["file"]).name, r["frame"]) for r in rows] == [
            ("a.tif", "0"),
            *(("movie.tif", str(n)) for n in range(3)),
        ]
        assert "frame 1 is constant" in rows[2]["warnings"]
        dose = float(rows[1]["dose_per_px"])
        assert float(rows[1]["dose_per_A2"]) == pytest.approx(dose / 0.01, rel=1e-4)
        assert not (tmp_path / "out" / "gdn-summary-2.csv").exists()
    image = tifffile.imread(tmp_path / "out" / "movie_denoised.tif")
    assert (image[1] == 0).all()
    assert np.isfinite(image).all()


def test_a_name_is_no_formula_of_the_summary(tmp_path: Path) -> None:
    write(tmp_path / "=1+1.tif")
    for more in ((), ("--resume",)):
        done = gdn("denoise", "=1+1.tif", *QUICK, "-o", "out", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    summaries = list((tmp_path / "out").glob("*.csv"))
    (row,) = csv.DictReader(summaries[0].read_text().splitlines())
    assert row["file"] == "./=1+1.tif"
    assert len(summaries) == 1  # it is known again

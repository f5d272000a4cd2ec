"""Which files are denoised, and when."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdn.batch.inputs import Planned, gather, plan, watch
from gdn.batch.tally import Outcome, Tally
from gdn.batch.terminal import UsageFault
from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from gdn.pipeline.output_files import OutputStyle


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


def test_subfolders_are_searched_when_asked(tmp_path: Path) -> None:
    night = tmp_path / "night"
    touch(night / "a.tif", night / "g1" / "b.tif", night / "g1" / "c_denoised.tif")
    touch(night / "g2" / "deep" / "b.tif", night / ".hidden" / "d.tif")
    assert [path for path, _ in gather([str(night)])] == [night / "a.tif"]
    found = gather([str(night)], recursive=True)
    planned = plan(found, tmp_path / "out", OutputStyle())
    assert [p.outputs.denoised.relative_to(tmp_path / "out").as_posix() for p in planned] == [
        "a_denoised.tif",
        "g1/b_denoised.tif",
        "g2/deep/b_denoised.tif",
    ]
    beside = plan(found, None, OutputStyle())
    assert beside[1].outputs.denoised == night / "g1" / "b_denoised.tif"
    with pytest.raises(UsageFault, match="--recursive"):
        gather([str(night / "g2")])


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "theirs" / "b.tif", tmp_path / "night" / "in" / "a.tif")
    (tmp_path / "night" / "out").symlink_to(tmp_path / "theirs")
    (tmp_path / "night" / "up").symlink_to(tmp_path / "night")
    (tmp_path / "night" / "same").symlink_to(tmp_path / "night" / "in")
    paths = [path for path, _ in gather([str(tmp_path / "night")], recursive=True)]
    names = [path.relative_to(tmp_path / "night").as_posix() for path in paths]
    assert names == ["in/a.tif", "out", "same/a.tif"]
    with pytest.raises(FrameError, match=r"night/out: a link to another folder, .*theirs; give"):
        read_frames(tmp_path / "night" / "out")


def test_names_from_find_print0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [tmp_path / "with\nline.tif", tmp_path / "b.tif"]
    touch(*names)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{name}\0" for name in names)))
    assert [path for path, _ in gather(["-"], null=True)] == names


def test_two_inputs_with_the_same_results_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.tif", tmp_path / "y" / "a.mrc")
    named = gather([str(tmp_path / "x"), str(tmp_path / "y")])
    with pytest.raises(UsageFault, match="denoise them in two runs"):
        plan(named, tmp_path / "out", OutputStyle())


def test_a_watched_file_that_changes_is_taken_again(tmp_path: Path) -> None:
    folder, said = tmp_path / "in", []
    touch(folder / "a.tif")
    (folder / "empty.tif").touch()

    def later(seconds: float) -> Iterator[None]:
        yield  # a.tif is seen
        yield  # it is quiet: taken
        (folder / "a.tif").write_bytes(b"x" * 20)  # the copy had only stalled
        touch(folder / "store.zarr" / ".zarray", folder / "store.zarr" / "0")
        yield
        yield
        touch(folder / "store.zarr" / "1")  # within a folder of data
        yield
        yield
        (folder / "a.tif").unlink()

    steps = later(0)
    for one in watch(folder, None, OutputStyle(), 10, lambda seconds: next(steps, None)):
        assert isinstance(one, Planned)
        said.append((one.path.name, one.again))
    assert said == [
        ("a.tif", False),
        ("a.tif", True),
        ("store.zarr", False),
        ("store.zarr", True),
    ]


def test_a_file_that_is_denoised_again_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    tally, path = Tally(), Path("m.tif")
    row = {"input": "m.tif", "frame": 0}
    tally.add(Outcome(failure="m.tif: cut off"), True, path)
    assert (tally.files, tally.failed) == (1, 1)
    for _ in range(2):
        tally.withdraw(path)
        tally.add(Outcome([row]), True, path)
        assert (tally.files, tally.failed, tally.rows) == (1, 0, [row])
    assert capsys.readouterr().out.count("m.tif") == 2

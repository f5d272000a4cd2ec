"""Temporary names: nobody else can guess them, or have gdn write through a link of theirs."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest

from gdn.storage import HOST, evict, writing
from tests.helpers.places import ROOT


def test_a_link_laid_under_the_former_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (f".out.{HOST}-{os.getpid()}.part.txt", ".out.part", "out.part"):
        (tmp_path / name).symlink_to(victim)
    with writing(tmp_path / "out.txt") as temporary:
        temporary.write_text("result")
    assert victim.read_text() == "mine"
    assert (tmp_path / "out.txt").read_text() == "result"


def test_temporary_names_are_random_new_and_private(tmp_path: Path) -> None:
    with writing(tmp_path / "a.tif") as first, writing(tmp_path / "a.tif") as second:
        assert first.parent != second.parent
        assert not first.exists()
        for path in (first, second):
            assert path.parent.parent == tmp_path
            assert path.parent.stat().st_mode & 0o777 == 0o700
            assert path.suffix == ".tif"
            assert path.parent.suffix == ".part"  # not taken for an image
            path.write_text(str(path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_links_are_swept_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "kept").write_text("")
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / f".a.{HOST}-999999999.part.tif"  # no process has this number
    link.symlink_to(tmp_path / "theirs")
    with writing(tmp_path / "out" / "a.tif") as temporary:
        temporary.write_text("")
    assert not link.is_symlink()
    assert (tmp_path / "theirs" / "kept").exists()


def test_an_empty_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """It was killed between the file's last name and the folder's end."""
    gone, kept, ours = (
        tmp_path / f".other{n}.{HOST}-{pid}-0a.part"
        for n, pid in enumerate((2**30, 2**30, os.getpid()))
    )
    for folder in (gone, kept, ours):
        folder.mkdir()
    (kept / "half").write_text("")
    with writing(tmp_path / "a.txt") as temporary:
        temporary.write_text("")
    assert [folder.exists() for folder in (gone, kept, ours)] == [False, True, True]


BANKS = [f"0123456789abcdef-{seed}-40.npy" for seed in range(3)]


def test_cache_forgets_the_least_recently_used(tmp_path: Path) -> None:
    (tmp_path / "data.npy").write_bytes(bytes(9000))  # no bank: it is somebody's own
    os.utime(tmp_path / "data.npy", (0, 0))
    for age, name in enumerate(BANKS):
        path = tmp_path / name
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - 100 * age,) * 2)
    assert [p.name for p in evict(tmp_path, 2500)] == [BANKS[2]]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*BANKS[:2], "data.npy"]
    evict(tmp_path, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["data.npy"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_nothing_is_forgotten_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / BANKS[0]).write_bytes(bytes(1000))
    (tmp_path / "banks").symlink_to(tmp_path / "theirs")
    assert evict(tmp_path / "banks", 0) == []
    assert (tmp_path / "theirs" / BANKS[0]).exists()


@pytest.mark.parametrize("age", [10, 2 * 86_400])
def test_an_old_half_written_bank_is_removed_with_its_folder(tmp_path: Path, age: int) -> None:
    folder = tmp_path / ".0123456789abcdef-0-40.elsewhere-1-0a.part"
    theirs = tmp_path / ".download.part"  # of another program
    theirs.write_text("half")
    os.utime(theirs, (0, 0))
    folder.mkdir()
    (folder / folder.name).write_text("half")
    os.utime(folder, (time.time() - age,) * 2)
    evict(tmp_path, 2**30)
    assert folder.exists() == (age == 10)
    assert theirs.exists()


def test_a_fault_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as fault, writing(tmp_path / "no" / "a.tif"):
        pass
    assert fault.value.filename == str(tmp_path / "no" / "a.tif")
    assert fault.value.errno == errno.ENOENT


def test_nothing_of_gdn_makes_a_temporary_name_of_its_own() -> None:
    own = re.compile(r"""\.part\b["']|\.part\{""")
    makers = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "gdn").rglob("*.py"))
        if own.search(path.read_text()) and path.name != "storage.py"
    ]
    assert makers == ["gdn/simulation/dataset.py"]  # it sweeps what older versions left

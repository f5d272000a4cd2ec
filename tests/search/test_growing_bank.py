"""A large bank is made in parts that are kept: a run that is stopped goes on where it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gdn.engines.choose import open_engine
from gdn.models import find_model
from gdn.search import bank_file
from gdn.search.bank import bank_for
from gdn.storage import evict

COUNT = 1000  # images of 64 px, 8 KiB each

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX")


@pytest.fixture(autouse=True)
def small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(bank_file, "KEPT_BYTES", 2**20)
    monkeypatch.setattr(bank_file, "PART_BYTES", 2**21)


class Stop:
    """Progress that interrupts at a number of images, and remembers the first that were made."""

    def __init__(self, at: int = 10**9) -> None:
        self.at, self.first = at, 0

    def __call__(self, made: int, of: int) -> None:
        self.first = self.first or made
        if made >= self.at:
            raise KeyboardInterrupt


def growing(folder: Path) -> list[Path]:
    return list((folder / "banks").glob(".*.growing"))


@pytest.fixture(scope="module")
def calm() -> np.ndarray:
    """The images of a bank that nobody stopped."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        return np.array(bank_for(engine, 0, COUNT, use_cache=False).images)


@pytest.mark.parametrize("damage", ["", "images", "journal", "short"])
def test_a_bank_that_was_stopped_goes_on(tmp_path: Path, damage: str, calm: np.ndarray) -> None:
    with open_engine(find_model("pt-ceo2-64")) as engine:
        with pytest.raises(KeyboardInterrupt):
            bank_for(engine, 0, COUNT, progress=Stop(768))
        (folder,) = growing(tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        stored = folder / "images"
        if damage == "images":  # in the second part
            with stored.open("rb+") as stream:
                stream.seek(300 * 8192)
                stream.write(b"xxxx")
        elif damage == "short":
            os.truncate(stored, 500 * 8192)
        elif damage:
            (folder / "journal").write_text("nonsense\n")
        again = Stop()
        bank = bank_for(engine, 0, COUNT, progress=again)
        assert again.first == {"": COUNT, "images": 512, "short": 512, "journal": 256}[damage]
        np.testing.assert_array_equal(bank.images, calm)
        assert bank_for(engine, 0, COUNT).cached
    assert growing(tmp_path) == []


def test_a_bank_whose_process_was_killed_goes_on(tmp_path: Path, calm: np.ndarray) -> None:
    code = f"""
from gdn.engines.choose import open_engine
from gdn.models import find_model
from gdn.search import bank_file
from gdn.search.bank import bank_for
bank_file.KEPT_BYTES, bank_file.PART_BYTES = 2**20, 2**21
with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
    bank_for(engine, 0, {COUNT}, progress=lambda made, of: print(made, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        for line in made.stdout:
            if int(line) >= 512:
                made.send_signal(signal.SIGKILL)
    with open_engine(find_model("pt-ceo2-64")) as engine:
        again = Stop()
        bank = bank_for(engine, 0, COUNT, progress=again)
        assert again.first > 256
        np.testing.assert_array_equal(bank.images, calm)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open to others", "a link", "a file", "locked"])
def test_a_folder_that_is_not_ours_alone_is_not_used(
    tmp_path: Path, kind: str, calm: np.ndarray
) -> None:
    import fcntl

    (tmp_path / "victim").mkdir()
    with open_engine(find_model("pt-ceo2-64")) as engine:
        with pytest.raises(KeyboardInterrupt):
            bank_for(engine, 0, COUNT, progress=Stop(512))
        (folder,) = growing(tmp_path)
        with (folder / "images").open() as held:
            if kind == "open to others":
                folder.chmod(0o777)
            elif kind == "locked":
                fcntl.flock(held, fcntl.LOCK_EX)
            else:
                folder.rename(tmp_path / "former")
                if kind == "a link":
                    folder.symlink_to(tmp_path / "victim")
                else:
                    folder.write_text("")
            again = Stop()
            bank = bank_for(engine, 0, COUNT, progress=again)
        assert again.first == 256
        np.testing.assert_array_equal(bank.images, calm)
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_bank_that_was_begun_and_left_is_evicted(tmp_path: Path) -> None:
    with open_engine(find_model("pt-ceo2-64")) as engine:
        with pytest.raises(KeyboardInterrupt):
            bank_for(engine, 0, COUNT, progress=Stop(512))
        (folder,) = growing(tmp_path)
        assert evict(tmp_path / "banks", 0, folder) == []
        assert evict(tmp_path / "banks", 0) == [folder]
    assert growing(tmp_path) == []


def test_how_long_it_takes_is_said_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr("gdn.search.bank_file.time.monotonic", lambda: float(next(clock)))
    logging.getLogger("gdn").propagate = True
    told = bank_file.BankProgress(lambda made, of: None, 2**30)
    for made in range(61 * 256, 10**6, 256):
        told(made, 10**6)
    assert len(caplog.messages) == 1
    assert (
        "the bank of 1000000 restarts needs about 10.7 h and 1.0 GiB of the cache, once; if it "
        in (caplog.messages[0])
    )

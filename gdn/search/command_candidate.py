"""A denoiser that is a command: it runs as a process of its own, which reads and writes .npy files.

So it keeps its own environment, and its requirements cannot conflict with gdn's. No shell reads the
command.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gdn.environment import users_environment
from gdn.errors import CandidateError, debugging
from gdn.likelihood import Array
from gdn.search.outside_candidates import shortened

INPUT, OUTPUT, SAMPLING = "{input}", "{output}", "{sampling}"
SECONDS_VARIABLE, SECONDS = "GDN_CANDIDATE_SECONDS", 3600.0  # that one call may take
BY_HAND = "run it by hand on counts in a .npy file to see why"


@dataclass(frozen=True)
class Command:
    """A command and the files it consists of.

    - `text`: the command with INPUT, OUTPUT and perhaps SAMPLING in it. They are replaced by two
      file names and the pixel size in Å.
    - `files`: the program and every argument that is a file, with the sha256 of its content when
      the command was read.
    """

    text: str
    files: tuple[tuple[str, str], ...]

    @staticmethod
    def read(text: str) -> Command:
        """Read a command as the user typed it. Raises CandidateError where it cannot run on this
        machine."""
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise CandidateError(f"the command cannot be read: {error}") from None
        missing = [place for place in (INPUT, OUTPUT) if place not in text]
        if missing:
            raise CandidateError(
                f"the command lacks {' and '.join(missing)}, where gdn puts the names of .npy files"
            )
        program = _program(words[0])
        named = {word: Path(word) for word in words[1:]}
        # --weights=FILE
        named |= {
            word: Path(word.partition("=")[2])
            for word in words[1:]
            if word.startswith("-") and "=" in word
        }
        files = {words[0]: program} | {w: path for w, path in named.items() if _is_file(path)}
        return Command(text, tuple((word, _content(path)) for word, path in sorted(files.items())))

    def check(self) -> None:
        """Raises CandidateError where there is no such program on this machine."""
        _program(shlex.split(self.text)[0])

    def record(self) -> dict[str, Any]:
        """The command, and the hashes of its files."""
        return {"command": self.text, "files": dict(self.files)}

    def __call__(self, counts: Array, sampling_angstrom: float) -> Any:
        """The image that the command wrote. Raises CandidateError."""
        with TemporaryDirectory(prefix="gdn-candidate-") as name:
            folder = Path(name)
            places = {
                INPUT: str(folder / "input.npy"),
                OUTPUT: str(folder / "output.npy"),
                SAMPLING: f"{sampling_angstrom:.6g}",
            }
            np.save(places[INPUT], counts)
            words = shlex.split(self.text)
            for place, value in places.items():
                words = [word.replace(place, value) for word in words]
            _run(words, folder / "said")
            return _read(Path(places[OUTPUT]))


def _run(words: list[str], log: Path) -> None:
    """Run a command to its end. If it takes too long or the wait is interrupted, it is killed with
    its children. Raises CandidateError."""
    seconds = allowed_seconds()
    with log.open("wb") as said:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env=users_environment(),
            )
        except OSError as error:
            raise CandidateError(f"{words[0]} cannot be run ({error.strerror})") from None
        try:
            code = process.wait(seconds)
        except BaseException as error:  # Ctrl-C too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CandidateError(
                    f"did not finish in {seconds:g} s and was stopped; {SECONDS_VARIABLE} allows "
                    "more time"
                ) from None
            raise
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if debugging() and text:
        print(text, file=sys.stderr)
    if code != 0:
        last = shortened(text.splitlines()[-1]) if text else "it wrote nothing to stderr"
        raise CandidateError(f"ended with exit code {code}: {last}; {BY_HAND}")


def _read(path: Path) -> Any:
    """The array that a command wrote. Raises CandidateError."""
    if not path.is_file():
        raise CandidateError(f"ended without an error but did not write {OUTPUT}; {BY_HAND}")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CandidateError(
            f"what it wrote is not a .npy file of numbers ({shortened(str(error))}); write it with "
            "numpy.save"
        ) from None


def allowed_seconds() -> float:
    """The longest time that one call may take. Raises CandidateError."""
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise CandidateError(f"{SECONDS_VARIABLE}={text}: wanted a number of seconds")
    return seconds


def _program(name: str) -> Path:
    """Path of a program. Raises CandidateError where there is none."""
    program = shutil.which(name)
    if program is not None:
        return Path(program)
    if _is_file(Path(name)):
        raise CandidateError(
            f"{name} is not executable; put the program that runs it first (such as "
            "python), or use chmod +x"
        )
    raise CandidateError(f"the program {name} is not found here; give its full path")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _content(path: Path) -> str:
    """sha256 of a file. Raises CandidateError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CandidateError(f"{path}: cannot be read ({error.strerror})") from None

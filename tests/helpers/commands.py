"""The command, and what to expect of it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gdn.batch.printed import LINE
from gdn.cli import main
from gdn.environment import SAFE_PATH
from gdn.interruption import remember_signals

FAST = ["--restarts", "16", "--threads", "1"]


def gdn(
    *arguments: str | Path | float, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command in this process, which is a second cheaper than one of its own: its exit code and
    what it wrote."""
    logger, signals = logging.getLogger("gdn"), ("SIGINT", "SIGHUP", "SIGTERM")
    numbers = [getattr(signal, name) for name in signals if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handlers, propagate = logger.handlers, logger.propagate
    said, errors = io.StringIO(), io.StringIO()
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.chdir(cwd or Path.cwd()),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(errors),
        ):
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            patch.setenv(SAFE_PATH, "")  # gdn sets it; here it is taken back
            with pytest.raises(SystemExit) as end:
                main([str(a) for a in arguments])
    finally:
        remember_signals()  # forgets them; or what a later test here watches ends at once
        for number, handler in before.items():
            signal.signal(number, handler)
        logger.handlers, logger.propagate = handlers, propagate
    assert not too_long(errors.getvalue())
    return subprocess.CompletedProcess(
        arguments, end.value.code, said.getvalue(), errors.getvalue()
    )


def too_long(text: str) -> list[str]:
    """Lines of messages that are longer than they may be, and not by a single word. What Python
    says of an error with --debug is no message."""
    lines = [] if "Traceback" in text else text.splitlines()
    return [
        line
        for line in lines
        if len(line) > LINE and len(re.sub(r"^(gdn( \w+)*: | +)", "", line).split()) > 1
    ]


def unwrapped(text: str) -> str:
    """What gdn said, without the breaks that keep its lines short."""
    return text.replace("\n    ", " ")


def one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = unwrapped(result.stderr).strip().splitlines()
    assert any(all(w in line for w in words) for line in lines), result.stderr


def messages(result: subprocess.CompletedProcess[str]) -> int:
    """How many messages a command wrote; the lines that continue one are indented."""
    return sum(line.startswith("gdn") for line in result.stderr.splitlines())


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if ".part" in p.name)

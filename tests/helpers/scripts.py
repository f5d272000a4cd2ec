"""Scripts of benchmarks/, in this process: nothing is imported twice."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from pathlib import Path

import pytest


def run_script(name: str, *arguments: str | Path | float) -> str:
    """The script's main() with these arguments, ended without a fault; what it said."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        assert not importlib.import_module(name).main()
    return said.getvalue()

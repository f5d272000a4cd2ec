"""An engine is one file and one row of the table: no other code knows its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from gdn.engines.table import DEVICES, ENGINES, REFERENCE, RUNTIMES
from tests.helpers.places import ROOT

# Where onnxruntime may be named: its row, its engine, and what opens its sessions. The cache calls
# a folder so that the provider for TensorRT fills.
OWN = {"table.py", "onnxruntime.py", "onnx_session.py", "tensorrt_plan_cache.py"}


def named(path: Path) -> Iterator[str]:
    """Modules that a file imports, and its texts that are one word."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_onnxruntime_is_named_in_its_own_files_alone() -> None:
    files = (ROOT / "gdn").rglob("*.py")
    naming = {path.name for path in files if REFERENCE.name in named(path)}
    assert naming == OWN


def test_the_code_that_chooses_names_no_engine() -> None:
    for name in (
        "engines/choose.py",
        "engines/restorer.py",
        "cli/doctor.py",
        "pipeline/options.py",
    ):
        words = set(named(ROOT / "gdn" / name)) - {
            "torch",
            *DEVICES,
        }  # an extra's package, and kinds
        assert not words.intersection(ENGINES), name


def test_the_rows_agree_with_each_other() -> None:
    assert len(set(ENGINES)) == len(RUNTIMES)
    for runtime in RUNTIMES:
        assert runtime.own_device in runtime.devices
        assert set(runtime.devices) <= set(DEVICES)
    assert "cpu" in REFERENCE.devices
    assert not REFERENCE.extra  # it comes with gdn

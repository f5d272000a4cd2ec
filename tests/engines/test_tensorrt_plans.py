"""TensorRT without a GPU: plans are truly built (tensorrt_rtx needs none for that)."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gdn.engines.base import EngineError, onnx_bytes
from gdn.engines.tensorrt_plan_cache import kept_plans
from gdn.engines.tensorrt_plans import (
    GRAPHS,
    build_plan,
    load_library,
    profiles_of,
)
from gdn.models import find_model, load_model
from tests.helpers.commands import gdn, one_line
from tests.helpers.models import Exported
from tests.helpers.needs import needs_rtx, needs_training

SHIPPED = ("pt-ceo2-128", "pt-ceo2-64")


@pytest.mark.tensorrt
@needs_rtx
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("graph", [g for g in GRAPHS if not g.startswith("exact-")])
def test_every_shipped_graph_is_parsed_and_built_at_its_profiles(name: str, graph: Any) -> None:
    library, model = load_library("tensorrt_rtx"), find_model(name)
    plan = build_plan(library, onnx_bytes(model, graph), graph)
    assert len(plan) > 2**20
    assert len(profiles_of("generator")) == 2


def without_made_up_names(plan: bytes) -> Counter[bytes]:
    """The words of a plan in any order, but for the numbers in names that the compiler makes up for
    its own tensors."""
    return Counter(re.split(rb"\s+", re.sub(rb"__mye\d+(\.\d+)?", b"#", plan)))


@pytest.mark.tensorrt
@needs_rtx
@pytest.mark.parametrize("graph", ["generator", "gradient", "tangent", "step", "encoder"])
def test_building_again_gives_the_same_but_for_names_that_the_compiler_makes_up(graph: Any) -> None:
    # Not the same bytes: it numbers its internal tensors as its threads come to them, by where they
    # lie in memory.
    library, onnx = load_library("tensorrt_rtx"), onnx_bytes(find_model("pt-ceo2-64"), graph)
    first, second = (build_plan(library, onnx, graph) for _ in range(2))
    assert abs(len(first) - len(second)) < 1e-3 * len(first)  # numbers have more digits or fewer
    words, others = without_made_up_names(first), without_made_up_names(second)
    assert (words & others).total() > 0.99 * words.total()


@pytest.mark.tensorrt
@needs_rtx
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("setarch") is None,
    reason="needs setarch to fix addresses",
)
def test_building_again_at_the_same_addresses_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "build.py"
    script.write_text("""
import hashlib
from gdn.engines.base import onnx_bytes
from gdn.engines.tensorrt_plans import build_plan, load_library
from gdn.models import find_model
graph = onnx_bytes(find_model("pt-ceo2-64"), "gradient")
plan = build_plan(load_library("tensorrt_rtx"), graph, "gradient")
print(hashlib.sha256(plan).hexdigest())
""")
    fixed = ["setarch", platform.machine(), "--addr-no-randomize", sys.executable, str(script)]
    seen: Counter[str] = Counter()
    for _ in range(20):  # its threads may still come in another order, on a machine with other work
        done = subprocess.run(
            fixed,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        if "personality" in done.stderr:
            pytest.skip("addresses cannot be fixed here")
        assert done.returncode == 0, done.stderr
        seen[done.stdout] += 1
        if max(seen.values()) > 1:
            return
    raise AssertionError(f"20 builds, 20 different plans: {seen}")


@pytest.mark.tensorrt
@needs_rtx
@needs_training
def test_half_precision_graphs_are_built(tiny_half: Exported, tmp_path: Path) -> None:
    model = load_model(tiny_half.folder)
    assert model.card.precision == "fp16"
    built = [line for line in tiny_half.said.splitlines() if "tensorrt" in line]
    assert [line.split(":")[0] for line in built] == [
        g for g in GRAPHS if model.file(f"{g}.onnx") is not None
    ]
    assert sum(line.startswith("exact-") for line in built) == 3
    again = gdn("export", tiny_half.folder, "-o", tmp_path / "full", "--engine", "tensorrt")
    assert again.returncode == 0, again.stderr
    assert sum("tensorrt" in line for line in again.stdout.splitlines()) == len(built) - 3


@pytest.mark.tensorrt
@needs_rtx
def test_what_cannot_be_parsed_is_said_in_one_line() -> None:
    with pytest.raises(
        EngineError, match=r"cannot parse generator\.onnx .*export the model again"
    ) as caught:
        build_plan(load_library("tensorrt_rtx"), b"no graph", "generator")
    assert "\n" not in str(caught.value)


@pytest.mark.tensorrt
@needs_rtx
def test_the_command_builds_without_a_card_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    done = gdn("engines", "build", "pt-ceo2-64", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        g for g in GRAPHS if not g.startswith("exact-")
    ]
    assert kept_plans() == []
    assert gdn("engines", "list").stdout == ""


def test_what_is_missing_is_named(frame_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("gdn.engines.tensorrt_plans.installed_libraries", list)
        with pytest.raises(
            EngineError, match=r"TensorRT is not installed; pip install 'gdn\[tensorrt-rtx\]'"
        ):
            load_library()
    if importlib.util.find_spec("tensorrt_rtx") is not None and not Path("/dev/nvidia0").exists():
        one_line(
            gdn("denoise", frame_file, "--engine", "tensorrt"), 2, "no CUDA device can be opened"
        )
        one_line(gdn("engines", "build", "pt-ceo2-64"), 2, "no CUDA device can be opened")
    one_line(gdn("engines", "build", "--library", "tensor"), 2, "tensorrt or tensorrt_rtx")

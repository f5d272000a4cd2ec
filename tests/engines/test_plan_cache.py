"""The cache of plans: a plan that cannot be believed is built again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gdn.engines.tensorrt_plan_cache import PlanKey, clear_plans, kept_plans, plan_folder, plan_for

KEY = PlanKey(
    onnx="a" * 64,
    model="b" * 64,
    graph="generator",
    precision="fp32",
    profiles=((1, 64, 256),),
    library="tensorrt_rtx",
    version="1.7",
    device="A card",
    capability="8.9",
    driver="13000",
)


def test_a_plan_is_built_once_for_each_key(cache: Path) -> None:
    from dataclasses import replace

    built: list[bytes] = []

    def build() -> bytes:
        built.append(b"plan %d" % len(built))
        return built[-1]

    assert plan_for(KEY, build) == plan_for(KEY, build) == b"plan 0"
    others = {
        "onnx": "c" * 64,
        "model": "d" * 64,
        "graph": "gradient",
        "precision": "fp16",
        "profiles": ((1, 8, 8),),
        "library": "tensorrt",
        "version": "1.8",
        "device": "Another",
        "capability": "9.0",
        "driver": "1",
    }
    for number, (name, value) in enumerate(others.items(), 1):
        assert plan_for(replace(KEY, **{name: value}), build) == b"plan %d" % number
    assert len(kept_plans()) == 11
    if os.name == "posix":
        assert plan_folder().stat().st_mode & 0o777 == 0o700
        assert all(one.path.stat().st_mode & 0o077 == 0 for one in kept_plans())
    assert len(clear_plans()) == 11
    assert kept_plans() == []


@pytest.mark.parametrize(
    "damage", ["byte", "cut", "empty", "header", "foreign", "writable", "link", "folder"]
)
def test_a_plan_that_cannot_be_believed_is_built_again(
    cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    from dataclasses import replace

    plan_for(KEY, lambda: b"good plan")
    path = kept_plans()[0].path
    content = path.read_bytes()
    if damage == "byte":
        path.write_bytes(content[:-1] + b"x")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "header":
        path.write_bytes(b"gdn plan 1\n" + b"[" * 50_000 + b"\n" + b"evil")
    elif damage == "foreign":  # another card's plan under this one's name
        other = replace(KEY, device="Another")
        plan_for(other, lambda: b"other plan")
        path.write_bytes((path.parent / other.name).read_bytes())
    elif damage == "writable":
        path.chmod(0o622)
    elif damage == "link":
        path.rename(cache / "elsewhere")
        path.symlink_to(cache / "elsewhere")
    else:
        path.unlink()
        path.mkdir()
    assert plan_for(KEY, lambda: b"new plan") == b"new plan"
    assert "the plan is damaged, or was not built by you; it is built again" in caplog.text
    if damage != "folder":
        assert plan_for(KEY, lambda: b"newer plan") == b"new plan"


def test_a_cache_that_cannot_be_used_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path / "file"))
    assert plan_for(KEY, lambda: b"plan") == b"plan"
    assert kept_plans() == []

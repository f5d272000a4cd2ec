"""Which package may import which: none imports what is above it, so that data runs one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

GROUND = ("environment", "errors", "interruption", "storage", "restarts", "likelihood", "blas")
# From the ground up. A package may import those before it, and GROUND.
FLOORS = (
    "frames",
    "models",
    "recipes",
    "simulation",
    "generator",
    "engines",
    "search",
    "trust",
    "movies",
    "adaptation",
    "pipeline",
    "training",
    "evaluation",
    "report",
    "batch",
    "viewer",
    "cluster",
    "cli",
)
# Beyond the order: what would be possible but is not meant.
APART = {
    "search": {"simulation", "generator"},  # gdn denoise needs neither, nor torch
    "trust": {"simulation", "generator"},
    "movies": {"simulation", "generator", "trust"},
    "adaptation": {"simulation", "trust", "movies"},
    "pipeline": {"simulation", "generator", "recipes"},
    "training": {"search", "trust", "pipeline"},
    "report": {"training", "evaluation", "simulation"},
    "viewer": {"training", "evaluation", "report", "simulation", "generator"},
    "batch": {"training", "evaluation", "report", "simulation"},
}


def imported(path: Path) -> Iterator[str]:
    """Packages or modules of gdn that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gdn":
            yield from (name.name for name in node.names if not name.name.startswith("_"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gdn."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (
                name.name.split(".")[1] for name in node.names if name.name.startswith("gdn.")
            )


@cache
def arrows() -> set[tuple[str, str, str]]:
    """(package, what it imports, file)."""
    root = ROOT / "gdn"
    found = set()
    for path in root.rglob("*.py"):
        room = path.relative_to(root).parts[0].removesuffix(".py")
        found |= {
            (room, other, str(path.relative_to(root))) for other in imported(path) if other != room
        }
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {
        p.name.removesuffix(".py")
        for p in (ROOT / "gdn").iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} == {*GROUND, *FLOORS}


@pytest.mark.parametrize("room", [*GROUND, *FLOORS])
def test_no_import_goes_up(room: str) -> None:
    below = (
        {*GROUND[: GROUND.index(room)]}
        if room in GROUND
        else {*GROUND, *FLOORS[: FLOORS.index(room)]} - APART.get(room, set())
    )
    upward = sorted(
        f"{file} imports gdn.{other}"
        for a, other, file in arrows()
        if a == room and other not in below
    )
    assert not upward

"""The house rules of the tests themselves: no test imports another, none uses a private name of
gdn, random numbers are those of one test, and no file grows beyond a page that can be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

PRIVATE = re.compile(r"_[A-Za-z]\w*")
PRIVATE_PATH = re.compile(r"gdn\.[\w.]*\._[A-Za-z]\w*(\.\w+)*")  # as monkeypatch takes it
MOST_LINES = 400
FILES = sorted((ROOT / "tests").rglob("*.py"))


def imported(node: ast.AST) -> Iterator[str]:
    """Full names that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{name.name}" for name in node.names)


def draws(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng")


def faults(source: str) -> list[str]:
    """What is against the rules in a file of tests, in words."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        for name in imported(node):
            parts = name.split(".")
            if any(part.startswith("test_") or part == "conftest" for part in parts):
                found.append(f"imports {name}: what tests share goes to tests/helpers or a fixture")
            if parts[0] == "gdn" and PRIVATE.fullmatch(parts[-1]):
                found.append(f"imports {name}, which is private")
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            found.append(f"uses {ast.unparse(node)}, which is private")
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            names = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            found += [f"sets {n}, which is private" for n in map(str, names) if private(n)]
        if isinstance(node, ast.Call) and draws(node) and not (node.args or node.keywords):
            found.append("draws random numbers without a seed")
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and any(
            draws(node) for node in ast.walk(statement)
        ):
            found.append(f"shares random numbers between tests: {ast.unparse(statement)}")
    if len(source.splitlines()) > MOST_LINES:
        found.append(f"has more than {MOST_LINES} lines: split it by subject")
    return found


def private(name: str) -> bool:
    return PRIVATE.fullmatch(name) is not None or PRIVATE_PATH.fullmatch(name) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_a_file_of_tests_keeps_the_rules(path: Path) -> None:
    assert not faults(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("from test_cli import one_line", "imports test_cli.one_line"),
        ("from tests.search.test_bank import best_over_doses", "imports tests.search.test_bank"),
        ("def test():\n    from conftest import gdn", "imports conftest.gdn"),
        ("from gdn.search.bank import _open", "imports gdn.search.bank._open, which is private"),
        ("from gdn.search import bank\nbank._open()", "uses bank._open, which is private"),
        ("monkeypatch.setattr(bank, '_open', open)", "sets _open"),
        ("monkeypatch.setattr('gdn.search.bank._open', open)", "sets gdn.search.bank._open"),
        ("rng = np.random.default_rng()", "without a seed"),
        ("RNG = np.random.default_rng(3)", "shares random numbers"),
        ("\n" * 401, "more than 400 lines"),
    ],
)
def test_what_is_against_the_rules_is_found(source: str, words: str) -> None:
    assert any(words in fault for fault in faults(source))

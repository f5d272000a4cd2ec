"""The house rules of gdn's own code: names say what a thing is, and large dataclasses are built by
keyword. (ruff keeps how many parameters a function has.)"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

SAYS_NOTHING = {"found", "about", "one", "it", "all_"}  # as names: they say nothing of the thing
MOST_POSITIONAL = 4  # fields of a dataclass that may be given by their order
BY_ORDER = {
    "Family": "rows of a table, in the order of its heading",
    "Lens": "taken apart and put together as the columns of one tensor",
}
SAID_ELSEWHERE = {"Options", "FrameValues"}  # their fields: in `gdn.Denoiser`, `gdn.Result`
# Where json writes what no other program reads: keys of caches, words of TOML, records in arrays.
OWN_JSON = {
    "storage.py",
    "engines/tensorrt_plan_cache.py",
    "pipeline/record.py",
    "search/outside_candidates.py",
    "cli/config.py",
    "simulation/imaging.py",
}
# Rooms of the command line: its words, its report, what installs packages.
OF_COMMANDS = {"cli", "cluster", "batch", "report", "environment.py"}
FILES = sorted(path for folder in ("gdn", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
OF_GDN = [path for path in FILES if path.is_relative_to(ROOT / "gdn")]
LIBRARY = [path for path in OF_GDN if path.relative_to(ROOT / "gdn").parts[0] not in OF_COMMANDS]


def names_in(tree: ast.AST) -> Iterator[str]:
    """Names that a file gives: variables, parameters, functions, classes, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def dataclasses_by_order(tree: ast.AST) -> Iterator[str]:
    """Dataclasses of many fields that may be built without naming them."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name in BY_ORDER:
            continue
        made = [ast.unparse(decorator) for decorator in node.decorator_list]
        given = [
            statement
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and "init=False" not in ast.unparse(statement)
        ]
        is_dataclass = any(words.startswith("dataclass") for words in made)
        if is_dataclass and len(given) > MOST_POSITIONAL and "kw_only=True" not in str(made):
            yield node.name


def fields_without_words(source: str) -> Iterator[str]:
    """Fields of large dataclasses that have neither a line of their own in the docstring (a list,
    `- `), nor a comment, nor a docstring of their own."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name in SAID_ELSEWHERE:
            continue
        given = [f for f in node.body if isinstance(f, ast.AnnAssign)]
        names = {ast.unparse(f.target): f for f in given}
        public = {name: f for name, f in names.items() if not name.startswith("_")}
        made = [ast.unparse(decorator) for decorator in node.decorator_list]
        is_dataclass = any(words.startswith("dataclass") for words in made)
        if not is_dataclass or len(public) <= MOST_POSITIONAL:
            continue
        listed = "\n".join(re.findall(r"^- .*$", ast.get_docstring(node) or "", re.MULTILINE))
        for name, field in public.items():
            following = node.body[node.body.index(field) + 1 :][:1]
            said = [isinstance(f, ast.Expr) for f in following]
            above = lines[field.lineno - 2].strip().startswith("#")
            beside = "#" in lines[(field.end_lineno or field.lineno) - 1]
            if not (f"`{name}`" in listed or above or beside or any(said)):
                yield f"{node.name}.{name}"


@pytest.mark.parametrize("path", OF_GDN, ids=lambda path: str(path.relative_to(ROOT)))
def test_fields_are_documented_one_by_one(path: Path) -> None:
    assert not list(fields_without_words(path.read_text(encoding="utf-8")))


def faults(source: str, of_package: bool = True) -> list[str]:
    """What is against the rules in a file, in words; a script may build its rows by order."""
    tree = ast.parse(source)
    empty = sorted(SAYS_NOTHING.intersection(names_in(tree)))
    large = dataclasses_by_order(tree) if of_package else ()
    return [f"the name {name} says nothing of the thing" for name in empty] + [
        f"{name} has more than {MOST_POSITIONAL} fields: kw_only=True" for name in large
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_keeps_the_rules(path: Path) -> None:
    assert not faults(path.read_text(encoding="utf-8"), path.is_relative_to(ROOT / "gdn"))


def texts_in(tree: ast.AST) -> Iterator[str]:
    """Texts of a file but docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_does_not_speak_of_options(path: Path) -> None:
    """Who calls it from Python has none: the command line adds them (`gdn.errors.GdnError`)."""
    texts = texts_in(ast.parse(path.read_text(encoding="utf-8")))
    assert not [text for text in texts if re.search(r"(?<![\w-])(--[a-z]|-o\b)", text)]


def test_a_class_has_a_name_of_its_own() -> None:
    """In gdn: who reads a name need not ask of which file it is."""
    files: dict[str, list[str]] = {}
    for path in (ROOT / "gdn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                files.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_json_is_written_without_nan() -> None:
    """By `gdn.storage.json_line`: NaN is no JSON."""
    writers = [
        str(path.relative_to(ROOT / "gdn"))
        for path in FILES
        if path.is_relative_to(ROOT / "gdn") and "json.dump" in path.read_text(encoding="utf-8")
    ]
    assert set(writers) <= OWN_JSON, "use gdn.storage.json_line"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("found = search()", "the name found"),
        ("def add(one): ...", "the name one"),
        ("lengths = [about.size for about in files]", "the name about"),
        ("@dataclass\nclass A:\n" + "".join(f"    {c}: int\n" for c in "abcde"), "A has more"),
    ],
)
def test_what_is_against_the_rules_is_found(source: str, words: str) -> None:
    assert any(words in fault for fault in faults(source))

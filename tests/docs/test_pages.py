"""The documentation leads somewhere: every page that code cites and every local link exists. `make
site` checks the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

CITED = re.compile(r"\bdocs/[\w/-]+\.(?:md|jsonl|txt|png)\b")
CODE = re.compile(r"\b(?:gdn|benchmarks|tests|docs)/[\w/-]+\.(?:py|toml|npy|ipynb)\b")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
TEXTS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]


def sources() -> list[Path]:
    """Everything that may cite a page."""
    folders = ("gdn", "benchmarks", "tests", "docs")
    return [
        path
        for folder in folders
        for ending in ("py", "toml")
        for path in sorted((ROOT / folder).rglob(f"*.{ending}"))
    ]


def test_pages_cited_in_code_exist() -> None:
    cited = {
        (path, name)
        for path in sources()
        for name in CITED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(cited) > 10
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in sorted(cited)
        if not (ROOT / name).exists()
    ]
    assert not missing


def test_files_named_in_pages_exist() -> None:
    pages = [*TEXTS, *sorted((ROOT / "docs").rglob("*.md"))]
    named = {
        (page, name) for page in pages for name in CODE.findall(page.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page, name in sorted(named)
        if not (ROOT / name).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_of_the_texts_beside_the_site_exist(page: Path) -> None:
    missing = [
        link
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / link).exists()
    ]
    assert not missing


def test_the_readme_leads_to_every_page() -> None:
    linked = {
        ROOT / link for link in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    }
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "index.md"}
    assert not sorted(str(page.relative_to(ROOT)) for page in pages - linked)

"""What names the version names the same one."""

from __future__ import annotations

import re
import tomllib

from gdn import __version__
from tests.helpers.places import ROOT


def test_the_version_is_one() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    log = (ROOT / "CHANGELOG.md").read_text()
    released = re.search(r"^## \[(\d[^]]*)] - (\S+)$", log, re.MULTILINE)
    assert released is not None
    assert released[1] == __version__
    assert f"version: {__version__}\ndate-released: {released[2]}\n" in citation


def test_the_changelog_has_each_kind_of_change_once_and_in_order() -> None:
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for part in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]:
        found = re.findall(r"^### (.+)$", part, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found]


def test_the_recipe_of_conda_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "conda" / "recipe.yaml").read_text()
    assert f'version: "{__version__}"' in recipe
    _, _, run = recipe.partition("  run:\n")
    listed = re.findall(r"^    - (\S+) (\S+)$", run.partition("\ntests:")[0], re.MULTILINE)
    wanted = [f"python{project['requires-python']}", *project["dependencies"]]
    assert [name + bound for name, bound in listed] == wanted


def test_the_table_of_extras_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    named = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
    of_developers = {"bench", "docs", "dev", "pycuda"}
    assert named == set(extras["optional-dependencies"]) - of_developers

"""What names the version names the same one."""

from __future__ import annotations

import re

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

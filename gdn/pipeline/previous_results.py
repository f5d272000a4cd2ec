"""Files that already exist under the names of results, and whether gdn wrote them.

Nothing is replaced but what a record of gdn's own says that it wrote for the very same input. The
record is a claim first (`complete` is false, `outputs` names the files that are about to get their
names) and complete last, so that this holds whenever a process is killed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gdn.pipeline.output_files import Outputs, content_hash
from gdn.storage import read_text

_RECORD = {"schema", "key", "input", "model", "engine", "search", "frames"}  # every one of gdn's


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record of gdn; None if the file does not exist or is something else."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.keys() >= _RECORD else None


def is_complete(outputs: Outputs, images: list[Path], atoms: bool, key: str) -> bool:
    """Whether a record says that the results of `key` are complete, with all of `images` and, if
    wanted, tables of columns, and every file that it names is there."""
    for path in (outputs.record, outputs.former_record):
        record = read_record(path)
        if not record or record["key"] != key or not record.get("complete", True):
            continue
        wanted = {*images, *(outputs.folder / name for name in record.get("outputs", ()))}
        tables = any(file.name.startswith(f"{outputs.stem}_atoms") for file in wanted)
        return (tables or not atoms) and all(file.exists() for file in wanted)
    return False


def own_files(outputs: Outputs, source: Path | None) -> set[Path]:
    """The files that records of gdn's own say it wrote for `source` under these names, the records
    included; for None (an array), of whatever input they were."""
    own: set[Path] = set()
    for path in (outputs.record, outputs.former_record):
        record = read_record(path)
        if record is None or not (source is None or _is_of(record["input"], source)):
            continue
        if "outputs" in record:
            names = [*record["outputs"], *record.get("former_outputs", ())]
            own |= {outputs.folder / str(name) for name in names}
        else:  # before schema 3 a record did not name them
            own |= set(outputs.possible())
        own.add(path)
    return own


def _is_of(described: Any, source: Path) -> bool:
    """Whether what a record says of its input (`path`, `folder`, `sha256`) means `source`: the same
    place, or the same content."""
    if not isinstance(described, dict) or not described.get("path"):
        return False
    # Before schema 3 the path was as typed, in a folder that nobody wrote down.
    folder = Path(str(described.get("folder") or Path.cwd()))
    if (folder / str(described["path"])).resolve() == source.resolve():
        return True
    try:
        return bool(described.get("sha256")) and described["sha256"] == content_hash(source)
    except OSError:
        return False

"""Files that already exist under the names of results, and whether gdn wrote them.

Nothing is replaced but what a record of gdn's own says that it wrote for the very same input. The
record is a claim first (`complete` is false, `outputs` names the files that are about to get their
names) and complete last, so that this holds whenever a process is killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from gdn.frames.source import FrameError
from gdn.pipeline.output_files import Outputs, content_hash
from gdn.storage import read_text

_RECORD = {"schema", "key", "input", "model", "engine", "search", "frames"}  # every one of gdn's
CHOOSE = "choose another folder for the results (-o)"


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


def check_free(
    outputs: Outputs, source: Path | None, wanted: Iterable[Path], replacing: bool
) -> None:
    """Raises FrameError where one of the `wanted` files is there: anyone else's always, gdn's own
    of the same input unless it is `replacing`."""
    there = [path for path in wanted if path.exists() or path.is_symlink()]
    if not there:
        return
    own = own_files(outputs, source)
    foreign = next((path for path in there if path not in own), None)
    if foreign is None:
        if not replacing:
            raise FrameError(
                f"{there[0]}: exists already; --overwrite replaces results, --resume skips those "
                "that are complete"
            )
        return
    record = read_record(outputs.record)
    if record is not None and outputs.record not in own:
        described = record["input"] if isinstance(record["input"], dict) else {}
        other = described.get("path") or "an array"
        raise FrameError(f"{foreign}: is the result of another input ({other}); {CHOOSE}")
    raise FrameError(
        f"{foreign}: exists already, and none of gdn's records says that it is a "
        f"result of {source or 'this array'}; {CHOOSE}"
    )


def free_name(path: Path, may_replace: Callable[[Path], bool]) -> Path:
    """`path`, or NAME-2, NAME-3, ... beside it if another file already has this name."""
    for number in count(1):
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not (name.exists() or name.is_symlink()) or may_replace(name):
            return name
    raise AssertionError  # count has no end


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

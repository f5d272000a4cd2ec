"""Under which names a run may write: nothing of anyone else's is replaced, and nothing of gdn's own
without being asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from gdn.frames.source import FrameError
from gdn.pipeline.output_files import Outputs
from gdn.pipeline.previous_results import own_files, read_record

CHOOSE = "choose another folder for the results (-o)"


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

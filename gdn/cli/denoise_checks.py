"""What `gdn denoise` refuses before any work: options that contradict each other, or what is not
there."""

from __future__ import annotations

from pathlib import Path

from gdn.batch.terminal import UsageFault
from gdn.cli.common import need


def check_source(files: list[str] | None, watch: Path | None, cluster: str | None) -> None:
    """Raises UsageFault where it is not clear what is to be denoised, or it cannot be done
    there."""
    if bool(files) == (watch is not None):
        raise UsageFault("nothing to denoise: give either FILES or --watch DIR")
    if cluster is not None:
        need("distributed", "cluster")
        if watch is not None:
            raise UsageFault(
                "--watch cannot be used with --cluster: it waits for files on this machine"
            )
    if watch is not None and not watch.is_dir():
        raise UsageFault(f"--watch {watch}: no such folder")


def check_written(fill: str, dtype: str, movie_file: str) -> None:
    """Raises UsageFault where the results cannot hold what is to stand for pixels left out, or a
    movie cannot be written."""
    if movie_file:
        need("av", "video")
    if fill == "nan" and dtype.startswith("uint"):
        raise UsageFault(
            f"--fill nan: {dtype} cannot hold NaN; choose --dtype float32, or --fill model"
        )


def check_adapt(watch: Path | None, adapted: Path | None, method: str) -> None:
    """Raises UsageFault where there is nothing to learn from yet, or no use for it."""
    if watch is not None:
        raise UsageFault(
            "--adapt cannot be used with --watch: it learns from all frames before it denoises"
        )
    if adapted is not None:
        raise UsageFault(
            "give either --adapt (learn now) or --adapted DIR (use a model that was "
            "learned before), not both"
        )
    if method != "gdn":
        raise UsageFault(
            f"--adapt cannot be used with --method {method}, which mixes no candidates"
        )
    need("torch", "adapt")

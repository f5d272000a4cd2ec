"""`gdn simulate --images`: a data set of clean images from any simulator."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gdn.batch.terminal import UsageFault, expand, progress_bar, usage_fault
from gdn.cli.common import writable_folder


def check_alone(given: dict[str, object]) -> None:
    """Raises UsageFault for options, by name, that make structures."""
    for name, value in given.items():
        if value:
            raise UsageFault(f"--{name} cannot be used with --images")


def check_structures(
    count: int | None, sampling: float | None, vacuum: str, independent: bool
) -> int:
    """The `count` of structures to make. Raises UsageFault without one, and for options of images
    alone."""
    if count is None:
        raise UsageFault("--count: how many structures? Give a number (or --images)")
    if sampling is not None or independent or vacuum != "1":
        raise UsageFault("--sampling, --vacuum and --independent are for --images")
    return count


def level_of(text: str) -> float | None:
    """The gray value of the vacuum; None for 'mean'. Raises UsageFault."""
    try:
        level = None if text == "mean" else float(text)
    except ValueError:
        level = 0.0
    if level is not None and not 0 < level < float("inf"):
        raise UsageFault(f"--vacuum {text}: the gray value of the vacuum, above 0, or mean")
    return level


def import_files(
    out: Path,
    patterns: list[str],
    seed: int,
    vacuum: str,
    sampling: float | None,
    energy_kv: float,
    independent: bool,
) -> int:
    """Make the data set, and say what is in it."""
    from gdn.errors import InputError
    from gdn.simulation.image_import import ImagePlan, import_images
    from gdn.simulation.simulate import seed_of_path
    from gdn.simulation.structures import split_of

    level, files = level_of(vacuum), expand(patterns)
    writable_folder(out)
    plan = ImagePlan(
        out=out.resolve(),
        files=files,
        seed=seed,
        vacuum=level,
        sampling_angstrom=sampling,
        energy_kv=energy_kv,
        independent=independent,
    )
    with progress_bar("importing", 1) as update:
        try:
            paths = import_images(plan, update)
        except InputError as error:
            raise usage_fault(error) from None
    count: Counter[str] = Counter(split_of(seed_of_path(path)) for path in paths)
    shares = ", ".join(f"{count[split]} of {split}" for split in ("train", "validation", "test"))
    print(f"{out}: {len(paths)} clean images ({shares})")
    return 0

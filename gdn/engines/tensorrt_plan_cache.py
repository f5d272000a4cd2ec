"""Built plans in the user's cache. A plan is executable code, so only a plan that this user's gdn
built for this card is used.

A file holds a description of what the plan was built from, the plan's hash, and the plan. It is
used if the description is the wanted one, the hash is right, and nobody else can have written the
file. Else the plan is built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gdn.storage import cache_folder, writing

MAGIC = b"gdn plan 1\n"
# folder of the plans that onnxruntime's TensorRT provider keeps by its own rules
RUNTIMES_OWN = "onnxruntime"
LONGEST_HEADER = 2**16
log = logging.getLogger("gdn")


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """Everything that a plan depends on.

    - `onnx`: sha256 of the whole graph.
    - `model`: sha256 of the model.
    - `graph`: its name.
    - `precision`: number type of its inputs.
    - `profiles`: least, usual and largest batches.
    - `library`, `version`: of TensorRT.
    - `device`, `capability`, `driver`: of the card.
    """

    onnx: str
    model: str
    graph: str
    precision: str
    profiles: tuple[tuple[int, int, int], ...]
    library: str
    version: str
    device: str
    capability: str
    driver: str

    @property
    def name(self) -> str:
        """The file's name."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.graph}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.plan"


@dataclass(frozen=True)
class Kept:
    """A plan in the cache: its path, what it was built from (None: damaged), and its bytes."""

    path: Path
    description: dict[str, Any] | None
    size: int


def plan_folder() -> Path:
    """The folder of plans, created so that only its owner can enter it. Raises OSError."""
    folder = cache_folder() / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def plan_for(key: PlanKey, build: Callable[[], bytes]) -> bytes:
    """The plan of `key`, from the cache, or built now and cached. If the cache cannot be used, that
    costs time but does not change the result. A stale, foreign or damaged plan is built again, and
    one line says so."""
    path: Path | None = None
    with contextlib.suppress(OSError):
        path = plan_folder() / key.name
    if path is not None and path.exists():
        plan = _read(path, key)
        if plan is not None:
            return plan
        log.warning("%s: the plan is damaged, or was not built by you; it is built again", path)
    plan = build()
    if path is not None:
        with contextlib.suppress(OSError), writing(path) as temporary:
            header = json.dumps(
                asdict(key) | {"sha256": hashlib.sha256(plan).hexdigest()}, sort_keys=True
            ).encode()
            temporary.touch(mode=0o600)
            temporary.write_bytes(MAGIC + header + b"\n" + plan)
    return plan


def _read(path: Path, key: PlanKey) -> bytes | None:
    """The plan in a file, or None if it must not be used."""
    try:
        if not _ours(path):
            return None
        content = path.read_bytes()
    except OSError:
        return None
    description, plan = _parted(content)
    wanted = json.loads(json.dumps(asdict(key)))
    if description is None or {k: v for k, v in description.items() if k != "sha256"} != wanted:
        return None
    return plan if hashlib.sha256(plan).hexdigest() == description.get("sha256") else None


def _ours(path: Path) -> bool:
    """Whether a file belongs to this user, is no link, and cannot be written by anyone else."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _parted(content: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Header and plan from a file's bytes."""
    end = content.find(b"\n", len(MAGIC), LONGEST_HEADER)
    if not content.startswith(MAGIC) or end < 0:
        return None, b""
    try:
        description = json.loads(content[len(MAGIC) : end])
    except (ValueError, RecursionError):
        return None, b""
    return (description if isinstance(description, dict) else None), content[end + 1 :]


def kept_plans() -> list[Kept]:
    """Every plan in the cache, by name."""
    folder = cache_folder() / "plans"
    plans = []
    for path in sorted(folder.glob("*.plan")):
        if not path.is_file():  # a pipe would be waited for
            continue
        with contextlib.suppress(OSError), path.open("rb") as stream:
            plans.append(Kept(path, _parted(stream.read(LONGEST_HEADER))[0], path.stat().st_size))
    return plans


def clear_plans() -> list[Kept]:
    """Remove all plans and return what was removed."""
    removed = []
    shutil.rmtree(cache_folder() / "plans" / RUNTIMES_OWN, ignore_errors=True)
    for plan in kept_plans():
        with contextlib.suppress(OSError):
            plan.path.unlink()
            removed.append(plan)
    return removed

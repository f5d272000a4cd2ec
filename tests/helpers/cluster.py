"""A scheduler and workers in processes of their own, and what to compare."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

OPTIONS = (
    "--sampling",
    "0.2",
    "--no-score",
    "--model",
    "pt-ceo2-64",
    "--restarts",
    "32",
    "--threads",
    "1",
)
COUNT, COPIES = 6, 2


def picture(seed: int, side: int = 100) -> np.ndarray:
    """Small, but with so much contrast that every stage of the search has work."""
    y, x = np.mgrid[:side, :side] * 0.2
    clean = 1 - 0.4 * np.cos(2 * np.pi * y / 4.6) ** 2 * np.cos(2 * np.pi * x / 5.4) ** 2
    return np.random.default_rng(seed).poisson(12 * clean).astype(np.uint8)


def picture_file(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, picture(seed))


def certificate_files(folder: Path) -> None:
    from distributed.security import Security

    made = Security.temporary()
    (folder / "cert.pem").write_text(made.tls_client_cert)
    (folder / "key.pem").write_text(made.tls_client_key)


def timeless(path: Path) -> Any:
    """A record without its times and folder."""
    text = re.sub(r'"(alone|mixed|local\d)/', '"OUT/', path.read_text())
    record = json.loads(text)
    for frame in record["frames"]:
        for name in ("seconds", "stages"):
            frame.pop(name)
    return record


def same(folder: Path, one: str, other: str) -> None:
    """Both folders hold the same results, bit for bit but for times."""
    names, others = (
        sorted(p.name for p in (folder / where).iterdir() if not p.name.startswith("gdn-run"))
        for where in (one, other)
    )  # of another command the settings get a name of their own
    assert names == others
    for name in names:
        if name.endswith(".json"):
            assert timeless(folder / one / name) == timeless(folder / other / name)
        elif name.endswith(".tif"):
            assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name


class Cluster:
    """A scheduler and workers in processes of their own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.started = folder, []  # type: ignore[var-annotated]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(
        self, *words: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        command = [*before, sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
        with (self.folder / f"log{len(self.started)}").open("wb") as log:
            self.started.append(
                subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
            )
        return self.started[-1]

    def scheduler(self, *more: str) -> subprocess.Popen[bytes]:
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        started = self.start("dask_scheduler", *where, *more)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return started
            time.sleep(0.2)
        raise AssertionError("no scheduler")

    def worker(self, name: str, **more: Any) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        arguments = (
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--name",
            name,
            "--local-directory",
            str(folder),
        )
        return self.start("dask_worker", self.address, *arguments, "--memory-limit", "0", **more)

    def close(self) -> None:
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
            process.wait()


def denoising(folder: Path, cluster: Cluster, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "gdn",
        "denoise",
        "in",
        "-o",
        "out",
        "--cluster",
        cluster.address,
        *OPTIONS,
        *more,
    ]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until some results are there."""
    deadline = time.monotonic() + 120
    while len(list((folder / "out").glob("*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def all_there_once(folder: Path, frames: Path, output: str) -> None:
    """Every file has the results it has without a cluster, nothing half-written beside them, each
    said once."""
    assert output.count("->") == len(set(output.splitlines()))
    for number in range(COUNT):
        for copy in range(COPIES):
            for what in ("denoised", "spread"):
                mine = tifffile.imread(folder / "out" / f"f{number}-{copy}_{what}.tif")
                np.testing.assert_array_equal(
                    mine, tifffile.imread(frames / "alone" / f"f{number}_{what}.tif")
                )
    names = [p.name for p in (folder / "out").iterdir() if not p.name.startswith(".")]
    assert len(names) == COPIES * COUNT * 3 + 2  # and gdn-run.toml, gdn-summary.csv

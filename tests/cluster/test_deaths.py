"""Workers and schedulers that die, fill up or lack a library: nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.cluster import COPIES, COUNT, Cluster, all_there_once, denoising, wait_for
from tests.helpers.commands import unwrapped
from tests.helpers.needs import needs_cluster

pytestmark = [
    needs_cluster,
    pytest.mark.cluster,
    # Dask leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]


def test_a_worker_killed_in_a_frame_loses_nothing(
    many: Path, frames: Path, cluster: Cluster
) -> None:
    cluster.scheduler()
    first = cluster.worker("first")
    cluster.worker("second")
    running = denoising(many, cluster)
    wait_for(many, 2, running)
    first.send_signal(signal.SIGKILL)
    output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "died; its work is done again" in errors
    assert "Traceback" not in errors
    assert output.count("->") == COPIES * COUNT
    all_there_once(many, frames, output)


def test_a_scheduler_that_goes_and_comes_back(
    many: Path, frames: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN_CLUSTER_LOST_SECONDS", "2")
    scheduler = cluster.scheduler()
    cluster.worker("first")
    running = denoising(many, cluster)
    wait_for(many, 2, running)
    scheduler.send_signal(signal.SIGKILL)
    output, errors = running.communicate(timeout=240)
    assert running.returncode == 1, errors
    assert (
        "the scheduler no longer answers; when it runs again, "
        "the same command with --resume continues" in errors
    )
    assert "Traceback" not in errors
    done = output.count("->")
    assert 0 < done < COPIES * COUNT
    for process in cluster.started:
        process.kill()
    cluster.scheduler()
    cluster.worker("third")
    again = denoising(many, cluster, "--resume")
    more, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert done <= COPIES * COUNT - more.count(
        "->"
    )  # those in flight may have been written without being told of
    all_there_once(many, frames, output + more)


def test_a_worker_without_the_runtime_is_left_out(
    many: Path, frames: Path, cluster: Cluster
) -> None:
    (many / "shadow").mkdir()
    (many / "shadow" / "onnxruntime.py").write_text(
        "raise ImportError('no onnxruntime on this machine')\n"
    )
    cluster.scheduler()
    cluster.worker("bare", env={"PYTHONPATH": str(many / "shadow")})
    alone = denoising(many, cluster, "--engine", "onnxruntime")
    output, errors = alone.communicate(timeout=120)
    assert alone.returncode == 2, errors
    assert errors.count("no onnxruntime on this machine") >= 1
    assert "no worker can do this" in errors
    assert "Traceback" not in errors
    cluster.worker("whole")
    running = denoising(many, cluster, "--engine", "onnxruntime")
    output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert errors.count("is not used") <= 1
    all_there_once(many, frames, output)


needs_mounts = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="needs root to mount",
)


@needs_mounts
def test_a_full_disk_on_one_worker(many: Path, frames: Path, cluster: Cluster) -> None:
    (many / "out").mkdir()
    cluster.scheduler()
    script = f'mount -t tmpfs -o size=64k tmpfs {many / "out"} && exec "$@"'
    if (
        subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "true"], check=False).returncode
        != 0
    ):
        pytest.skip("mounting is not allowed here")
    cluster.worker("full", before=("unshare", "-m", "sh", "-c", script, "sh"))
    time.sleep(2)
    running = denoising(many, cluster)
    time.sleep(4)
    cluster.worker("roomy")
    output, errors = running.communicate(timeout=240)
    if running.returncode == 2:  # the full one was alone for so long that there was nobody to go on
        assert "No space left on device" in errors
        running = denoising(many, cluster)
        output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "No space left on device" in errors
    assert "is not used" in errors
    all_there_once(many, frames, output)


@pytest.mark.parametrize("address", ["local:1", "local:2"])
def test_an_item_that_kills_its_workers_is_lost_alone(tmp_path: Path, address: str) -> None:
    # With one worker some other item has always been in hand with it.
    script = f"""
import os, signal
from distributed import Client, LocalCluster
from gdn.cluster.chunks import Lost
from gdn.cluster.connect import connect
from gdn.cluster.work_sharing import WorkSharing, deaths_noted
def deadly(n):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n
if __name__ == "__main__":
    with connect({address!r}) as client, deaths_noted(client):
        for item, value in WorkSharing(client, deadly, 8, target=0.001).run(range(8)):
            print(item, value.reason if isinstance(value, Lost) else value)
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    lines = sorted(done.stdout.splitlines())
    assert lines == [
        *(f"{n} {n}" for n in range(3)),
        "3 the workers that had it died",
        *(f"{n} {n}" for n in range(4, 8)),
    ], done
    assert "died; its work is done again" in unwrapped(done.stderr)
    assert "Traceback" not in done.stderr

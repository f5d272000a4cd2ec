"""A cluster of real worker processes: the same results as without, whatever happens to the
workers."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import ROOT, gdn, gdn_process, needs_training
from test_cli import one_line

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None, reason="needs the extra 'cluster'"
    ),
    pytest.mark.slow,
    # Dask leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]
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


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small low-dose frames, and what one machine makes of them in `alone`."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "in").mkdir()
    for number in range(COUNT):
        tifffile.imwrite(folder / "in" / f"f{number}.tif", picture(number))
    done = gdn_process("denoise", "in", "-o", "alone", "--report", *OPTIONS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def picture(seed: int, side: int = 100) -> np.ndarray:
    """Small, but with so much contrast that every stage of the search has work."""
    y, x = np.mgrid[:side, :side] * 0.2
    clean = 1 - 0.4 * np.cos(2 * np.pi * y / 4.6) ** 2 * np.cos(2 * np.pi * x / 5.4) ** 2
    return np.random.default_rng(seed).poisson(12 * clean).astype(np.uint8)


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
    names = sorted(p.name for p in (folder / one).iterdir())
    assert names == sorted(p.name for p in (folder / other).iterdir())
    for name in names:
        if name.endswith(".json"):
            assert timeless(folder / one / name) == timeless(folder / other / name)
        elif name.endswith(".tif"):
            assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_those_of_one_machine(frames: Path, workers: int) -> None:
    out = f"local{workers}"
    done = gdn_process(
        "denoise",
        "in",
        "-o",
        out,
        "--report",
        "--json",
        "--cluster",
        f"local:{workers}",
        *OPTIONS,
        cwd=frames,
    )
    assert done.returncode == 0, done.stderr
    same(frames, "alone", out)
    rows = {row["input"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert sorted(rows) == [f"in/f{n}.tif" for n in range(COUNT)]
    pages = [(frames / name / "report.html").read_text() for name in ("alone", out)]
    assert [page.count("<img") for page in pages] == [pages[0].count("<img")] * 2
    assert pages[1].index("f0.tif [0]") < pages[1].index("f5.tif [0]")


def test_resume_goes_on_in_either_mode_and_failures_are_said(frames: Path) -> None:
    shutil.copytree(frames / "alone", frames / "mixed")
    for name in ("f1_gdn.json", "f4_spread.tif"):
        (frames / "mixed" / name).unlink()
    before = (frames / "mixed" / "f0_gdn.json").stat().st_mtime_ns
    refused = gdn_process(
        "denoise", "in", "-o", "mixed", "--cluster", "local:1", *OPTIONS, cwd=frames
    )
    assert refused.returncode == 1
    assert refused.stderr.count("exists already") == COUNT  # f1 and f4 have left images behind
    (frames / "in2").mkdir()
    (frames / "in2" / "bad.tif").write_bytes(b"II*\0no tiff at all")
    done = gdn_process(
        "denoise",
        "in",
        "in2",
        "-o",
        "mixed",
        "--resume",
        "--cluster",
        "local:2",
        *OPTIONS,
        cwd=frames,
    )
    assert done.returncode == 1
    assert "bad.tif" in done.stderr
    assert f"1 of {COUNT + 1} files failed" in done.stderr
    assert f"{COUNT - 2} of {COUNT + 1} files were complete already" in done.stderr
    assert "Traceback" not in done.stderr
    same(frames, "alone", "mixed")
    assert (frames / "mixed" / "f0_gdn.json").stat().st_mtime_ns == before
    shutil.rmtree(frames / "in2")
    again = gdn_process("denoise", "in", "-o", "mixed", "--resume", *OPTIONS, cwd=frames)
    assert f"{COUNT} of {COUNT} files were complete already" in again.stderr


def test_what_cannot_be_meant_is_one_line(frame_file: Path) -> None:
    one_line(
        gdn("denoise", frame_file, "--cluster", "local:none"), 2, "local:N with N from 1 to 1024"
    )
    one_line(
        gdn("denoise", "--watch", frame_file.parent, "--cluster", "local:1"),
        2,
        "not together with --cluster",
    )


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

    def scheduler(self) -> subprocess.Popen[bytes]:
        started = self.start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )
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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def many(frames: Path, tmp_path: Path) -> Path:
    """More frames than are done before something happens to the workers."""
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        for copy in range(COPIES):
            shutil.copy(frames / "in" / f"f{number}.tif", tmp_path / "in" / f"f{number}-{copy}.tif")
    return tmp_path


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
    assert len(names) == COPIES * COUNT * 3 + 1  # and gdn-run.toml


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
    assert "died; what it had in hand is done again" in errors
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
    assert "the scheduler is gone; the same command with --resume goes on once it is back" in errors
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


def test_a_client_that_closes_between_two_looks_is_a_lost_scheduler() -> None:
    from distributed import Client

    from gdn.cluster.connect import ClusterError
    from gdn.cluster.work_sharing import WorkSharing

    # Not the default: closed inside the block, it would leave its name behind as the scheduler of
    # every later computation.
    with Client(
        processes=False,
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        set_as_default=False,
    ) as client:

        def items() -> Iterator[float]:
            yield 2.0
            client.close()  # the first is under way
            yield 2.0

        with pytest.raises(ClusterError, match="the scheduler is gone"):
            list(WorkSharing(client, time.sleep, 2).run(items()))


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
    assert errors.count("is left out") <= 1
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
    assert "is left out" in errors
    all_there_once(many, frames, output)


def test_what_is_in_flight_is_bounded_and_chunks_follow_the_cost() -> None:
    from distributed import Client, LocalCluster

    from gdn.cluster.chunks import Lost
    from gdn.cluster.work_sharing import IN_FLIGHT, MOST, WorkSharing

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as here,
        Client(here) as client,
    ):
        drawn: list[int] = []

        def numbers() -> Iterator[int]:
            for n in range(5000):
                drawn.append(n)
                yield n

        flow: WorkSharing[int, int] = WorkSharing(client, double, 5000, target=0.02)
        found: dict[int, Any] = {}
        ahead = 0
        for item, value in flow.run(numbers()):
            assert item not in found
            found[item] = value
            ahead = max(ahead, len(drawn) - len(found))
        assert found == {n: 2 * n for n in range(5000)}
        assert flow.peak == 2 * IN_FLIGHT
        assert ahead <= 2 * IN_FLIGHT * MOST
        bad: WorkSharing[int, int] = WorkSharing(client, odd_only, 4)
        outcome = dict(bad.run(range(4)))
        assert outcome[1] == 1
        assert isinstance(outcome[2], Lost)
        assert "ZeroDivisionError: two is not odd" in outcome[2].reason


def double(n: int) -> int:
    return 2 * n


def odd_only(n: int) -> int:
    if n == 2:
        raise ZeroDivisionError("two is not odd")
    return n


@pytest.mark.parametrize("address", ["local:1", "local:2"])
def test_an_item_that_kills_its_workers_is_lost_alone(tmp_path: Path, address: str) -> None:
    # With one worker some other item has always been in hand with it.
    script = f"""
import os, signal
from distributed import Client, LocalCluster
from gdn.cluster.chunks import Lost
from gdn.cluster.connect import connected
from gdn.cluster.work_sharing import WorkSharing, deaths_noted
def deadly(n):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n
if __name__ == "__main__":
    with connected({address!r}) as client, deaths_noted(client):
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
    assert "died; what it had in hand is done again" in done.stderr
    assert "Traceback" not in done.stderr


def test_nannies_do_not_give_memory_back_at_once() -> None:
    from gdn.cluster.connect import TRIM, connected, nanny_environment
    from gdn.cluster.shipment import settle_memory

    assert TRIM not in nanny_environment()
    assert nanny_environment()["OMP_NUM_THREADS"] == "1"
    settle_memory()
    with connected("local:1") as client:
        (seen,) = client.run(lambda name=TRIM: os.environ.get(name)).values()
    assert seen is None


def test_models_and_banks_that_are_not_what_was_sent_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from gdn.cluster.shipment import PackedBank, PackedModel
    from gdn.models import ModelError, find_model
    from gdn.search.bank import Bank

    packed = PackedModel.of(find_model("pt-ceo2-64"))
    assert packed.unpacked(tmp_path).hash == packed.hash
    foreign = replace(packed, name="mine")
    assert foreign.unpacked(tmp_path).folder == tmp_path / f"gdn-{packed.hash[:16]}" / "mine"
    with pytest.raises(ModelError, match="not the model that was sent"):
        replace(foreign, hash="0" * 64).unpacked(tmp_path)
    broken = packed.files | {"generator.onnx": packed.files["generator.onnx"][:-1] + b"x"}
    with pytest.raises(ModelError, match="sha256"):
        replace(foreign, files=broken).unpacked(tmp_path)
    bank = PackedBank.of(Bank(seed=0, dimension=4, images=np.ones((2, 3, 3), np.float16)))
    np.testing.assert_array_equal(bank.unpacked().images, np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="damaged"):
        replace(bank, images=bytes(36)).unpacked()


def test_each_worker_takes_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.cluster.shipment import own_card

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: [Path(f"/dev/nvidia{n}") for n in range(4)]
    )
    assert [own_card("cuda", n) for n in (0, 1, 5)] == ["cuda:0", "cuda:1", "cuda:1"]
    assert own_card("cpu", 1) == "cpu"
    assert own_card("cuda", "a name") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert own_card("cuda", 3) == "cuda"


@needs_training
def test_structures_on_a_cluster_are_those_of_one_machine(tmp_path: Path) -> None:
    arguments = ("--count", "2", "--seed", "5", "--frames", "1")
    assert gdn("simulate", tmp_path / "a", *arguments).returncode == 0
    done = gdn_process("simulate", "b", *arguments, "--cluster", "local:2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b: 2 exit waves, 1 frames\n"
    ours, theirs = (sorted((tmp_path / name).rglob("*.npz")) for name in "ab")
    assert [p.name for p in ours] == [p.name for p in theirs]
    for one, other in zip(ours, theirs, strict=True):
        with np.load(one) as mine, np.load(other) as its:
            assert set(mine) == set(its)
            scale = np.abs(mine["spectrum"]).max()
            np.testing.assert_allclose(mine["spectrum"], its["spectrum"], atol=1e-5 * scale)


def test_the_slurm_example_makes_a_job() -> None:
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("needs dask-jobqueue, of the extra 'cluster'")
    text = (ROOT / "docs" / "scaling.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, "--dry-run"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --cpus-per-task=8" in done.stdout
    assert "distributed.cli.dask_worker" in done.stdout


class Unable:
    """Work that some workers cannot do."""

    def __init__(self, unable: set[str], perhaps_item: bool = False) -> None:
        self.unable, self.perhaps_item = unable, perhaps_item

    def __call__(self, n: int) -> int:
        from distributed import get_worker

        from gdn.cluster.chunks import Unfit

        if str(get_worker().name) in self.unable or (self.perhaps_item and n == 3):
            raise Unfit("not here", self.perhaps_item)
        time.sleep(0.02)
        return n


def test_who_cannot_do_it_gets_no_more_and_who_comes_later_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from distributed import Client, LocalCluster

    from gdn.cluster.chunks import Lost
    from gdn.cluster.connect import ClusterError
    from gdn.cluster.work_sharing import WorkSharing

    with (
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as here,
        Client(here) as client,
    ):
        flow: WorkSharing[int, int] = WorkSharing(client, Unable({"0"}), 40, target=0.05)
        assert sorted(flow.run(range(40))) == [(n, n) for n in range(40)]
        assert list(flow.unfit.values()) == ["not here"]
        assert capsys.readouterr().err.count("is left out (not here)") == 1
        with pytest.raises(ClusterError, match=r"no worker can do this \(not here\)"):
            list(WorkSharing(client, Unable({"0", "1", "2"}), 40).run(range(40)))
        # An item that no two workers can do is given up, and the second of them is not blamed.
        flow = WorkSharing(client, Unable(set(), perhaps_item=True), 8, target=0.05)
        found = dict(flow.run(range(8)))
        assert found.pop(3) == Lost("not here")
        assert found == {n: n for n in range(8) if n != 3}
        assert len(flow.unfit) == 1
        # What was given to the only workers that can goes to one that comes after they are gone.
        flow = WorkSharing(client, Unable({"0"}), 40, target=0.05)
        steps = flow.run(range(40))
        found = dict(next(steps) for _ in range(10))
        able = [
            a
            for a, about in client.scheduler_info(n_workers=-1)["workers"].items()
            if about["name"] != 0
        ]
        client.retire_workers(able)
        here.scale(4)
        found |= dict(steps)
        assert found == {n: n for n in range(40)}

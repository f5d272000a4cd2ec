"""What a cluster costs: overhead and memory of many tasks, efficiency of workers on this machine,
and Dask's malloc setting.

python benchmarks/cluster.py --tasks 100000           stub tasks through scheduler and workers of
their own processes python benchmarks/cluster.py --frames 16              demo frames (test
structures): one machine, one worker, two workers python benchmarks/cluster.py --structures 6
exit waves with and without the nanny's MALLOC_TRIM_THRESHOLD_
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import tifffile


@contextlib.contextmanager
def processes(count: int) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler and workers: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dask = [sys.executable, "-m"]
    head = [
        *dask,
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    started = [subprocess.Popen(head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
    address = f"tcp://127.0.0.1:{port}"
    worker = [
        *dask,
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
    ]
    with tempfile.TemporaryDirectory() as folder:
        worker += ["--memory-limit", "0", "--local-directory", folder]
        started += [
            subprocess.Popen(worker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        try:
            yield address, psutil.Process(started[0].pid)
        finally:
            for process in started:
                process.kill()
                process.wait()


def stub(name: str, task: Any) -> Any:
    """A file that costs nothing, with rows and entries as large as a real one's."""
    from gdn.batch.tally import Outcome
    from gdn.cluster.denoise_files import Answer
    from gdn.report.ledger import Entry
    from gdn.trust.comparison import Comparison

    noise = {"kind": "poisson", "gain": 1.0, "offset": 0.0, "dose": 0.45, "read_noise": 0.0}
    row = {
        "input": str(task.path),
        "frame": 0,
        "output": str(task.outputs.denoised),
        "spread": str(task.outputs.spread),
        "model": "stub",
        "engine": "stub",
        "restarts": 256,
        "seed": 0,
        "noise": noise,
        "objective": -1.0,
        "seconds": 0.0,
        "explained_p": 0.5,
        "heldout_gain_db": 8.0,
        "heldout_gain_se_db": 1.0,
        "atoms": None,
        "warnings": [],
    }
    scores = [
        Comparison(
            against=other, difference=1e-3, error=1e-4, expected=1e-3, nats=100.0, nats_error=10.0
        )
        for other in ("best blur", "constant")
    ]
    return Answer(
        Outcome([row]),
        [
            Entry(
                file=str(task.path),
                frame=0,
                row=row | {"sampling_angstrom": 0.06, "dose": 0.45, "frame_shape": (850, 850)},
                noise="stub",
                expected_rms=0.1,
                scores=scores,
                missing=None,
                calibrated=True,
            )
        ],
    )


def tasks(count: int, most: int) -> None:
    """Overhead a file and memory of client and scheduler while `count` files go through a stub,
    `most` in a chunk."""
    from gdn.batch.inputs import Planned
    from gdn.batch.settings import BatchRun
    from gdn.batch.tally import Tally
    from gdn.cluster import denoise_files as denoise
    from gdn.cluster import work_sharing as flow
    from gdn.pipeline.denoise_file import FileSettings
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import outputs_for
    from gdn.report.ledger import Ledger

    me, marks = psutil.Process(), []
    begun = time.perf_counter()
    with processes(2) as (address, scheduler), tempfile.TemporaryDirectory() as folder:

        class Watching(Ledger):
            def add(self, entry: Any) -> None:
                super().add(entry)
                if self.frames in (1, count // 100, count // 10, count // 2, count):
                    marks.append(
                        (
                            self.frames,
                            me.memory_info().rss / 2**20,
                            scheduler.memory_info().rss / 2**20,
                        )
                    )

        files = [
            Planned(path, outputs_for(path, Path(folder)))
            for path in (Path(folder, f"f{n:06d}.tif") for n in range(count))
        ]
        run = BatchRun(
            models=[],
            options=Options(),
            files=FileSettings(),
            folder=Path(folder),
            overwrite=True,
            as_json=True,
        )
        with (
            mock.patch.object(denoise, "denoise_task", stub),
            mock.patch.object(flow, "MOST", most),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            begun = time.perf_counter()
            tally = Tally()
            denoise.process_on(address, files, run, Watching(), tally)
        took = time.perf_counter() - begun
    print(
        f"\n{tally.files} files through a stub, at most {most} in a chunk: "
        f"{1e3 * took / count:.2f} ms each\n"
    )
    print("| done | client MiB | scheduler MiB |")
    print("|--:|--:|--:|")
    for number, mine, its in marks:
        print(f"| {number} | {mine:.0f} | {its:.0f} |")


def efficiency(count: int) -> None:
    """Seconds a frame of the whole command: one thread alone, one worker, two workers, two threads
    alone."""
    from gdn.evaluation.demo import DEMO_NOISE, demo_frames

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        demo = demo_frames()
        for number in range(count):
            frame = demo[number % len(demo)]
            tifffile.imwrite(
                folder / "in" / f"f{number:04d}.tif", DEMO_NOISE.apply(frame.image, number)
            )
        common = [
            sys.executable,
            "-m",
            "gdn",
            "denoise",
            "in",
            "--sampling",
            f"{demo[0].sampling_angstrom:g}",
            "--no-score",
        ]
        ways = {
            "alone, one thread": ["--threads", "1"],
            "local:1, one thread": ["--cluster", "local:1", "--threads", "1"],
            "local:2, one thread each": ["--cluster", "local:2", "--threads", "1"],
            "alone, two threads": ["--threads", "2"],
        }
        took = {}
        for number, (way, more) in enumerate(ways.items()):
            begun = time.perf_counter()
            done = subprocess.run(
                [*common, *more, "-o", f"out{number}"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            took[way] = time.perf_counter() - begun
            if done.returncode:
                raise SystemExit(done.stderr)
        print(f"\n{count} frames of 850x850 px, --no-score\n")
        print("| way | s a frame | speed against one thread | efficiency a core |")
        print("|---|--:|--:|--:|")
        for way, seconds in took.items():
            gain = took["alone, one thread"] / seconds
            print(
                f"| {way} | {seconds / count:.2f} | {gain:.2f} | "
                f"{gain / (2 if 'two' in way or 'local:2' in way else 1):.0%} |"
            )


WAVE = """
import time
from gdn.simulation.dataset import structure_seed
from gdn.simulation.exit_waves import exit_wave
from gdn.simulation.structures import random_structure
some = [random_structure(structure_seed(3, i)) for i in range({count})]
exit_wave(some[0])
begun = time.process_time()
for one in some:
    exit_wave(one)
print((time.process_time() - begun) / {count})
"""


def malloc(count: int) -> None:
    """CPU seconds an exit wave under the nanny's setting, without it, and with it and gdn's own."""
    settle = "from gdn.cluster.shipment import settle_memory; settle_memory()\n"
    ways = {
        "as Dask's nanny sets it": ("65536", ""),
        "without it (local:N)": ("", ""),
        "with it, mended by gdn's worker": ("65536", settle),
    }
    print(f"\nCPU seconds an exit wave, {count} structures, one thread, three runs\n")
    print("| MALLOC_TRIM_THRESHOLD_ | s |\n|---|--:|")
    for way, (value, before) in ways.items():
        environment = {k: v for k, v in os.environ.items() if k != "MALLOC_TRIM_THRESHOLD_"} | {
            "OMP_NUM_THREADS": "1"
        }
        if value:
            environment["MALLOC_TRIM_THRESHOLD_"] = value
        script = [sys.executable, "-c", before + WAVE.format(count=count)]
        seconds = [
            float(
                subprocess.run(
                    script, env=environment, capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(3)
        ]
        print(f"| {way} | {', '.join(f'{f:.2f}' for f in sorted(seconds))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--structures", type=int, default=0)
    options = parser.parse_args()
    if options.tasks:
        tasks(options.tasks, 1)
        tasks(options.tasks, 256)
    if options.frames:
        efficiency(options.frames)
    if options.structures:
        malloc(options.structures)


if __name__ == "__main__":
    main()

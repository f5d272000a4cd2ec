"""What a cluster costs: overhead and memory of many tasks, efficiency of workers on this machine, and Dask's malloc setting.

python benchmarks/cluster.py --tasks 100000           stub tasks through scheduler and workers of their own processes
python benchmarks/cluster.py --frames 16              demo frames (test structures): one machine, one worker, two workers
python benchmarks/cluster.py --structures 6           exit waves with and without the nanny's MALLOC_TRIM_THRESHOLD_
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

import psutil
import tifffile


@contextlib.contextmanager
def processes(count: int) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler and workers: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dask = [sys.executable, "-m"]
    head = [*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    started = [subprocess.Popen(head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
    address = f"tcp://127.0.0.1:{port}"
    worker = [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    with tempfile.TemporaryDirectory() as folder:
        worker += ["--memory-limit", "0", "--local-directory", folder]
        started += [subprocess.Popen(worker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
        try:
            yield address, psutil.Process(started[0].pid)
        finally:
            for process in started:
                process.kill()
                process.wait()


def stub(number: int) -> int:
    """A task that costs nothing."""
    return number


def tasks(count: int, most: int) -> None:
    """Overhead per item and memory of client and scheduler while `count` stub items go through, `most` in a chunk."""
    from gdn.cluster.connect import connected
    from gdn.cluster.flow import Flow

    me = psutil.Process()
    with processes(2) as (address, scheduler), connected(address) as client:
        flow: Flow[int, int] = Flow(client, stub, count, most=most)
        marks, begun = [], time.perf_counter()
        for done, _ in enumerate(flow.run(iter(range(count))), 1):
            if done in (count // 100, count // 10, count // 2, count):
                marks.append((done, me.memory_info().rss / 2**20, scheduler.memory_info().rss / 2**20))
        took = time.perf_counter() - begun
        print(
            f"\n{count} stub items, at most {most} in a chunk: {1e3 * took / count:.2f} ms each, {flow.peak} chunks in flight\n"
        )
        print("| done | client MiB | scheduler MiB |")
        print("|--:|--:|--:|")
        for number, mine, its in marks:
            print(f"| {number} | {mine:.0f} | {its:.0f} |")


def efficiency(count: int) -> None:
    """Seconds a frame of the whole command: one thread alone, one worker, two workers, two threads alone."""
    from gdn.evaluation.demo import DEMO_NOISE, demo_frames

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        demo = demo_frames()
        for number in range(count):
            frame = demo[number % len(demo)]
            tifffile.imwrite(folder / "in" / f"f{number:04d}.tif", DEMO_NOISE.apply(frame.image, number))
        common = [sys.executable, "-m", "gdn", "denoise", "in", "--sampling", f"{demo[0].sampling_angstrom:g}", "--no-score"]
        ways = {
            "alone, one thread": ["--threads", "1"], "local:1, one thread": ["--cluster", "local:1", "--threads", "1"],
            "local:2, one thread each": ["--cluster", "local:2", "--threads", "1"], "alone, two threads": ["--threads", "2"],
        }  # fmt: skip
        took = {}
        for number, (way, more) in enumerate(ways.items()):
            begun = time.perf_counter()
            done = subprocess.run([*common, *more, "-o", f"out{number}"], cwd=folder, capture_output=True, text=True, check=False)
            took[way] = time.perf_counter() - begun
            if done.returncode:
                raise SystemExit(done.stderr)
        print(f"\n{count} frames of 850x850 px, --no-score\n")
        print("| way | s a frame | speed against one thread | efficiency a core |")
        print("|---|--:|--:|--:|")
        for way, seconds in took.items():
            gain = took["alone, one thread"] / seconds
            print(f"| {way} | {seconds / count:.2f} | {gain:.2f} | {gain / (2 if 'two' in way or 'local:2' in way else 1):.0%} |")


WAVE = """
import time
from gdn.training.simulation import exit_wave, structure_seed
from gdn.training.structures import random_structure
some = [random_structure(structure_seed(3, i)) for i in range({count})]
exit_wave(some[0])
begun = time.process_time()
for one in some:
    exit_wave(one)
print((time.process_time() - begun) / {count})
"""


def malloc(count: int) -> None:
    """CPU seconds an exit wave under the nanny's setting, without it, and with it and gdn's own."""
    settle = "from gdn.cluster.parcel import settle_memory; settle_memory()\n"
    ways = {
        "as Dask's nanny sets it": ("65536", ""),
        "without it (local:N)": ("", ""),
        "with it, mended by gdn's worker": ("65536", settle),
    }
    print(f"\nCPU seconds an exit wave, {count} structures, one thread, three runs\n")
    print("| MALLOC_TRIM_THRESHOLD_ | s |\n|---|--:|")
    for way, (value, before) in ways.items():
        environment = {k: v for k, v in os.environ.items() if k != "MALLOC_TRIM_THRESHOLD_"} | {"OMP_NUM_THREADS": "1"}
        if value:
            environment["MALLOC_TRIM_THRESHOLD_"] = value
        script = [sys.executable, "-c", before + WAVE.format(count=count)]
        found = [
            float(subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout) for _ in range(3)
        ]
        print(f"| {way} | {', '.join(f'{f:.2f}' for f in sorted(found))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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

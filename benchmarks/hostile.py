"""Damaged files by the thousand: valid ones, mutated at random, must be read or refused in one
line, whatever they hold.

Each case runs in a child process with bounded memory; a case that ends the child, raises anything
but a refusal, takes over 10 s or wants more memory than the bound is a fault, printed with the seed
that repeats it. Prints a table.

    python benchmarks/hostile.py --cases 10000
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from gdn.models import ModelError, load_model, sha256_of, shipped_models

SECONDS = 10.0
MEMORY_GIB = 4  # of address space, libraries and mapped files included
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)


CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus"


def corpus() -> dict[str, Path]:
    """The small valid files that are mutated, by kind; those of formats that cannot be read here
    are left out."""
    import importlib.util

    files = {path.stem: path for path in sorted(CORPUS.iterdir())}
    have = all(importlib.util.find_spec(package) for package in ("h5py", "rsciio"))
    return {
        kind: path for kind, path in files.items() if have or path.suffix not in (".emd", ".h5")
    }


def write_corpus(folder: Path) -> None:
    """Make the corpus anew."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    stack = rng.poisson(2, (2, 18, 20)).astype(np.uint16)

    def put(name: str, **options: Any) -> None:
        tifffile.imwrite(folder / f"{name}.tif", stack, **options)

    put(
        "tiff-imagej",
        imagej=True,
        resolution=(163.9, 163.9),
        metadata={"unit": "nm", "axes": "TYX"},
    )
    put(
        "tiff-ome",
        ome=True,
        photometric="minisblack",
        metadata={"axes": "TYX", "PhysicalSizeX": 0.06},
    )
    put("tiff-tiled-zlib", photometric="minisblack", tile=(16, 16), compression="zlib")
    put("tiff-big-lzw", photometric="minisblack", bigtiff=True, compression="lzw")
    import mrcfile

    with mrcfile.new(folder / "mrc.mrc", stack.astype(np.int16)) as file:
        file.voxel_size = 0.06
    np.save(folder / "npy.npy", stack)
    from PIL import Image

    Image.fromarray(stack[0].astype(np.uint8)).save(folder / "png.png")
    import h5py
    from rsciio.emd import file_writer

    axes = [
        {
            "name": n,
            "size": s,
            "scale": 0.006,
            "offset": 0.0,
            "units": "nm",
            "navigate": False,
            "index_in_array": i,
        }
        for i, (n, s) in enumerate(zip("yx", (18, 20), strict=True))
    ]
    file_writer(
        str(folder / "emd.emd"),
        {
            "data": stack[0],
            "axes": axes,
            "original_metadata": {},
            "metadata": {"General": {"title": "one"}, "Signal": {}},
        },
    )
    with h5py.File(folder / "hdf5.h5", "w") as file:
        file["counts"] = stack


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four random damages; headers are hit more often than pixels."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at = (
            int(min(rng.exponential(300), len(data) - 1))
            if rng.random() < 0.7
            else int(rng.integers(len(data)))
        )
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            size = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(EXTREMES)) & (256**size - 1)
            data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.7 else "big")
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at : at + int(rng.integers(1, 64))] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 64))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 256))]
    return bytes(data)


def one_file(path: Path) -> str:
    """'read' or 'refused'; raises for a fault."""
    try:
        source = read_frames(path)
        for number in {0, min(source.count, 1000) - 1}:
            source.read(number)
        if source.calibration.sampling_angstrom is None:
            return "read"
        source.sampling(None)
    except (FrameError, PermissionError) as error:
        if "\n" in str(error) or str(path) not in str(error):
            raise AssertionError(f"not one line that names the file: {error}") from None
        return "refused"
    return "read"


def one_model(folder: Path) -> str:
    """A model folder: loaded and its graphs opened, or refused."""
    from gdn.engines.base import EngineError
    from gdn.engines.choose import open_engine

    try:
        with open_engine(load_model(folder), threads=1) as engine:
            engine.generate(np.zeros((1, engine.model.card.latent), np.float32))
    except (ModelError, EngineError) as error:
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from None
        return "refused"
    return "read"


def damaged_model(folder: Path, rng: np.random.Generator) -> None:
    """Damage one file of a model; half of the time its hash is made to fit, so that what reads it
    must refuse it."""
    graphs = ["generator.onnx", "gradient.onnx", "encoder.onnx"]
    names = ["model.json", "model.json", *graphs, "calibration.json", "weights.safetensors"]
    name = str(rng.choice(names))
    (folder / name).write_bytes(mutate((folder / name).read_bytes(), rng))
    if name != "model.json" and rng.random() < 0.7:
        card = json.loads((folder / "model.json").read_text())
        card["files"][name] = sha256_of(folder / name)
        (folder / "model.json").write_text(json.dumps(card))


def child(kind: str, first: int, last: int, folder: Path) -> None:
    """Run cases, one JSON line each; the parent sees from the last line where a crash was."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, MEMORY_GIB << 30))
    warnings.simplefilter("ignore")
    source = None if kind == "model" else corpus()[kind]
    content = source.read_bytes() if source else b""
    for seed in range(first, last):
        rng = np.random.default_rng([seed, 0xF0])
        begun = time.process_time()  # of the processor: a busy machine is no fault
        signal.alarm(int(10 * SECONDS))  # ends the process; the parent goes on with the next seed
        try:
            if source is None:
                shutil.rmtree(folder / "m", ignore_errors=True)
                shutil.copytree(shipped_models()["pt-ceo2-64"], folder / "m")
                damaged_model(folder / "m", rng)
                result = one_model(folder / "m")
            else:
                path = folder / f"case{source.suffix}"
                path.write_bytes(mutate(content, rng))
                result = one_file(path)
        except BaseException as error:
            result = f"fault: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(json.dumps([seed, result, round(time.process_time() - begun, 3)]), flush=True)


def run(kind: str, cases: int, first: int = 0) -> tuple[dict[str, int], list[str], float]:
    """Counts of results, faults, and the slowest case's seconds."""
    counts, faults, slowest, seed = {"read": 0, "refused": 0}, [], 0.0, first
    while seed < first + cases:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                str(Path(__file__).resolve()),
                "--child",
                kind,
                str(seed),
                str(first + cases),
                folder,
            ]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as running:
                assert running.stdout is not None
                for line in running.stdout:
                    if not line.startswith("[") or not line.endswith(
                        "]\n"
                    ):  # a crashing child's last words, or a library's print
                        continue
                    seed, result, seconds = json.loads(line)
                    slowest = max(slowest, seconds)
                    if result in counts:
                        counts[result] += 1
                    else:
                        faults.append(f"{kind} seed {seed}: {result}")
                    if seconds > SECONDS:
                        faults.append(f"{kind} seed {seed}: took {seconds} s")
                    seed += 1
            if running.wait() and seed < first + cases:
                faults.append(f"{kind} seed {seed}: the process ended with {running.returncode}")
                seed += 1
    return counts, faults, slowest


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", type=int, default=10_000, help="over all kinds; a twentieth are models"
    )
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--write-corpus", action="store_true", help="make the valid files anew")
    options = parser.parse_args()
    if options.write_corpus:
        write_corpus(CORPUS)
        return 0
    kinds = list(corpus())
    plan = {kind: -(-options.cases * 95 // (100 * len(kinds))) for kind in kinds} | {
        "model": options.cases // 20
    }
    print(
        "| kind | cases | read | refused in one line | faults | slowest s "
        "|\n|---|--:|--:|--:|--:|--:|"
    )
    everything = []
    for kind, cases in plan.items():
        counts, faults, slowest = run(kind, cases, options.first)
        everything += faults
        print(
            f"| {kind} | {cases} | {counts['read']} | {counts['refused']} | {len(faults)} "
            f"| {slowest:.1f} |",
            flush=True,
        )
    print(*everything, sep="\n")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())

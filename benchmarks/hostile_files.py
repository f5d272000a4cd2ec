"""The cases of `benchmarks/hostile.py`: small valid files of every format, random damage to their
bytes, and files that are hostile by what they are: pipes, links, bombs, files that change while
they are read, names made of escape sequences."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import json
import os
import shutil
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from hostile_pieces import LARGE_PIECES

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)
CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus"
HDF5 = (".emd", ".h5", ".hspy", ".nhdf")
NEEDS = dict.fromkeys((*HDF5, ".dm3", ".dm4", ".ser"), ("h5py", "rsciio")) | {".zarr": ("zarr",)}
BOMB = 3 << 30  # bytes that a packed file unpacks to


def suffix_of(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix in (".gz", ".bz2") else path.suffix


def corpus() -> dict[str, Path]:
    """The small valid files that are mutated, by kind; those of formats that cannot be read here
    are left out."""

    def readable(path: Path) -> bool:
        needed = NEEDS.get(path.suffix, ())
        return all(importlib.util.find_spec(package) for package in needed)

    files = sorted(CORPUS.iterdir())
    return {path.name.split(".")[0]: path for path in files if readable(path)}


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


def mutated(source: Path, folder: Path, rng: np.random.Generator) -> Path:
    """A damaged copy of a file of the corpus; of what is packed, half of the time the content is
    damaged and packed again."""
    path = folder / f"case{suffix_of(source)}"
    if source.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(source, path)
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        part = parts[int(rng.integers(len(parts)))]
        part.write_bytes(mutate(part.read_bytes(), rng))
        return path
    content = source.read_bytes()
    inside = rng.random() < 0.5
    if source.suffix == ".gz" and inside:
        path.write_bytes(gzip.compress(mutate(gzip.decompress(content), rng)))
    elif source.suffix == ".bz2" and inside:
        path.write_bytes(bz2.compress(mutate(bz2.decompress(content), rng)))
    elif source.suffix in (".npz", ".ndata") and inside:
        with zipfile.ZipFile(source) as there, zipfile.ZipFile(path, "w") as made:
            for name in there.namelist():
                made.writestr(name, mutate(there.read(name), rng))
    else:
        path.write_bytes(mutate(content, rng))
    return path


# ---- files that are hostile by what they are -------------------------------------------------

Case = Callable[[Path, np.random.Generator], Path]
PLACES: dict[str, Case] = {}


def place(case: Case) -> Case:
    PLACES[case.__name__] = case
    return case


def any_of(rng: np.random.Generator) -> Path:
    """A valid file of the corpus."""
    files = [path for path in corpus().values() if path.is_file()]
    return files[int(rng.integers(len(files)))]


def any_suffix(rng: np.random.Generator) -> str:
    kinds = (".tif", ".mrc", ".npy", ".npz", ".png", ".mrc.gz", ".ndata", ".zarr", ".h5", ".emd")
    return str(rng.choice([*kinds, ".dm4", ".ser", ".nothing", ""]))


@place
def pipe(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / f"pipe{any_suffix(rng)}"
    os.mkfifo(path)
    return path


@place
def unix_socket(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / f"s{any_suffix(rng)}"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


@place
def link(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / f"link{any_suffix(rng)}"
    os.mkfifo(folder / "fifo")
    places = ("/dev/zero", "/dev/full", "/dev/random", "/dev/stdin", "/proc/self/mem", "/", "fifo")
    path.symlink_to(str(rng.choice([*places, path.name, "nowhere", "/proc/kcore", "."])))
    return path


@place
def folder_of_that_name(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / f"folder{any_suffix(rng)}"
    path.mkdir()
    for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs", "0")[: rng.integers(6)]:
        if rng.random() < 0.5:
            os.mkfifo(path / name)
        else:
            (path / name).write_bytes(rng.bytes(int(rng.integers(50))))
    return path


@place
def another_suffix(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / f"case{any_suffix(rng)}"
    source = any_of(rng)
    path.write_bytes(source.read_bytes() if rng.random() < 0.5 else mutate(b"\0" * 5000, rng))
    return path


@place
def strange_name(folder: Path, rng: np.random.Generator) -> Path:
    """Escape sequences, line ends, marks of direction, bytes that are no UTF-8, brackets, globs."""
    pieces = (
        b"\x1b]0;owned\x07",
        b"\x1b[2J",
        b"\n",
        b"\r",
        b"\xe9\xff",
        b"[red]",
        b"*",
        b"?",
        b"%s",
    )
    more = ("\u202e".encode(), "\u2028".encode(), b"\x9b31m", b"-", b"{0}", b"'", b"\\x1b", b" ")
    name = b"".join(rng.choice([*pieces, *more], 4))
    source = any_of(rng)
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + suffix_of(source).encode()))
    content = source.read_bytes()
    path.write_bytes(content if rng.random() < 0.5 else mutate(content, rng))
    return path


@place
def bomb(folder: Path, rng: np.random.Generator) -> Path:
    """A small file that unpacks to much, or promises it."""
    kind = int(rng.integers(5 + len(LARGE_PIECES)))
    if kind == 0:
        return _tiff_of_many(folder / "bomb.tif", int(rng.integers(10_000, 200_000)))
    if kind > 4:
        return LARGE_PIECES[kind - 5](folder)
    header = b"\x93NUMPY\x01\x00v\x00" + (
        f"{{'descr': '<u2', 'fortran_order': {bool(rng.integers(2))}, "
        f"'shape': ({int(rng.integers(1, 2**40))}, 64, 64), }}".ljust(117).encode()
        + b"\n"
    )
    path = folder / ("bomb.npy", "bomb.npz", "bomb.ndata", "bomb.mrc.gz")[kind - 1]
    if kind == 1:
        path.write_bytes(header)
    elif kind == 4:
        path.write_bytes(_packed_zeros())
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("data.npy", header + bytes(1 << 20))
    return path


def _tiff_of_many(path: Path, frames: int) -> Path:
    """An ImageJ file that promises many frames behind one page."""
    tifffile.imwrite(
        path,
        np.zeros((64, 64), np.uint16) + 1,
        description=(f"ImageJ=1.54f\nimages={frames}\nframes={frames}\nhyperstack=false\n"),
        metadata=None,
    )
    return path


_ZEROS: list[bytes] = []


def _packed_zeros() -> bytes:
    """BOMB bytes of zeros, packed: gzip members of 16 MiB, made once."""
    if not _ZEROS:
        member = gzip.compress(bytes(1 << 24))
        _ZEROS.append(member * (BOMB >> 24))
    return _ZEROS[0]


@place
def pixels_elsewhere(folder: Path, rng: np.random.Generator) -> Path:
    """An OME-TIFF or HDF5 file whose pixels are in another one: of a random place."""
    places = (
        "../x.tif",
        "/etc/passwd",
        "fifo.tif",
        "case.tif",
        "/dev/zero",
        "..",
        "a\0b",
        "own.tif",
    )
    target = str(rng.choice(places))
    os.mkfifo(folder / "fifo.tif")
    (folder / "own.tif").write_bytes(rng.bytes(300))
    if importlib.util.find_spec("h5py") and rng.random() < 0.5 and "\0" not in target:
        import h5py

        with h5py.File(folder / "case.h5", "w") as file:
            if rng.random() < 0.5:
                file["counts"] = h5py.ExternalLink(target, "/counts")
            else:
                file.create_dataset("counts", (20, 20), "u2", external=[(target, 0, 800)])
        return folder / "case.h5"
    number = int(rng.integers(3))
    named = f'<UUID FileName="{target}">urn:uuid:2</UUID>'
    plane = f'<TiffData FirstT="1" IFD="{number}">{named}</TiffData>'
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint16" SizeX="20" SizeY="20" SizeC="1" SizeZ="1" SizeT="2">'
        f'<Channel ID="c:0"/><TiffData FirstT="0" IFD="0"/>{plane}</Pixels></Image></OME>'
    )
    pixels = rng.poisson(2, (20, 20)).astype(np.uint16)
    tifffile.imwrite(folder / "case.ome.tif", pixels, description=text.encode(), metadata=None)
    return folder / "case.ome.tif"


@place
def values(folder: Path, rng: np.random.Generator) -> Path:
    """Valid files whose numbers are not finite, huge, tiny, or all the same."""
    data = rng.poisson(2, (2, 18, 20)).astype(rng.choice(["f2", "f4", "f8", ">f4", "i8", "u1"]))
    words = [np.nan, np.inf, -np.inf, 3e38, 1e-45, -1e30, 0, 65504, 1e300]
    with np.errstate(all="ignore"):
        hit = rng.random(data.shape) < rng.choice([0.001, 0.3, 0.95, 1.0])
        data[hit] = np.asarray(rng.choice(words)).astype(data.dtype)
    np.save(folder / "case.npy", data)
    return folder / "case.npy"


@place
def changing(folder: Path, rng: np.random.Generator) -> Path:
    """A larger file; `meanwhile` cuts it off or lets it grow while it is read."""
    kind = str(rng.choice(["case.npy", "case.mrc", "case.tif", "plain.tif"]))
    stack = rng.poisson(2, (200, 64, 64)).astype(np.int16)
    if kind == "case.npy":
        np.save(folder / kind, stack)
    elif kind == "case.mrc":
        import mrcfile

        with mrcfile.new(folder / kind, stack) as file:
            file.voxel_size = 0.6
    else:
        tifffile.imwrite(folder / kind, stack, imagej=kind == "case.tif")
    return folder / kind


@contextmanager
def meanwhile(path: Path, rng: np.random.Generator) -> Iterator[None]:
    """Cut a file off and append to it, again and again, while the block runs."""
    if not path.is_file() or path.stat().st_size < 2**20:
        yield
        return
    content, ended, pause = path.read_bytes(), threading.Event(), rng.random() * 0.004

    def change() -> None:
        while not ended.is_set():
            with path.open("rb+") as stream:
                stream.truncate(int(0.3 * len(content)))
                time.sleep(pause)
                stream.seek(0)
                stream.write(content + bytes(1000))
            time.sleep(pause)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def place_case(folder: Path, rng: np.random.Generator) -> Path:
    """One of PLACES."""
    return PLACES[str(rng.choice(list(PLACES)))](folder, rng)


# ---- frames ------------------------------------------------------------------------------------


def strange_frame(rng: np.random.Generator) -> np.ndarray:
    """A frame whose values are not those of a recording: clean, denoised before, saturated,
    smoothed, normalised, with few values, lines, steps, wrong numbers, in any combination."""
    rows, columns = (int(n) for n in rng.integers(40, 140, 2))
    y, x = np.indices((rows, columns))
    clean = 1 + rng.choice([0, 0.2, 1.0]) * np.cos(2 * np.pi * x / 13) * np.cos(2 * np.pi * y / 17)
    dose = 10.0 ** rng.uniform(-3, 6)
    frame = rng.poisson(dose * clean).astype(np.float64) if rng.random() < 0.6 else dose * clean
    for _ in range(int(rng.integers(1, 4))):
        frame = _altered(frame, rng)
    with np.errstate(all="ignore"):
        return np.asarray(frame.astype(rng.choice(["f4", "f4", "f8", "f2"])))


def _altered(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame altered in one of fourteen ways."""
    from scipy.ndimage import gaussian_filter, median_filter

    recorded = frame[np.isfinite(frame)]
    low, high = (float(recorded.min()), float(recorded.max())) if recorded.size else (0.0, 1.0)
    shape, span, most = frame.shape, high - low, max(high, 1e-300)
    hit = rng.random(shape) < rng.choice([0.001, 0.1, 0.5, 0.9])
    half = np.arange(frame.size).reshape(shape) < frame.size * rng.choice([0.1, 0.5, 0.8])
    ways: list[Callable[[], Any]] = [
        lambda: np.minimum(frame, low + span * rng.choice([0.05, 0.5, 0.9])),
        lambda: gaussian_filter(frame, float(rng.choice([0.5, 1, 4, 20]))),
        lambda: median_filter(frame, 3),
        lambda: (frame - frame.mean()) / max(float(frame.std()), 1e-300),
        lambda: frame * 10.0 ** rng.integers(-30, 30),
        lambda: frame + 10.0 ** rng.integers(-3, 12),
        lambda: np.where(hit, rng.choice([np.nan, np.inf, 0, -1, 1e30, high]), frame),
        lambda: np.where(half, rng.choice([0, high, low, np.nan]), frame),
        lambda: np.round(frame * (rng.integers(1, 5) / most)),
        lambda: high + rng.choice([0, 1e-7, 1e-3]) * rng.normal(size=shape),
        lambda: high - frame,
        lambda: np.sqrt(np.maximum(frame, 0)),
        lambda: frame + span * 10.0 ** rng.integers(-4, 2) * rng.normal(size=shape),
        lambda: np.repeat(frame[:, ::2], 2, axis=1)[:, : shape[1]],
    ]
    return np.asarray(ways[int(rng.integers(len(ways)))](), dtype=np.float64)


# ---- model folders ----------------------------------------------------------------------------


def damage_model(folder: Path, rng: np.random.Generator) -> None:
    """Damage one file of a model; mostly its hash is made to fit, so that what reads it must
    refuse it."""
    from gdn.models import sha256_of

    graphs = ["generator.onnx", "gradient.onnx", "encoder.onnx"]
    names = ["model.json", "model.json", *graphs, "calibration.json", "weights.safetensors"]
    name = str(rng.choice(names))
    kind = rng.random()
    if kind < 0.08:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        return
    if kind < 0.16:
        (folder / name).unlink()
        (folder / name).symlink_to(
            str(rng.choice(["/dev/zero", "/etc/passwd", name, "model.json"]))
        )
    elif kind < 0.3:
        card = json.loads((folder / "model.json").read_text())
        entry = str(rng.choice(list(card)))
        words: list[Any] = [
            0,
            -1,
            1e308,
            float("nan"),
            None,
            [],
            {},
            "x",
            True,
            2**70,
            "\x1b[2J",
            "../x",
        ]
        card[entry] = words[int(rng.integers(len(words)))]
        (folder / "model.json").write_text(json.dumps(card))
        return
    elif kind < 0.5 and name.endswith(".onnx"):
        _not_finite(folder / name, rng)
    else:
        (folder / name).write_bytes(mutate((folder / name).read_bytes(), rng))
    if name != "model.json" and rng.random() < 0.85:
        card = json.loads((folder / "model.json").read_text())
        card["files"][name] = (
            "0" if not (folder / name).is_file() else _hash(folder / name, sha256_of)
        )
        (folder / "model.json").write_text(json.dumps(card))


def _hash(path: Path, sha256_of: Callable[[Path], str]) -> str:
    return "0" if path.is_symlink() else sha256_of(path)


def _not_finite(path: Path, rng: np.random.Generator) -> None:
    """Put NaN or infinity into the numbers of a graph, wherever they are."""
    content = bytearray(path.read_bytes())
    value = struct.pack("<f", float(rng.choice([np.nan, np.inf, 3e38])))
    for at in rng.integers(len(content) // 4, size=int(rng.integers(1, 4000))):
        content[4 * at : 4 * at + 4] = value
    path.write_bytes(content)


def write_corpus(folder: Path) -> None:
    """Make the corpus anew, but for the files of DigitalMicrograph, Velox and HyperSpy, which
    `tests/helpers/microscope_files.py` writes."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    stack = rng.poisson(2, (2, 18, 20)).astype(np.uint16)

    def put(name: str, **options: Any) -> None:
        tifffile.imwrite(folder / f"{name}.tif", stack, **options)

    resolution = {"resolution": (163.9, 163.9)}
    put("tiff-imagej", imagej=True, metadata={"unit": "nm", "axes": "TYX"}, **resolution)
    size = {"axes": "TYX", "PhysicalSizeX": 0.06}
    put("tiff-ome", ome=True, photometric="minisblack", metadata=size)
    put("tiff-tiled-zlib", photometric="minisblack", tile=(16, 16), compression="zlib")
    put("tiff-big-lzw", photometric="minisblack", bigtiff=True, compression="lzw")
    put("tiff-motorola", photometric="minisblack", byteorder=">", predictor=True, compression=8)
    np.save(folder / "npy.npy", stack)
    from PIL import Image

    Image.fromarray(stack[0].astype(np.uint8)).save(folder / "png.png")
    np.savez_compressed(folder / "npz.npz", counts=stack)
    with zipfile.ZipFile(folder / "ndata.ndata", "w") as archive:
        stream = io.BytesIO()
        np.save(stream, stack[0])
        archive.writestr("data.npy", stream.getvalue())
        axis = {"offset": 0.0, "scale": 0.006, "units": "nm"}
        archive.writestr("metadata.json", json.dumps({"spatial_calibrations": [axis, axis]}))
    _write_mrc(folder, stack)
    (folder / "ser.ser").write_bytes(ser(stack))
    import h5py

    with h5py.File(folder / "hdf5.h5", "w") as file:
        file["counts"] = stack


def _write_mrc(folder: Path, stack: np.ndarray) -> None:
    import mrcfile

    with mrcfile.new(folder / "mrc.mrc", stack.astype(np.int16), overwrite=True) as file:
        file.voxel_size = 0.06
    content = (folder / "mrc.mrc").read_bytes()
    (folder / "mrc-gzip.mrc.gz").write_bytes(gzip.compress(content, mtime=0))
    (folder / "mrc-bzip2.mrc.bz2").write_bytes(bz2.compress(content))


def ser(stack: np.ndarray) -> bytes:
    """A series of TIA (.ser, version 0x210) of uint16 frames, 0.6 Å per pixel."""
    count, rows, columns = stack.shape
    axis = struct.pack("<iddiii", count, 0.0, 1.0, 0, 0, 0)
    start = 30 + len(axis)
    head = struct.pack("<HHHiiiiii", 0x4949, 0x197, 0x210, 0x4122, 0x4152, count, count, start, 1)
    elements = [
        struct.pack("<ddiddihii", 0.0, 6e-11, 0, 0.0, 6e-11, 0, 2, columns, rows) + frame.tobytes()
        for frame in stack
    ]
    first = start + 8 * count
    offsets = [first + sum(map(len, elements[:n])) for n in range(count)]
    tags = [first + sum(map(len, elements)) + 8 * n for n in range(count)]
    stamps = b"".join(struct.pack("<HHi", 0x4152, 0, 1_700_000_000) for _ in stack)
    return (
        head + axis + struct.pack(f"<{2 * count}i", *offsets, *tags) + b"".join(elements) + stamps
    )

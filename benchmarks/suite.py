"""The comparison on whole frames of test structures: the noise suite against every comparator.

Its tables: PSNR, SSIM and column F1 for each noise and method; gdn's lead over each comparator; how
alike the results of one frame are at different doses; the results by contrast class. Rows as JSON
lines if asked for. Test structures are those of data set seed 1 whose seed falls in the test split;
what is not on disk is simulated (about a second each). No generator and no U-Net of this program is
trained on them.

    python benchmarks/suite.py --frames 20 --rows docs/results/suite.jsonl
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from gdn.evaluation.comparators import COMPARATORS, available, unet_comparators
from gdn.evaluation.evaluate import (
    DEFAULT_AGAINST,
    CleanFrame,
    Rivals,
    evaluate_frame,
    summary,
    table,
)
from gdn.evaluation.metrics import Image, psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, SUITE, Noise, parse_suite
from gdn.models import AUTO, find_model
from gdn.pipeline.denoiser import Denoiser
from gdn.search.settings import OriginalSettings, parse_steps
from gdn.simulation.dataset import structure_seed
from gdn.simulation.exit_waves import ABTEM, exit_wave
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, Wave, read_wave, render, write_wave
from gdn.simulation.simulate import frame_optics, seed_of_path, wave_path
from gdn.simulation.structures import random_structure, split_of

Row = dict[str, Any]
UNETS = unet_comparators(Path(__file__).resolve().parent / "unets")


def waves_of(folder: Path, split: str, dataset_seed: int = 1) -> Iterator[Path]:
    """Waves of the structures of `split` that show anything, in order, without end; what is not on
    disk is simulated."""
    (folder / "waves").mkdir(parents=True, exist_ok=True)
    for index in itertools.count():
        seed = structure_seed(dataset_seed, index)
        structure = random_structure(seed) if split_of(seed) == split else None
        if structure is not None and len(structure.numbers):
            path = wave_path(folder, index, seed)
            if not path.exists():
                write_wave(
                    path, exit_wave(structure, multislice=ABTEM)
                )  # the test set's waves are abTEM's
            yield path


def stored_waves(folder: Path, split: str, count: int, dataset_seed: int = 1) -> list[Path]:
    """The first `count` of `waves_of`."""
    return list(itertools.islice(waves_of(folder, split, dataset_seed), count))


def clean_frame(path: Path, wave: Wave, view: int = 0) -> CleanFrame:
    """One view of the `wave` of `path`, in the study's units."""
    image = np.maximum(
        render(wave, frame_optics(seed_of_path(path), view), FRAME_SAMPLING, FRAME_SHAPE), 0
    )
    return CleanFrame(path.stem, view, image * np.float32(STUDY_VACUUM), FRAME_SAMPLING)


def clean_frames(folder: Path, count: int, split: str = "test") -> list[CleanFrame]:
    """The first `count` frames of `split` that show anything, in the study's units."""
    return [clean_frame(path, read_wave(path)) for path in stored_waves(folder, split, count)]


def contrast_of(wave: Wave, image: Image) -> str:
    """Contrast class of a whole frame of `wave`, by its heavy columns (benchmarks/content.py)."""
    from content import column_contrast, contrast_class

    corner = (wave.cell_angstrom - np.array(image.shape) * FRAME_SAMPLING) / 2
    places = (wave.columns[wave.weights > 150][:, ::-1] - corner) / FRAME_SAMPLING - 0.5
    inside = ((places > 20) & (places < np.array(image.shape) - 20)).all(1)
    return contrast_class(
        column_contrast(image / np.float32(STUDY_VACUUM), places[inside], FRAME_SAMPLING)
    )


def denoiser_of(model: str, restarts: int = 256, threads: int | None = 1) -> Denoiser:
    """What `gdn denoise --model MODEL` works with."""
    return Denoiser(model, restarts, threads=threads)


@dataclass(frozen=True)
class Job:
    """One frame through the whole suite, in a process of its own."""

    number: int
    frame: CleanFrame
    contrast: str
    noises: tuple[Noise, ...]
    methods: tuple[str, ...]
    model: str
    restarts: int
    original: OriginalSettings | None
    threads: int | None


def one_frame(job: Job) -> tuple[list[Row], list[Row]]:
    """Rows of the table, and how alike the results of one frame are at different doses."""
    rows: list[Row] = []
    images: dict[str, dict[str, Image]] = {}
    with denoiser_of(job.model, job.restarts, job.threads) as denoiser:
        for noise in job.noises:
            noisy = noise.apply(job.frame.image, job.number)
            recording = denoiser.for_recording(noisy, job.frame.sampling_angstrom)
            rivals = Rivals(job.methods, COMPARATORS | UNETS, job.original or OriginalSettings())
            done = evaluate_frame(job.frame, noise, recording, job.number, rivals)
            rows += [row | {"contrast": job.contrast} for row in done.rows]
            if noise.kind == "poisson":
                for method in (m for m in (*job.methods, "gdn") if m != "noisy"):
                    images.setdefault(method, {})[str(noise)] = done.images[method]
    alike = [
        {
            "frame": job.frame.file,
            "method": method,
            "pair": f"{a} - {b}",
            "psnr_db": psnr(by_noise[a], by_noise[b]),
        }
        for method, by_noise in images.items()
        for a, b in itertools.combinations(by_noise, 2)
    ]
    print(f"{job.frame.file} done", file=sys.stderr, flush=True)
    return rows, alike


def short_table(rows: list[Row]) -> str:
    """Mean PSNR and standard deviation: a line for each method, a column for each noise; each cell
    over frames."""
    by_cell = {(s["noise"], s["method"]): s for s in summary(rows)}
    noises, methods = (list(dict.fromkeys(key[i] for key in by_cell)) for i in (0, 1))
    lines = [
        f"| PSNR dB (sd), n = {next(iter(by_cell.values()))['n']} | " + " | ".join(noises) + " |",
        "|---|" + "--:|" * len(noises),
    ]
    for method in methods:
        cells = [
            f"{by_cell[n, method]['psnr_mean']:.2f} ({by_cell[n, method]['psnr_sd']:.2f})"
            for n in noises
            if (n, method) in by_cell
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lead_table(rows: list[Row]) -> str:
    """gdn minus every comparator over the same frames: mean, least, and frames on which gdn is
    behind."""
    by = {(r["noise"], r["method"], r["file"]): r["psnr_db"] for r in rows}
    noises, methods, files = (
        list(dict.fromkeys(r[key] for r in rows)) for key in ("noise", "method", "file")
    )
    lines = [
        "| gdn minus, dB: mean (least), frames behind | " + " | ".join(noises) + " |",
        "|---|" + "--:|" * len(noises),
    ]
    for method in (m for m in methods if m not in ("gdn", "noisy")):
        cells = []
        for noise in noises:
            lead = np.array([by[noise, "gdn", f] - by[noise, method, f] for f in files])
            cells.append(f"{lead.mean():+.2f} ({lead.min():+.2f}), {(lead < 0).sum()}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def alike_table(alike: list[Row]) -> str:
    """PSNR between the results of the same frame at two doses, mean (least) over frames."""
    pairs, methods = (list(dict.fromkeys(r[key] for r in alike)) for key in ("pair", "method"))
    lines = [
        f"| same frame, dB between results | {' | '.join(pairs)} |",
        "|---|" + "--:|" * len(pairs),
    ]
    for method in methods:
        groups = [
            [r["psnr_db"] for r in alike if r["method"] == method and r["pair"] == p] for p in pairs
        ]
        lines.append(
            f"| {method} | "
            + " | ".join(f"{np.mean(g):.2f} ({np.min(g):.2f})" for g in groups)
            + " |"
        )
    return "\n".join(lines)


def class_table(rows: list[Row]) -> str:
    """Mean PSNR by contrast class of the frame, and the spread between the classes."""
    classes = [
        c for c in ("black", "intermediate", "white") if any(r["contrast"] == c for r in rows)
    ]
    count = {c: len({r["file"] for r in rows if r["contrast"] == c}) for c in classes}
    lines = [
        "| noise | method | " + " | ".join(f"{c} (n = {count[c]})" for c in classes) + " | spread |"
    ]
    lines.append("|---|---|" + "--:|" * (len(classes) + 1))
    for noise, method in dict.fromkeys(
        (r["noise"], r["method"]) for r in rows if r["method"] != "noisy"
    ):
        mine = [r for r in rows if r["noise"] == noise and r["method"] == method]
        means = [
            float(np.mean([r["psnr_db"] for r in mine if r["contrast"] == c])) for c in classes
        ]
        lines.append(
            f"| {noise} | {method} | "
            + " | ".join(f"{m:.2f}" for m in means)
            + f" | {max(means) - min(means):.2f} |"
        )
    return "\n".join(lines)


def measure(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Rows of all frames, in the order of the suite, and how alike results at different doses
    are."""
    frames = clean_frames(options.data, options.frames, options.split)
    paths = stored_waves(options.data, options.split, options.frames)
    methods = tuple(
        name for name in options.against.split(",") if name == "original" or available(name)
    )
    common = (tuple(parse_suite(options.noise)), methods, options.model, options.restarts)
    steps, threads = parse_steps(options.original_steps), None if options.workers == 1 else 1
    jobs = [
        Job(n, frame, contrast_of(read_wave(path), frame.image), *common, steps, threads)
        for n, (frame, path) in enumerate(zip(frames, paths, strict=True))
    ]
    if options.workers == 1:
        results = [one_frame(job) for job in jobs]
    else:
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            results = list(pool.map(one_frame, jobs))
    order = {str(noise): n for n, noise in enumerate(parse_suite(options.noise))}
    rows = sorted((r for f in results for r in f[0]), key=lambda r: order[r["noise"]])
    return rows, [r for f in results for r in f[1]]


def show(rows: list[Row], alike: list[Row]) -> None:
    """Print every table."""
    print(
        short_table(rows),
        lead_table(rows),
        table(rows),
        alike_table(alike) if alike else "",
        class_table(rows),
        sep="\n\n",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--noise", default=SUITE)
    parser.add_argument("--model", default=AUTO)
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument("--against", default=",".join([*DEFAULT_AGAINST, *UNETS]))
    parser.add_argument(
        "--original-steps", default="10,1500,10000", help="of 'original' in --against"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes; 1: all threads on one frame"
    )
    parser.add_argument("--rows", type=Path, help="also write every row as a JSON line")
    parser.add_argument(
        "--table", type=Path, metavar="ROWS", help="only print the tables of rows written before"
    )
    parser.add_argument(
        "--record", action="store_true", help="write the means into the model's model.json"
    )
    options = parser.parse_args()
    if options.table:
        lines = [json.loads(line) for line in options.table.read_text().splitlines()]
        show([r for r in lines if "pair" not in r], [r for r in lines if "pair" in r])
        return
    rows, alike = measure(options)
    if options.record:
        card = Path(find_model(options.model).folder) / "model.json"
        content = json.loads(card.read_text())
        content["metrics"] |= {"split": options.split, "suite": list(summary(rows))}
        card.write_text(json.dumps(content, indent=1) + "\n")
    if options.rows:
        options.rows.parent.mkdir(parents=True, exist_ok=True)
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *alike]))
    show(rows, alike)


if __name__ == "__main__":
    main()

"""Simulated movies, restored: PSNR of frames and near events, and events found and invented.

    python benchmarks/movies.py data/movies --split test --make 14 --rows rows.jsonl
    python benchmarks/movies.py data/movies --split validation --frames 9 --side 400 --methods mean

`--make N` first makes what is missing of N movies of the split, their kinds in turn, each of the
next scene that has a place for it; or take those of `gdn simulate --movies`.
Each movie of the folder is restored by each method at each dose; a line of JSON for each is
appended to `--rows`, what is there is not done again, and the table is printed from it. Settings
are chosen on the validation split; `--split test` is for the final table, and `--split far` is for
the movies of `far_movies.py`, for reporting only.

The methods are in `movie_methods.py`, and how events are found in `movie_measures.py`. Movies in
which the particle turns or the focus creeps count for the PSNR alone.

`--frames N --side M` takes N frames and M x M px around the first event, or the middle.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from movie_measures import (
    HEAVY,
    LOCAL,
    WATCHED,
    Change,
    Clip,
    Row,
    event_psnr,
    frame_psnr,
    score_events,
)
from movie_methods import METHODS, OPENED, Method
from movie_tables import movie_table
from numpy.typing import NDArray

from gdn.simulation.movie_events import KINDS
from gdn.simulation.movie_files import FOLDER, MovieMaker, StoredMovie, movie_path, movies_in
from gdn.simulation.movies import DOSES, MovieSettings, draw_script
from gdn.simulation.structures import Split, random_structure, seeds_of

SEED = 0x30F1
SITE_ANGSTROM = 0.5  # columns of two states nearer than this are one site


def make_missing(folder: Path, split: Split, count: int) -> None:
    """Make what is missing of `count` movies of a split, kinds in turn."""
    seeds = seeds_of(split, np.random.default_rng([SEED, *split.encode()]))
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        maker = MovieMaker(out=folder.parent, settings=MovieSettings(kinds=(kind,)))
        for seed in seeds:
            structure = random_structure(seed)
            script = draw_script(structure, seed, 0, maker.settings)
            if len(structure.numbers) and script.course.kind == kind:
                break
        if not movie_path(folder.parent, index, seed, 0).exists():
            print(maker.make(index, seed), kind, flush=True)


def clip_of(movie: StoredMovie, dose: float, frames: int, side: int) -> Clip:
    """The part of a movie that is measured; 0 frames, or a side of 0, is all of it."""
    record = movie.record
    clean, counts = movie.truth(), movie.counts(dose)
    corners, sampling = np.array(record["corner_angstrom"]), float(record["sampling_angstrom"])
    local = [e for e in record["events"] if e["kind"] in LOCAL]
    middle = local[0]["frame"] if local else len(clean) // 2
    count = min(frames or len(clean), len(clean))
    first = int(np.clip(middle - count // 2, 0, len(clean) - count))
    shape = np.array(clean.shape[1:])
    size = np.minimum(side or shape, shape)
    centre = np.array(local[0]["place_px"]) if local else shape / 2
    low = np.clip(np.rint(centre).astype(int) - size // 2, 0, shape - size)
    part = slice(first, first + count), *map(slice, low.tolist(), (low + size).tolist())
    changes = [
        Change(frame=e["frame"] - first, place=tuple(e["place_angstrom"]), sign=e["change"])
        for e in local
        if 0 < e["frame"] - first < count
    ]
    return Clip(
        clean=clean[part],
        counts=counts[part],
        dose=dose,
        sampling=sampling,
        corners=corners[part[0]] + low * sampling,
        changes=changes,
        sites=sites_of(record),
        kind=record["kind"],
    )


def sites_of(record: Row) -> NDArray[np.float64]:
    """Places (n, 2) of heavy columns of any state, y and x in Å, those of events first."""
    events = [e["place_angstrom"] for e in record["events"] if e["kind"] in LOCAL]
    states = record["columns_of_state"]
    least = HEAVY * np.percentile([c[2] for state in states for c in state] or [0], 75)
    columns = [c[:2] for state in states for c in state if c[2] > least]
    sites = np.zeros((0, 2))
    for place in np.array(events + columns).reshape(-1, 2):
        if not len(sites) or np.hypot(*(sites - place).T).min() > SITE_ANGSTROM:
            sites = np.vstack([sites, place])
    return sites


def measure(clip: Clip, method: Method) -> Row:
    """What a row holds of one movie at one dose by one method."""
    begun = time.perf_counter()
    images, chosen = method(clip)
    return {
        "seconds": round(time.perf_counter() - begun, 2),
        "chosen": chosen,
        "shape": list(images.shape),
        "psnr": [round(v, 4) for v in frame_psnr(clip, images)],
        "event_psnr": event_psnr(clip, images),
        "detected": score_events(clip, images) if clip.kind in WATCHED else None,
    }


def rows_of(path: Path | None) -> list[Row]:
    """The rows that are there."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def measured(
    movies: list[StoredMovie], methods: dict[str, Method], options: argparse.Namespace
) -> Iterator[Row]:
    """The rows that are missing, one after the other."""
    cut = f"{options.frames}x{options.side}"
    done = {(r["movie"], r["dose"], r["method"], r["cut"]) for r in rows_of(options.rows)}
    for movie in movies:
        name = movie.path.stem
        for dose in map(float, options.doses.split(",")):
            todo = [m for m in methods if (name, dose, m, cut) not in done]
            clip = clip_of(movie, dose, options.frames, options.side) if todo else None
            for method in todo:
                assert clip is not None
                row = {"movie": name, "kind": clip.kind, "dose": dose, "method": method, "cut": cut}
                yield row | measure(clip, methods[method])


def asked() -> argparse.Namespace:
    """The options, checked; `methods` is a list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of movies, as 'gdn simulate --movies' makes it")
    parser.add_argument("--split", choices=["train", "validation", "test", "far"], required=True)
    parser.add_argument("--make", type=int, default=0, metavar="N", help="movies, where missing")
    parser.add_argument("--doses", default=",".join(map(str, DOSES)), help="electrons a pixel")
    parser.add_argument("--methods", default=",".join([*METHODS, "gdn", "gdn-movie"]))
    parser.add_argument("--model", default="auto", help="of gdn")
    parser.add_argument("--restarts", type=int, default=256, help="of gdn")
    parser.add_argument("--frames", type=int, default=0, help="of each movie; 0: all")
    parser.add_argument("--side", type=int, default=0, help="px of each frame; 0: all")
    parser.add_argument("--most", type=int, default=10_000, help="movies")
    parser.add_argument("--rows", type=Path, metavar="JSONL")
    options = parser.parse_args()
    options.methods = options.methods.split(",")
    unknown = sorted(set(options.methods) - set(METHODS) - set(OPENED))
    if unknown:
        parser.error(f"--methods {','.join(unknown)}: choose from {', '.join([*METHODS, *OPENED])}")
    if options.make and (options.split == "far" or options.folder.name != FOLDER):
        parser.error(f"--make: a folder that is called {FOLDER}, and no far movies")
    return options


def main() -> int:
    options = asked()
    if options.make:
        make_missing(options.folder, options.split, options.make)
    movies = [m for m in movies_in(options.folder) if m.record["split"] == options.split]
    rows = rows_of(options.rows)
    with ExitStack() as stack:
        methods = {
            n: METHODS[n] if n in METHODS else OPENED[n](stack, options.model, options.restarts)
            for n in options.methods
        }
        for row in measured(movies[: options.most], methods, options):
            rows.append(row)
            print(
                f"{row['movie']} {row['kind']} {row['dose']:g} {row['method']}:"
                f" {np.mean(row['psnr']):.2f} dB, {row['chosen']}, {row['seconds']:.0f} s",
                flush=True,
            )
            if options.rows:
                with options.rows.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
    cut = f"{options.frames}x{options.side}"
    print(movie_table(row for row in rows if row["cut"] == cut))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Does the judgement hold? Frames of test structures, denoised as a user would, judged, and
compared with the truth.

Tables: coverage of the intervals for each kind of content and each noise; atom columns, planted
hallucinations and vacancies; p-values of frames of the right kind and of the same frames said to be
sampled 1.3 times coarser or finer; held-out scores against the truth. Rows as JSON lines if asked
for; `--table ROWS` prints the tables of rows written before.

    python benchmarks/trust.py --frames 20 --rows docs/results/trust.jsonl \\
        --plot docs/reliability.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import far
import numpy as np
from content import kind_map
from scipy.spatial import cKDTree
from suite import denoiser_of, stored_waves
from trust_tables import show

from gdn import Denoiser
from gdn.engines.restorer import RestorerSession
from gdn.evaluation.error_samples import observe_columns, reference_columns
from gdn.evaluation.metrics import MATCH_ANGSTROM
from gdn.evaluation.noise_suite import STUDY_VACUUM, SUITE, Noise, parse_suite
from gdn.frames.resampling import bin_sum
from gdn.models import AUTO
from gdn.pipeline.budget import Budget
from gdn.pipeline.inputs import check_input
from gdn.pipeline.learning import learned_candidates
from gdn.pipeline.recording import RecordingDenoiser
from gdn.search.denoise_frame import FrameResult
from gdn.search.settings import Searcher
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, read_wave, render
from gdn.simulation.simulate import frame_optics, seed_of_path
from gdn.simulation.structures import random_structure
from gdn.trust.calibration import LEVELS, Calibration
from gdn.trust.evidence import decide_verdicts
from gdn.trust.fit import explain_counts, noise_level, tile_features
from gdn.trust.fit_law import frame_score
from gdn.trust.held_out_score import blur_counts, denoise_part, recover_recorded, score_held_out
from gdn.trust.judge import RATE, expect_error
from gdn.trust.spectrum import measure_rings
from gdn.trust.spread import spread_of

Row = dict[str, Any]
WRONG = (1.3, 1 / 1.3)


@dataclass(frozen=True)
class Setting:
    """What every frame of the benchmark shares; `side` px of the frames, cut from the middle."""

    model: str
    noises: tuple[Noise, ...]
    scored: tuple[str, ...]
    score_frames: int
    wrong: int
    side: int
    far: bool
    budget: Budget | None = None  # of learning from each frame


@dataclass(frozen=True)
class Case:
    """A clean frame, study units, of `sampling` Å/px; `columns` (n, 2), y and x in Å from its
    corner; `kinds` says what lies where on a grid of some shape and sampling."""

    name: str
    clean: np.ndarray
    sampling: float
    number: int
    columns: np.ndarray
    kinds: Callable[[tuple[int, ...], float], np.ndarray]


def of_wave(path: Path, number: int, side: int) -> Case:
    """The middle, side x side px, of the frame of a test structure."""
    wave, seed = read_wave(path), seed_of_path(path)
    image = np.maximum(render(wave, frame_optics(seed, 0), FRAME_SAMPLING, FRAME_SHAPE), 0)
    first = (FRAME_SHAPE[0] - side) // 2
    cut = slice(first, first + side)
    clean = np.ascontiguousarray(image[cut, cut]) * np.float32(STUDY_VACUUM)
    corner = (wave.cell_angstrom - np.array(clean.shape) * FRAME_SAMPLING) / 2
    kinds = partial(kind_map, random_structure(seed), corner)
    return Case(path.stem, clean, FRAME_SAMPLING, number, wave.columns[:, ::-1] - corner, kinds)


def of_far(path: Path) -> Case:
    """A frame of the far set; all of it is of one kind, its half of the set."""
    frame = far.read(path)
    record, sampling = frame["record"], frame["sampling_angstrom"]
    kind = f"far {record['group']}"
    return Case(
        record["name"],
        frame["image"],
        sampling,
        int(record["number"]),
        (frame["columns"][:, ::-1] + 0.5) * sampling,
        lambda shape, _: np.full(shape, kind),
    )


def one_structure(setting: Setting, job: tuple[int, Path]) -> list[Row]:
    """Every row of one structure."""
    number, path = job
    case = of_far(path) if setting.far else of_wave(path, number, setting.side)
    rows = []
    with denoiser_of(setting.model) as denoiser:
        for noise in setting.noises:
            noisy = noise.apply(case.clean, case.number)
            recording = denoiser.for_recording(noisy, case.sampling)
            law = recording.calibration
            assert law is not None, "not calibrated"
            with learning(denoiser, recording, noisy, case.sampling, setting.budget) as taught:
                result = taught.search(noisy, case.sampling)
            row: Row = {"structure": case.name, "noise": str(noise), "side": case.clean.shape[0]}
            if result.mixing is not None:
                row["shares"] = {name: result.mixing.share(name) for name in result.mixing.names}
            row |= (
                _coverage(case, result, law) | _fit(result, law, "p") | _columns(case, result, law)
            )
            if str(noise) in setting.scored and number < setting.score_frames:
                row["scores"] = _scores(case, noisy, result, recording)
            if number < setting.wrong:
                for factor in WRONG:
                    other = recording.search(noisy, case.sampling * factor)
                    row |= _fit(other, law, f"p at {factor:.2f}")
            rows.append(row)
    print(f"{case.name} done", file=sys.stderr, flush=True)
    return rows


@contextmanager
def learning(
    denoiser: Denoiser,
    recording: RecordingDenoiser,
    noisy: np.ndarray,
    sampling: float,
    budget: Budget | None,
) -> Iterator[RecordingDenoiser]:
    """What denoises a frame after learning from it, as `gdn denoise --adapt` does."""
    if budget is None:
        yield recording
        return
    given = check_input(noisy, sampling)
    with learned_candidates(given, denoiser.options, budget, lambda share: None) as (more, _):
        taught = replace(recording, others=[*recording.others, *more])
        yield taught.for_frame(None, 0, 1, lambda share: None)[0]


def _truth(case: Case, result: FrameResult) -> np.ndarray:
    return bin_sum(result.noise.electrons(case.clean), result.grids)


def _coverage(case: Case, result: FrameResult, law: Calibration) -> Row:
    """Pixels inside each interval, and all pixels, by kind of content; on the generator's grid."""
    estimate = result.estimate
    assert estimate is not None
    error = np.abs(estimate.image - _truth(case, result))
    widths = spread_of(estimate, law).half_widths
    kinds = case.kinds(error.shape, float(np.mean(result.grids.binned_sampling)))
    inside = {
        str(kind): [int((error <= width)[kinds == kind].sum()) for width in widths]
        + [int((kinds == kind).sum())]
        for kind in np.unique(kinds)
    }
    return {
        "levels": list(LEVELS),
        "inside": inside,
        "expected_rms": expect_error(widths[1], 1.0, law).square ** 0.5,
        "rms": float(np.sqrt((error.astype(float) ** 2).mean())),
    }


def _fit(result: FrameResult, law: Calibration, name: str) -> Row:
    estimate = result.estimate
    assert estimate is not None
    sampling, level = float(np.mean(result.grids.binned_sampling)), noise_level(estimate)
    features = tile_features(estimate, sampling)
    distances = law.fit.tiles.distances(features, np.full(len(features), level))
    odds = float(law.fit.spectrum.odds(measure_rings(estimate.binned, sampling)[None])[0])
    return {
        name: explain_counts(estimate, sampling, law.fit).p,
        f"scores of {name}": [float(frame_score(distances)[0]), odds, level],
    }


def _columns(case: Case, result: FrameResult, law: Calibration) -> Row:
    """Verdicts against the truth: of columns drawn, of planted ones, of sites, of planted
    vacancies."""
    estimate = result.estimate
    assert estimate is not None
    sampling = float(np.mean(result.grids.binned_sampling))
    rng = np.random.default_rng([case.number, 0x7B])
    truth = _truth(case, result)
    drawn, sites = observe_columns(estimate, truth, sampling, rng)
    if not drawn:
        return {"columns": None}
    row: Row = {}
    natural = law.columns.drawn.probability(drawn[0].evidence.features())
    called = decide_verdicts(natural, RATE)
    row |= _matched(
        case, result, drawn[0].columns.yx[called == "present"], estimate, truth, sampling
    )
    row["drawn"] = _tally(called, drawn[0].true)
    row["planted"] = _judged_among(
        natural, law.columns.drawn.probability(drawn[1].evidence.features())
    )
    empty = law.columns.sites.probability(sites[0].evidence.features())
    row["sites"] = _tally(decide_verdicts(empty, RATE), sites[0].true)
    row["vacancies"] = _judged_among(
        empty, law.columns.sites.probability(sites[1].evidence.features())
    )
    ratio = (
        drawn[0].evidence.doubt
        * drawn[0].columns.width
        / np.abs(drawn[0].columns.amplitude)
        * law.columns.position
    )
    off = drawn[0].distance[drawn[0].true] / np.maximum(ratio[drawn[0].true], 0.01)
    row["position_within_1_sigma_radius"] = [
        int((off < 1.515).sum()),
        len(off),
    ]  # 68.27 % of a 2-D Gaussian
    return {"columns": row}


def _matched(
    case: Case,
    result: FrameResult,
    present: np.ndarray,
    columns: Any,
    truth: np.ndarray,
    sampling: float,
) -> Row:
    """Matches of the columns called present: with the clean image's columns, and with columns of
    the structure."""
    image, clean = (
        np.asarray(part / columns.dose, dtype=np.float32) for part in (columns.image, truth)
    )
    reference = reference_columns(clean, image, sampling)
    real = case.columns - sampling / 2
    counts = {}
    for name, places in (("image", reference.yx), ("structure", real)):
        if not len(present) or not len(places):
            counts[name] = [0, len(present), len(places)]
            continue
        distance, index = cKDTree(places).query(present, distance_upper_bound=MATCH_ANGSTROM)
        counts[name] = [
            len({int(i) for d, i in zip(distance, index, strict=True) if np.isfinite(d)}),
            len(present),
            len(places),
        ]
    return {"matched": counts}


def _tally(called: np.ndarray, true: np.ndarray) -> dict[str, list[int]]:
    """For each verdict how many, and how many of them true."""
    return {
        v: [int((called == v).sum()), int(true[called == v].sum())]
        for v in ("present", "cannot tell", "absent")
    }


def _judged_among(natural: np.ndarray, planted: np.ndarray) -> dict[str, int]:
    """Verdicts of planted columns, each judged beside all the natural ones."""
    called = [str(decide_verdicts(np.append(natural, p), RATE)[-1]) for p in planted]
    return {v: called.count(v) for v in ("present", "cannot tell", "absent")}


def _scores(
    case: Case, noisy: np.ndarray, result: FrameResult, recording: RecordingDenoiser
) -> list[Row]:
    """The held-out comparisons, and the true differences of the same images."""
    estimate, law, engine, bank = (
        result.estimate,
        recording.calibration,
        recording.engine,
        recording.bank,
    )
    assert estimate is not None
    assert law is not None
    assert bank is not None
    assert not isinstance(engine, RestorerSession)
    own = expect_error(spread_of(estimate, law).of_one_deviation, estimate.dose, law)
    truth = _truth(case, result)
    halves = denoise_part(
        estimate,
        lambda: recover_recorded(noisy, result),
        case.number,
        Searcher(engine=engine, bank=bank, others=recording.others),
    )
    scores, mine = score_held_out(halves, own), halves.mine
    whole = halves.parts.first / np.float32(halves.parts.share)
    rows = []
    for c in scores:
        other = blur_counts(whole, c.width)
        error, its = (
            float(((image - truth) ** 2).mean(dtype=float)) / float(mine.mean()) ** 2
            for image in (mine, other)
        )
        rows.append(
            {
                "against": c.against,
                "difference": c.difference,
                "error": c.error,
                "own": c.own,
                "verdict": c.verdict,
                "expected": c.expected,
                "measured": c.measured,
                "measured_error": c.measured_error,
                "gain_db": c.gain_db,
                "gain_error_db": c.gain_error_db,
                "true": its - error,
                "true_own": error,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--noise", default=SUITE)
    parser.add_argument(
        "--scored",
        default="poisson:10,poisson:1",
        help="noises at which held-out scores are checked",
    )
    parser.add_argument("--score-frames", type=int, default=60, help="frames on which they are")
    parser.add_argument(
        "--wrong", type=int, default=20, help="frames that are also denoised with a wrong sampling"
    )
    parser.add_argument("--model", default=AUTO)
    parser.add_argument("--side", type=int, default=850, help="px of the frames")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    parser.add_argument(
        "--far",
        type=Path,
        help="folder of far.py: its frames instead of test structures, for reporting only",
    )
    parser.add_argument(
        "--every", type=int, default=1, help="only every so many frames: 3 is every third"
    )
    parser.add_argument(
        "--adapt-steps", metavar="N,M", help="learn from each frame first, as gdn denoise does"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="also write every row as a JSON line")
    parser.add_argument(
        "--table", type=Path, metavar="ROWS", help="only print the tables of rows written before"
    )
    parser.add_argument("--plot", type=Path, help="reliability plot (PNG)")
    options = parser.parse_args()
    if options.table:
        rows = [json.loads(line) for line in options.table.read_text().splitlines()]
    else:
        tuned, anew = map(int, (options.adapt_steps or "0,0").split(","))
        setting = Setting(
            options.model,
            tuple(parse_suite(options.noise)),
            tuple(options.scored.split(",")),
            options.score_frames,
            options.wrong,
            options.side,
            options.far is not None,
            None if options.adapt_steps is None else Budget(steps=tuned, anew=anew),
        )
        paths = (
            stored_waves(options.data, options.split, options.frames)
            if options.far is None
            else sorted(options.far.glob("*.npz"))
        )
        jobs = list(enumerate(paths[:: options.every]))
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            rows = [
                row
                for found_rows in pool.map(partial(one_structure, setting), jobs)
                for row in found_rows
            ]
        if options.rows:
            options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    show(rows, options.plot)


if __name__ == "__main__":
    main()

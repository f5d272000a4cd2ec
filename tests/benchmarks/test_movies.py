"""How restored movies are measured, on movies of our own drawing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gdn.simulation.imaging import read_wave
from gdn.simulation.movie_files import MovieMaker
from gdn.simulation.movies import MovieSettings, draw_script
from gdn.simulation.structures import random_structure
from tests.helpers.needs import needs_training
from tests.helpers.scripts import run_script

pytestmark = needs_training

SAMPLING, SIDE, FRAMES = 0.1, 160, 12


def drawn_clip():
    """Dark columns on a square lattice; one vanishes at frame 6; a drift of two pixels a frame."""
    from movie_measures import Change, Clip

    corners = np.arange(FRAMES)[:, None] * [0.2, 0.0] + 10
    line = np.arange(8, 34, 3.0)
    sites = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    event = Change(frame=6, place=(20.0, 17.0), sign=-1)
    clean = np.ones((FRAMES, SIDE, SIDE), np.float32)
    at = np.arange(SIDE) * SAMPLING + SAMPLING / 2
    for frame, (top, left) in enumerate(corners):
        for y, x in sites:
            if frame < event.frame or (y, x) != event.place:
                rows, columns = (np.exp(-((at + c - v) ** 2)) for c, v in ((top, y), (left, x)))
                clean[frame] -= 0.3 * np.outer(rows, columns).astype(np.float32)
    counts = np.random.default_rng(0).poisson(4.5 * clean).astype(np.float32)
    return Clip(
        clean=clean,
        counts=counts,
        dose=4.5,
        sampling=SAMPLING,
        corners=corners,
        changes=[event],
        sites=sites,
        kind="vanish",
    )


def test_a_column_that_vanishes_is_found_at_its_frame_in_the_truth() -> None:
    from movie_measures import event_psnr, score_events

    clip = drawn_clip()
    score = score_events(clip, clip.clean)
    assert (score["found"], score["lags"], score["invented"]) == (1, [0], 0)
    assert (score["told_found"], score["told_invented"]) == (1, 0)
    late = np.concatenate([clip.clean[:6], clip.clean[5:-1]])  # it drifts, too: steps everywhere
    near = event_psnr(clip, late)
    assert near["before"][0] > near["after"][0] + 50


def test_columns_that_flicker_are_invented_events() -> None:
    from movie_measures import score_events

    clip = drawn_clip()
    images = clip.clean.copy()
    centre = np.rint(clip.pixels(np.array([[17.0, 20.0]]), 8)[0]).astype(int)
    low, high = centre - 8, centre + 9
    images[8:, low[0] : high[0], low[1] : high[1]] = 1
    score = score_events(clip, images)
    assert score["invented"] >= 1
    assert score["told_invented"] == 0  # the counts show that the column is there
    assert score_events(replace(clip, changes=[]), clip.clean)["invented"] == 1  # the true one


def test_of_few_electrons_no_event_is_told() -> None:
    from movie_measures import score_events

    clip = drawn_clip()
    dose = 0.02
    counts = np.random.default_rng(1).poisson(dose * clip.clean).astype(np.float32)
    faint = replace(clip, counts=counts, dose=dose)
    score = score_events(faint, clip.clean)
    assert (score["found"], score["told_found"], score["told_invented"]) == (1, 0, 0)


def test_a_window_s_mean_is_moved_by_the_true_drift() -> None:
    from movie_methods import window_mean

    clip = drawn_clip()
    static = replace(clip, counts=clip.clean * np.float32(clip.dose))
    image, frames = window_mean(static, 3, 5)
    assert frames == 5
    np.testing.assert_allclose(image, clip.clean[3], atol=1e-5)
    noisy, _ = window_mean(clip, 3, 5)
    alone, _ = window_mean(clip, 3, 1)
    gain = np.std(alone - clip.clean[3]) / np.std(noisy - clip.clean[3])
    assert gain == pytest.approx(np.sqrt(5), rel=0.05)


def test_the_blur_of_a_window_finds_what_a_frame_alone_does_not_show() -> None:
    from movie_measures import frame_psnr
    from movie_methods import METHODS
    from movie_tables import movie_table
    from movies import measure

    clip = drawn_clip()
    rows = []
    for name in ("truth", "constant", "mean", "blur"):
        method = METHODS[name]
        rows.append({"movie": "a", "dose": 4.5, "method": name} | measure(clip, method))
    found = {row["method"]: row for row in rows}
    assert np.mean(found["blur"]["psnr"]) > np.mean(frame_psnr(clip, clip.counts / 4.5)) + 10
    assert found["blur"]["detected"]["found"] == 1
    table = movie_table(rows)
    assert "| 4.5 | blur | 1 | 12 |" in table
    assert "1 of 1" in table


@pytest.mark.benchmark
def test_the_script_prints_its_table_and_does_nothing_twice(
    tmp_path: Path, demo_wave: Path
) -> None:
    settings = MovieSettings(frames=4, side=96, kinds=("static",), drift_angstrom=0.2)
    script = draw_script(random_structure(11), 11, 0, settings)
    MovieMaker(out=tmp_path, settings=settings).write(script, [read_wave(demo_wave)], 0)
    asked: list[str | Path] = [tmp_path / "movies", "--rows", tmp_path / "rows"]
    asked += ["--split", "validation", "--doses", "0.45", "--methods", "truth,mean,blur"]
    asked += ["--frames", "3", "--side", "64"]
    said = run_script("movies", *asked)
    assert "| 0.45 | blur | 1 | 3 |" in said
    before = (tmp_path / "rows").read_text()
    assert len(before.splitlines()) == 3
    assert said.splitlines()[-4:] == run_script("movies", *asked).splitlines()[-4:]
    assert (tmp_path / "rows").read_text() == before


def test_a_far_movie_loses_one_column_and_drifts_with_its_record() -> None:
    pytest.importorskip("ase")
    pytest.importorskip("abtem")
    from far import FRAMES as FAR
    from far_movies import make
    from movie_measures import Change, Clip, score_events
    from movies import sites_of

    frame = next(f for f in FAR if f.name == "ti-hcp")
    clean, record = make(replace(frame, sampling_angstrom=0.2, shape=(150, 140)), 3, 9)
    assert clean.shape == (9, 150, 140)
    (event,) = record["events"]
    clip = Clip(
        clean=clean,
        counts=clean,
        dose=1.0,
        sampling=0.2,
        corners=np.array(record["corner_angstrom"]),
        changes=[Change(frame=event["frame"], place=tuple(event["place_angstrom"]), sign=-1)],
        sites=sites_of(record),
        kind="vanish",
    )
    score = score_events(clip, clean)
    assert (score["found"], score["lags"], score["invented"]) == (1, [0], 0)

"""Movies: drift that is exact, events that are local, and files that hold the truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gdn.frames.formats import read_frames
from gdn.simulation.imaging import FRAME_SAMPLING, read_wave
from gdn.simulation.movie_events import Kind, Scene, draw_course
from gdn.simulation.movie_files import MovieMaker, movies_in, read_movie
from gdn.simulation.movies import (
    MovieScript,
    MovieSettings,
    counts_of,
    draw_script,
    drift_path,
    render_clean_frame,
    room_of,
)
from gdn.simulation.structures import Structure, random_structure
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import needs_training

REACH = np.array([20.0, 20.0])


@cache
def scene_with(kind: Kind) -> tuple[int, Scene]:
    """The first seed whose scene has a place for a kind of event."""
    for seed in range(200):
        scene = Scene(random_structure(seed), 12, REACH)
        course = draw_course(scene, kind, np.random.default_rng(seed))
        if course is not None:
            return seed, scene
    raise AssertionError(kind)


def course_with(kind: Kind):
    seed, scene = scene_with(kind)
    course = draw_course(scene, kind, np.random.default_rng(seed))
    assert course is not None
    assert course.state_of_frame[0] == 0
    assert course.state_of_frame[-1] == len(course.states) - 1
    return course


def script_of(path: np.ndarray, side: int = 96) -> MovieScript:
    settings = MovieSettings(frames=len(path), side=side, kinds=("static",))
    return replace(draw_script(random_structure(1), 1, 0, settings), path=path)


def atoms_of(structure: Structure) -> set[tuple[float, ...]]:
    return set(map(tuple, structure.positions))


# Events.


@pytest.mark.parametrize("kind", ["vanish", "appear"])
def test_one_column_at_the_surface_comes_or_goes(kind: Kind) -> None:
    course = course_with(kind)
    first, last = map(atoms_of, course.states)
    more, fewer = (first, last) if kind == "vanish" else (last, first)
    assert fewer < more
    column = np.array(sorted(more - fewer))
    (event,) = course.events
    assert event.size == len(column) >= 4
    assert event.change == (-1 if kind == "vanish" else 1)
    np.testing.assert_allclose(column[:, 1::-1].mean(0), event.place)
    assert np.ptp(column[:, :2], axis=0).max() < 4  # a tilted column is no point
    assert (np.abs(np.array(event.place) - 32) < REACH).all()
    assert course.state_of_frame[event.frame - 1] == 0
    assert course.state_of_frame[event.frame] == 1


def test_a_hop_moves_one_column_to_an_empty_site_next_to_it() -> None:
    course = course_with("hop")
    before, after = course.states
    moved = after.positions - before.positions
    hopped = np.abs(moved).max(1) > 0
    vectors = moved[hopped]
    np.testing.assert_allclose(vectors, vectors[:1].repeat(len(vectors), 0), atol=1e-9)
    assert 1.8 < np.hypot(*vectors[0, :2]) < 3.1
    left, reached = course.events
    assert (left.change, reached.change) == (-1, 1)
    np.testing.assert_allclose(np.subtract(reached.place, left.place), vectors[0, 1::-1])
    others = after.positions[~hopped]
    for atom in after.positions[hopped]:
        assert np.linalg.norm(others - atom, axis=1).min() > 1.5


def test_a_layer_grows_by_one_column_after_the_other() -> None:
    course = course_with("layer")
    counts = [len(s.numbers) for s in course.states]
    assert len(course.events) == len(course.states) - 1 >= 3
    np.testing.assert_array_equal(np.diff(counts), [e.size for e in course.events])
    places = np.array([e.place for e in course.events])
    assert np.hypot(*np.diff(places, axis=0).T).max() < 3.2
    assert [e.frame for e in course.events] == sorted({e.frame for e in course.events})


def test_a_particle_turns_by_up_to_a_degree_and_the_support_stays() -> None:
    course = course_with("rotate")
    first, last = course.states[0], course.states[-1]
    moved = np.hypot(*(last.positions - first.positions)[:, :2].T)
    assert moved[first.numbers != 78].max(initial=0) == 0
    assert 0.4 <= abs(sum(e.size for e in course.events)) <= 1
    assert 0 < moved.max() < 0.6


def test_scenes_without_a_particle_have_no_events_of_columns() -> None:
    seed = next(s for s in range(200) if 78 not in random_structure(s).numbers)
    settings = MovieSettings(frames=8, kinds=("vanish", "hop", "layer", "rotate"))
    course = draw_script(random_structure(seed), seed, 0, settings).course
    assert (course.kind, course.events) == ("static", [])


def test_the_focus_creeps_steadily() -> None:
    course = course_with("defocus")
    steps = np.diff(course.defocus_nm)
    np.testing.assert_allclose(steps, steps[0])
    assert 2 <= abs(course.defocus_nm[-1]) <= 6


# Drift.


@pytest.mark.parametrize("drift", ["walk", "jumps", "linear"])
@pytest.mark.parametrize("rms", [0.0, 0.1, 3.0])
def test_paths_stay_where_there_is_real_scene(drift, rms: float, rng: np.random.Generator) -> None:
    room = room_of(850)
    path = drift_path(drift, 40, rms, room, rng)
    assert path.shape == (40, 2)
    assert np.abs(path).max() <= room + 1e-9
    made = np.sqrt((np.diff(path, axis=0) ** 2).sum(1).mean())
    assert made <= 1.4 * rms
    if rms == 0.1:
        assert made > 0.05


def test_a_movie_is_a_function_of_its_seed() -> None:
    structure = random_structure(5)
    one, two = (draw_script(structure, 5, 0, MovieSettings()) for _ in range(2))
    other = draw_script(structure, 5, 1, MovieSettings())
    assert 20 <= one.frames <= 40
    assert one.optics == two.optics != other.optics
    np.testing.assert_array_equal(one.path, two.path)
    assert one.course.events == two.course.events


def test_drift_is_exact_below_the_pixel(demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    shift = np.array([3.0, -2.0]) * FRAME_SAMPLING
    script = script_of(np.array([[0.0, 0.0], shift, shift / 2]))
    first, moved, half = (render_clean_frame(script, [wave], f) for f in range(3))
    np.testing.assert_allclose(moved[3:, :-2], first[:-3, 2:], atol=1e-5)
    twice = script_of(np.array([shift / 2, shift]))
    np.testing.assert_allclose(render_clean_frame(twice, [wave], 0), half, atol=1e-6)
    place = np.array([[31.0, 32.5]])
    np.testing.assert_allclose(script.pixels(place, 1) - script.pixels(place, 0), [[3, -2]])


# Files.


def test_files_hold_frames_counts_and_the_truth(tmp_path: Path, demo_wave: Path) -> None:
    wave = read_wave(demo_wave)
    settings = MovieSettings(frames=3, side=64, kinds=("static",), drift_angstrom=0.5)
    script = draw_script(random_structure(11), 11, 0, settings)
    maker = MovieMaker(out=tmp_path, settings=settings)
    path = maker.write(script, [wave], 7)
    assert path.name == "validation_000007_11.json"
    (movie,) = movies_in(path.parent)
    truth, counts = movie.truth(), movie.counts(0.45)
    np.testing.assert_array_equal(truth[2], render_clean_frame(script, [wave], 2))
    np.testing.assert_array_equal(counts[1], counts_of(truth[1], 0.45, 11, 0, 1))
    assert counts.mean() == pytest.approx(0.45 * truth.mean(), rel=0.05)
    record = movie.record
    assert (record["split"], record["frames"], record["shape"]) == ("validation", 3, [64, 64])
    np.testing.assert_allclose(record["drift_angstrom"], script.path - script.path[0], atol=1e-5)
    np.testing.assert_allclose(record["corner_angstrom"][2], script.corner(2), atol=1e-5)
    opened = read_frames(path.with_name(f"{path.stem}_poisson4.5.tif"))
    assert opened.dtype == np.uint8
    assert opened.calibration.sampling_angstrom == pytest.approx(FRAME_SAMPLING)
    before = counts
    maker.write(script, [wave], 7)
    np.testing.assert_array_equal(read_movie(path).counts(0.45), before)


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("", "[]", '{"schema": 2}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="not the record of a movie"):
            read_movie(path)


@needs_training
@pytest.mark.parametrize(
    ("more", "words"),
    [(("--movie-side", "1000"), "980 px"), (("--movie-frames", "1"), "at least 2")],
)
def test_movies_that_cannot_be_are_refused(tmp_path: Path, more, words: str) -> None:
    done = gdn("simulate", tmp_path / "d", "--count", "1", "--seed", "1", "--movies", "1", *more)
    one_line(done, 2, words)


@needs_training
@pytest.mark.slow
def test_simulate_adds_movies_and_keeps_those_there_are(tmp_path: Path) -> None:
    asked = ("--count", "1", "--seed", "3", "--movie-frames", "2", "--movie-side", "64")
    assert gdn("simulate", tmp_path, *asked, "--movies", "1").returncode == 0
    (path,) = (tmp_path / "movies").glob("*.json")
    before = path.stat().st_mtime_ns
    said = gdn("simulate", tmp_path, *asked, "--movies", "2")
    assert "2 movies" in said.stdout
    assert path.stat().st_mtime_ns == before
    assert len(list(movies_in(tmp_path / "movies"))) == 2

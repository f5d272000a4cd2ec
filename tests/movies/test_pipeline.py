"""`--movie`, `Denoiser(movie=...)`: what comes of a stack whose frames show one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile

import gdn
from gdn.frames.resampling import Grids
from gdn.likelihood import Array
from gdn.pipeline.denoise_file import FileSettings
from gdn.pipeline.movie import Movie, drift_of, open_movie
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.search.collaborative import CollaborativeCandidate
from tests.helpers.commands import FAST, one_line
from tests.helpers.commands import gdn as command
from tests.helpers.movies import counted, crystal, expected, movie_of

PIXEL, SIDE, DOSE = 0.2, 130, 2.0
PATH = np.array([[0.0, 0.0], [0.5, -0.3], [0.9, -0.1], [0.4, 0.2], [0.1, 0.6]])  # Å
MODELS: dict[str, Any] = {"model": "pt-ceo2-64,restore", "restarts": 4, "threads": 1}
SMALL: dict[str, Any] = {"model": "pt-ceo2-64", "restarts": 4, "threads": 1, "score": False}


def truth_of(seed: int) -> list[Array]:
    places = crystal(seed, 20)
    return [DOSE * expected(places, SIDE, PIXEL, tuple(at), 0.4) for at in PATH]


def film(seed: int = 3) -> Array:
    return np.stack([counted(image, 1.0, seed, i) for i, image in enumerate(truth_of(seed))])


def errors(images: Array, truth: list[Array]) -> Array:
    return np.asarray(np.square(images - np.stack(truth)).mean((1, 2)))


def recording_of(**options: Any) -> RecordingDenoiser:
    """One whose engine is never asked."""
    return RecordingDenoiser(engine=cast(Any, object()), bank=None, options=Options(**options))


def unread(index: int) -> Array:
    raise AssertionError(f"frame {index} was read")


@pytest.mark.parametrize(
    ("movie", "count", "more"),
    [("off", 9, {}), ("on", 2, {}), ("auto", 1, {}), ("auto", 9, {"method": "original"})],
)
def test_there_is_no_movie(movie: str, count: int, more: dict[str, str]) -> None:
    """None is wanted, of two frames there is none, and the original method mixes nothing."""
    assert open_movie(recording_of(movie=movie, **more), unread, count, PIXEL) is None


def test_frames_that_say_nothing_of_each_other_are_denoised_as_without_a_movie() -> None:
    frames = movie_of(list(film()), PIXEL)
    recording = recording_of(movie="auto")
    movie = Movie(
        recording=recording,
        frames=frames,
        drift_angstrom=np.zeros((5, 2)),
        blocks=[],
        used=False,
        gain_nats=-3.25,
    )
    assert movie.for_frame(2) is recording
    record = movie.record()
    assert json.loads(json.dumps(record)) == record
    assert record["used"] is False
    assert record["gain_nats"] == -3.25
    assert record["blocks"] == []


def test_a_frame_of_a_movie_has_more_candidates_and_draws_of_its_own() -> None:
    stack = list(film())
    stack[1] = np.zeros_like(stack[1])
    movie = Movie(
        recording=recording_of(movie="on"),
        frames=movie_of(stack, PIXEL),
        drift_angstrom=PATH,
        blocks=[],
        used=True,
        gain_nats=9,
    )
    own = movie.for_frame(2)
    assert own.stream == 2
    assert [other.name for other in own.others] == ["5 frames"]
    assert movie.for_frame(1).others == ()  # of a blanked frame there is nothing to say


@pytest.mark.slow
def test_drift_is_found_in_angstrom_with_a_filter_too() -> None:
    frames = movie_of(list(film()), PIXEL)
    found = drift_of(frames, CollaborativeCandidate())
    wrong = found - PATH
    assert np.abs(wrong - wrong.mean(0)).max() < 0.12
    # On another grid it is the same: places are those of the recorded frames.
    assert frames.grids == Grids((SIDE, SIDE), (SIDE, SIDE), PIXEL)
    coarser = movie_of(list(film()), PIXEL, 0.4)
    np.testing.assert_array_equal(drift_of(coarser, CollaborativeCandidate()), found)


def test_an_unknown_word_is_bad_usage(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", film().astype(np.uint8))
    result = command("denoise", tmp_path / "m.tif", "--movie", "nonsense", "--sampling", PIXEL)
    one_line(result, 2, "--movie", "nonsense", "off or auto or on")
    assert not list(tmp_path.glob("*denoised*"))
    with pytest.raises(gdn.InputError, match="movie nonsense"):
        gdn.Denoiser(movie="nonsense")


@pytest.mark.parametrize("more", [{"method": "original"}, {"model": "restore"}])
def test_what_mixes_nothing_makes_no_use_of_a_movie(more: dict[str, str]) -> None:
    with pytest.raises(gdn.InputError, match="movie on"):
        gdn.Denoiser(movie="on", **cast(Any, more))


@pytest.mark.slow
def test_results_of_other_movies_settings_are_not_taken_for_done(tmp_path: Path) -> None:
    keys = set()
    for movie in ("off", "auto", "on"):
        with gdn.Denoiser(movie=movie, **SMALL) as denoiser:
            recording = denoiser.for_recording(film()[0], PIXEL)
            keys.add(FileSettings().key(tmp_path / "m.tif", "content", recording))
    assert len(keys) == 3


@pytest.mark.slow
def test_frames_of_one_object_help_each_other(tmp_path: Path) -> None:
    stack, results = film(), {}
    for movie in ("off", "on"):
        with gdn.Denoiser(movie=movie, **MODELS) as denoiser:
            results[movie] = denoiser.denoise(stack, PIXEL)
    alone, together = (errors(results[movie].image, truth_of(3)) for movie in ("off", "on"))
    assert (together < alone).all()
    assert together.mean() < 0.8 * alone.mean()
    assert "movie" not in results["off"].header
    record = results["on"].header["movie"]
    assert record["used"]
    assert record["gain_nats"] > 0
    assert record["blocks"] == [{"first": 0, "last": 4, "changes": []}]
    wrong = np.array(record["drift_angstrom"]) - PATH
    assert np.abs(wrong - wrong.mean(0)).max() < 0.15
    # The file says the same, and the mixture of every frame says who had which share.
    results["on"].save(tmp_path / "m.tif")
    written = json.loads((tmp_path / "m_gdn.json").read_text())
    assert written["movie"] == record
    assert {"5 frames", "movie"} <= set(written["frames"][2]["mixture"]["shares"])
    gains = [np.mean(cast(Any, results[movie].held_out_gain_db)) for movie in ("off", "on")]
    assert gains[1] > gains[0]
    # Where the sum of all knows nothing, at the edges, its image has no value: no fault of its own.
    warnings = [words for one in results["on"].frames for words in one.warnings]
    assert not any("must return an image in electrons" in words for words in warnings)
    # That other frames draw an image is no fault of the generator's.
    for frame in results["on"].frames:
        record = cast(Any, frame.record)
        shares = record["mixture"]["shares"]
        known = sum(shares[name] for name in ("generator", "5 frames", "5 neighbours", "movie"))
        said = any("explains little" in words for words in frame.warnings)
        assert said == (known < 0.5 or record["residual_share"] > 0.5)


@pytest.mark.slow
def test_frames_of_different_objects_are_found_to_be_such(rng: np.random.Generator) -> None:
    """auto: then the images are those of off, to the bit."""
    stack = np.stack(
        [
            counted(DOSE * expected(rng.uniform(-15, 15, (120, 2)), SIDE, PIXEL, (0, 0)), 1.0, i)
            for i in range(3)
        ]
    )
    images = {}
    for movie in ("off", "auto"):
        with gdn.Denoiser(movie=movie, **SMALL) as denoiser:
            result = denoiser.denoise(stack, PIXEL)
            images[movie] = result.image
    assert result.header["movie"]["used"] is False
    assert result.header["movie"]["gain_nats"] <= 0
    np.testing.assert_array_equal(images["auto"], images["off"])


@pytest.mark.slow
def test_a_blanked_frame_of_a_movie_costs_the_others_nothing(tmp_path: Path) -> None:
    stack = film().astype(np.uint8)
    stack[1] = 0
    tifffile.imwrite(tmp_path / "m.tif", stack)
    named = ("--model", "pt-ceo2-64", "--no-score", "--movie", "on", "--sampling", PIXEL)
    done = command("denoise", tmp_path / "m.tif", "-o", tmp_path, *named, *FAST)
    assert "m.tif" in done.stdout, done.stderr
    images = tifffile.imread(tmp_path / "m_denoised.tif")
    assert images[1].std() == 0
    record = json.loads((tmp_path / "m_gdn.json").read_text())
    assert record["search"]["movie"] == "on"
    (block,) = record["movie"]["blocks"]
    assert (block["first"], block["last"]) == (0, 4)
    assert len(record["movie"]["drift_angstrom"]) == 5
    truth = truth_of(3)
    for index in (0, 2, 3, 4):
        assert np.square(images[index] - truth[index]).mean() < 0.7 * truth[index].var()


@pytest.mark.slow
def test_the_aligned_sum_needs_no_restorer(tmp_path: Path) -> None:
    """The collaborative filter makes the references, as it does for each frame of a movie."""
    tifffile.imwrite(tmp_path / "m.tif", film().astype(np.uint8))
    named = ("--model", "pt-ceo2-64", "--no-score", "--sum", "--movie", "on", "--sampling", PIXEL)
    done = command("denoise", tmp_path / "m.tif", "-o", tmp_path, *named, *FAST)
    assert "m.tif" in done.stdout, done.stderr
    image = tifffile.imread(tmp_path / "m_denoised.tif")
    # The edges that some frames did not see are left out: their moves are known to a pixel.
    inner = (slice(10, -10), slice(10, -10))
    sums = [len(PATH) * truth[inner] for truth in truth_of(3)]
    assert min(np.square(image[inner] - s).mean() for s in sums) < 0.7 * sums[0].var()

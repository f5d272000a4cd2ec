"""gdn from Python: `gdn.read`, `gdn.denoise`, `gdn.Denoiser` and what they give back."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import gdn
from tests.helpers.commands import gdn as command
from tests.helpers.commands import unwrapped
from tests.helpers.frames import noisy_frame

SMALL: dict[str, Any] = {"model": "pt-ceo2-64", "restarts": 4, "threads": 1, "score": False}
SAMPLING = 0.1
TIMES = {"seconds", "stages", "input", "output", "spread"}


@pytest.fixture(scope="module")
def denoiser() -> Iterator[gdn.Denoiser]:
    with gdn.Denoiser(**SMALL) as opened:
        yield opened


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return noisy_frame((100, 110))


def timeless(frame_record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in frame_record.items() if name not in TIMES}


def test_import_brings_nothing_heavy() -> None:
    code = """
import sys, gdn
heavy = {"torch", "onnxruntime", "numpy", "scipy", "tifffile", "typer"} & set(sys.modules)
assert not heavy, heavy
assert {"Denoiser", "denoise", "read", "GdnError"} <= set(dir(gdn))
gdn.Denoiser
assert not {"torch", "matplotlib"} & set(sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_there_and_no_other() -> None:
    for name in gdn.__all__:
        assert getattr(gdn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Denoisr'"):
        gdn.Denoisr  # noqa: B018


def test_an_image_is_denoised_as_the_command_does_it(frame: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", frame)
    options = (
        "--model",
        "pt-ceo2-64",
        "--restarts",
        "4",
        "--threads",
        "1",
        "--sampling",
        str(SAMPLING),
        "--seed",
        "3",
    )
    asked = ("--atoms", "--intervals", "50,90", "-o", tmp_path / "out")
    assert command("denoise", tmp_path / "f.tif", *options, *asked).returncode == 0
    result = gdn.denoise(
        frame, SAMPLING, **(SMALL | {"score": True, "seed": 3}), atoms=True, intervals=(50, 90)
    )
    written = result.save(tmp_path / "api" / "f.tif")
    assert [p.name for p in written] == [
        "f_denoised.tif",
        "f_spread.tif",
        "f_interval50.tif",
        "f_interval90.tif",
        "f_gdn.json",
        "f_atoms.csv",
        "f_atoms.png",
    ]
    for path in written:
        if path.suffix == ".json":
            continue
        mine, theirs = path, tmp_path / "out" / path.name
        if path.suffix == ".tif":
            np.testing.assert_array_equal(tifffile.imread(mine), tifffile.imread(theirs))
        else:
            assert mine.read_bytes() == theirs.read_bytes()
    mine, theirs = (
        json.loads((tmp_path / where / "f_gdn.json").read_text()) for where in ("api", "out")
    )
    assert list(mine) == list(theirs)
    assert timeless(mine["frames"][0]) == timeless(theirs["frames"][0])
    assert mine["search"] == theirs["search"]
    assert len(mine["key"]) == 64
    assert mine["frames"][0]["output"] == str(written[0])
    assert timeless(result.record) == timeless(theirs["frames"][0])
    assert result.explained_p == pytest.approx(result.record["explained_p"], abs=1e-4)
    assert result.held_out_gain_db == pytest.approx(result.record["heldout_gain_db"], abs=1e-3)
    assert result.warnings == result.record["warnings"]
    assert result.raw_spread is None
    lines = (tmp_path / "api" / "f_atoms.csv").read_text().splitlines()
    assert len(result.columns) == len(lines) - 1
    if result.columns:
        assert list(result.columns[0]) == lines[0].split(",")


def test_a_stack_is_its_frames(denoiser: gdn.Denoiser, frame: np.ndarray) -> None:
    shares: list[float] = []
    stack = np.stack([frame, noisy_frame((100, 110), 1)])
    result = denoiser.denoise(stack, SAMPLING, progress=shares.append)
    assert result.image.shape == result.spread.shape == stack.shape
    assert len(result) == len(result.warnings) == len(result.record) == 2
    assert result.record[1]["frame"] == 1
    assert result.record[0]["next_frame_scores"]
    assert result.columns == [None, None]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) >= 2 * 4  # the bar moves within a frame, too
    alone = denoiser.denoise(stack[1], SAMPLING)
    one = result.frames[1]
    np.testing.assert_array_equal(one.image, alone.image)
    np.testing.assert_array_equal(one.spread, alone.spread)
    assert (one.explained_p, one.noise, one.warnings) == (
        alone.explained_p,
        alone.noise,
        alone.warnings,
    )
    assert alone.frames == [alone]
    assert "100 x 110 px" in repr(alone)
    assert pickle.loads(pickle.dumps(one)).record == one.record


def test_masked_nan_and_masked_arrays_are_the_same_and_the_input_is_not_changed(
    denoiser: gdn.Denoiser, frame: np.ndarray
) -> None:
    mask = np.zeros(frame.shape, bool)
    mask[40:43, 50:60] = True
    before = frame.copy()
    results = [
        denoiser.denoise(frame, SAMPLING, mask),
        denoiser.denoise(np.ma.masked_array(frame, mask), SAMPLING),
    ]
    stack = np.stack([np.where(mask, missing, frame.astype(float)) for missing in (np.nan, np.inf)])
    results += denoiser.denoise(stack, SAMPLING).frames
    for result in results:
        np.testing.assert_array_equal(result.image, results[0].image)
        assert "30 missing (NaN) pixels" in result.warnings[0]
    assert np.isfinite(results[0].image).all()
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    ("image", "sampling", "mask", "message"),
    [
        (
            np.ones(9),
            0.1,
            None,
            r"image of shape (9,); wanted (rows, columns), or (n, rows, "
            r"columns) for a stack",
        ),
        (
            np.ones((2, 2, 50, 50)),
            0.1,
            None,
            "image of shape (2, 2, 50, 50); wanted (rows, columns)",
        ),
        (np.ones((0, 50, 50)), 0.1, None, "image of shape (0, 50, 50); wanted"),
        (
            np.ones((10, 50)),
            0.1,
            None,
            "image of shape (10, 50); wanted frames of at least 16 x 16 px",
        ),
        (
            np.ones((50, 50), complex),
            0.1,
            None,
            "image of type complex128; wanted integers or real numbers",
        ),
        ("frame.tif", 0.1, None, "image of type <U9; wanted integers or real numbers"),
        ([[1, 2], [3]], 0.1, None, "image of type list: not an array"),
        (
            np.full((50, 50), 7.0),
            0.1,
            None,
            "the image is constant (every pixel is 7); wanted one with something recorded in it",
        ),
        (np.ones((2, 50, 50)), 0.1, None, "frame 0 is constant"),
        (
            np.full((50, 50), np.nan),
            0.1,
            None,
            "the image has 2500 missing pixels of 2500 (masked, NaN or infinite); wanted",
        ),
        (np.eye(50), 0.1, np.eye(50) < 1, "the image has 2450 missing pixels of 2500"),
        (
            np.eye(50),
            0.1,
            np.eye(50),
            "mask of type float64; wanted bool, True where a pixel is missing",
        ),
        (
            np.eye(50),
            0.1,
            np.eye(40) > 0,
            "mask of shape (40, 40), image of shape (50, 50); wanted the same, or one frame's",
        ),
        (np.eye(50), None, None, "sampling_angstrom None; wanted Å per pixel, from 0.01 to 5"),
        (np.eye(50), "0.1", None, "sampling_angstrom '0.1'; wanted Å per pixel"),
        (np.eye(50), 0, None, "sampling_angstrom 0; wanted Å per pixel"),
        (np.eye(50), np.nan, None, "sampling_angstrom nan; wanted Å per pixel"),
        (
            np.eye(50),
            61.2,
            None,
            "sampling_angstrom 61.2; wanted Å per pixel, from 0.01 to 5 (1 nm is 10 Å)",
        ),
        (np.eye(50), 0.02, None, "the field is 1 Å wide (50 px of 0.02 Å); check the pixel size"),
    ],
)
def test_the_door_says_what_came_and_what_is_wanted(
    denoiser: gdn.Denoiser, image: Any, sampling: Any, mask: Any, message: str
) -> None:
    with pytest.raises(gdn.InputError, match="^" + re.escape(message)) as caught:
        denoiser.denoise(image, sampling, mask)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "salt"}, "noise salt: choose auto"),
        ({"noise": "gaussian:-1"}, "noise gaussian:-1: the standard deviation"),
        ({"restarts": 0}, "restarts 0: must be a whole number from 1 to 1000000"),
        ({"restarts": 2.5}, "restarts 2.5: must be a whole number"),
        ({"noise": 0.1}, "noise 0.1: wanted a word, such as auto"),
        ({"seed": None}, "seed None: must be a whole number"),
        ({"seed": -1}, "seed -1: must be a whole number from 0"),
        ({"threads": 0}, "threads 0: must be a whole number from 1"),
        ({"intervals": (50, 95)}, "intervals 95: choose levels in per cent from 50, 68, 90, 99"),
        ({"fdr": 1.0}, "fdr 1.0: must be from 0.001 to 0.5"),
        ({"estimate": "median"}, "estimate median: choose mean or map"),
        ({"laplace": "yes"}, "laplace yes: choose none, sampled or exact"),
        ({"method": "bm3d"}, "method bm3d: gdn or original"),
        (
            {"method": "original", "original_steps": "3"},
            "original_steps 3: must be three positive numbers",
        ),
        ({"engine": "jax"}, "unknown engine 'jax'; choose auto"),
        ({"device": "tpu"}, "no device 'tpu'; choose"),
        (
            {"device": "tensorrt"},
            "device tensorrt belongs to onnxruntime: choose engine onnxruntime too",
        ),
        ({"model": "pt-ceo3"}, "pt-ceo3: no such model"),
        (
            {"model": "restore", "atoms": True},
            "atoms: a restorer alone cannot do this; add a generator",
        ),
    ],
)
def test_settings_are_checked_when_the_denoiser_is_made(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(gdn.GdnError, match="^" + re.escape(message)) as caught:
        gdn.Denoiser(**options)
    assert "--" not in str(caught.value)


def test_numbers_may_be_numpys() -> None:
    options = gdn.Denoiser(
        restarts=np.int64(5), seed=np.uint8(3), intervals=np.array([50, 90]), fdr=np.float32(0.1)
    ).options
    assert (type(options.restarts), options.seed, options.intervals) == (int, 3, (50, 90))
    assert json.dumps([options.fdr, options.seed])


def test_errors_are_of_one_family_and_of_pythons_kinds() -> None:
    assert issubclass(gdn.ModelError, gdn.GdnError)
    assert issubclass(gdn.ModelError, ValueError)
    assert issubclass(gdn.InputError, ValueError)
    assert issubclass(gdn.EngineError, gdn.GdnError)
    assert issubclass(gdn.EngineError, RuntimeError)
    sent = pickle.loads(pickle.dumps(gdn.InputError("seed -1: no", "seed")))
    assert (str(sent), sent.parameter) == ("seed -1: no", "seed")


def test_the_command_line_names_its_options_and_the_library_does_not(
    frame: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "f.npy", frame)
    for options, words in (
        ((), "f.npy: carries no pixel size; give it in Å per pixel, for example 0.06 (--sampling)"),
        (("--noise", "salt"), "--noise salt: choose auto"),
        (("--method", "original", "--original-steps", "3"), "--original-steps 3: must be three"),
        (("--model", "restore", "--atoms"), "--atoms: a restorer alone cannot do this"),
    ):
        said = command("denoise", tmp_path / "f.npy", *options, "--threads", "1").stderr
        assert words in unwrapped(said)


def test_noise_that_contradicts_the_image_is_named_with_its_frame(frame: np.ndarray) -> None:
    below = frame.astype(np.float32) - 1
    with gdn.Denoiser(**SMALL, noise="poisson") as denoiser:
        with pytest.raises(
            gdn.InputError, match=r"^the image: noise poisson, but the smallest pixel is -1"
        ):
            denoiser.denoise(below, SAMPLING)
        with pytest.raises(gdn.InputError, match=r"^frame 0: noise poisson"):
            denoiser.denoise(np.stack([below, below]), SAMPLING)
        result = denoiser.denoise(np.stack([frame.astype(np.float32), below]), SAMPLING)
    assert result.warnings[1][0].startswith("not denoised: frame 1: noise poisson")


def test_a_blank_frame_of_a_stack_comes_back_flat(frame: np.ndarray) -> None:
    stack = np.stack([np.full_like(frame, 7), frame, np.zeros_like(frame)])
    result = gdn.denoise(stack, SAMPLING, **SMALL)
    assert (result.image[0] == 7).all()
    assert (result.image[2] == 0).all()
    np.testing.assert_array_equal(result.image[1], gdn.denoise(frame, SAMPLING, **SMALL).image)
    assert np.isnan(result.raw_spread if result.spread is None else result.spread)[0].all()
    assert result.noise[0] is None
    assert "frame 0 is constant" in result.warnings[0][0]
    with pytest.raises(gdn.InputError, match="frame 0 is constant"):
        gdn.denoise(stack[[0, 2]], SAMPLING, **SMALL)


def test_what_is_not_calibrated_is_not_called_a_spread(frame: np.ndarray, tmp_path: Path) -> None:
    result = gdn.denoise(frame, SAMPLING, model="restore", threads=1, score=False)
    assert result.spread is None
    assert result.raw_spread.shape == frame.shape
    assert result.explained_p is None
    result.save(tmp_path / "f")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "f_spread.tif"), result.raw_spread)


def test_saving_keeps_what_is_there_and_leaves_nothing_half_written(
    denoiser: gdn.Denoiser, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = denoiser.denoise(frame, SAMPLING)
    result.save(tmp_path / "a" / "f")
    with pytest.raises(
        gdn.InputError,
        match=r"f_denoised\.tif: exists already; choose another name, or overwrite=True",
    ):
        result.save(tmp_path / "a" / "f")
    before = (tmp_path / "a" / "f_gdn.json").stat().st_mtime_ns
    result.save(tmp_path / "a" / "f", overwrite=True)
    assert (tmp_path / "a" / "f_gdn.json").stat().st_mtime_ns > before

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "b" / "f")
    assert list((tmp_path / "b").iterdir()) == []


def test_a_denoiser_opens_its_models_once_and_not_before_they_are_needed(frame: np.ndarray) -> None:
    with gdn.Denoiser(**SMALL) as opened:
        assert not opened.opened
        opened.denoise(frame, SAMPLING)
        first = opened.possible((100, 110), SAMPLING)[0].engine
        opened.denoise(frame, SAMPLING)
        assert opened.possible((100, 110), SAMPLING)[0].engine is first
    with pytest.raises(gdn.GdnError, match="this Denoiser is closed"):
        opened.denoise(frame, SAMPLING)


def test_read_gives_frames_with_their_calibration(
    frame: np.ndarray, frame_file: Path, tmp_path: Path
) -> None:
    found = gdn.read(frame_file)
    assert found.image.dtype == np.float32
    assert found.image.shape == (220, 240)
    assert found.sampling_angstrom == pytest.approx(0.061)
    assert found.warnings == []
    np.save(tmp_path / "stack.npy", np.stack([frame, frame]))
    stack = gdn.read(str(tmp_path / "stack.npy"))
    assert stack.image.shape == (2, 100, 110)
    assert stack.sampling_angstrom is None
    with pytest.raises(gdn.InputError, match=r"none\.tif: no such file"):
        gdn.read(tmp_path / "none.tif")

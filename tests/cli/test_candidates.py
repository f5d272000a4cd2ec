"""`gdn denoise --candidate`, and `candidates` in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import gdn as library
from tests.helpers.candidates import command, script
from tests.helpers.commands import FAST, gdn, left_behind, one_line, unwrapped
from tests.helpers.frames import noisy_frame

SHAPE, SAMPLING = (220, 240), 0.061
QUICK = [*FAST, "--model", "pt-ceo2-64"]
NONSENSE = "np.save(target, np.sort(counts.ravel()).reshape(counts.shape))"


def smooth_noise() -> np.ndarray:
    """An image that no generator, restorer or filter can guess from its noisy counts."""
    image = gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 8)
    return np.asarray(np.clip(1 + 0.2 * image / image.std(), 0.1, None), dtype=np.float32)


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "frame_gdn.json").read_text())


def test_a_command_that_knows_the_truth_wins(tmp_path: Path) -> None:
    clean, out = smooth_noise(), tmp_path / "out"
    np.save(tmp_path / "clean.npy", clean)
    frame = tmp_path / "frame.tif"
    tifffile.imwrite(frame, np.random.default_rng(6).poisson(2 * clean).astype(np.uint8))
    path = script(
        tmp_path,
        "clean = np.load(sys.argv[3])\nnp.save(target, clean * counts.mean() / clean.mean())",
    )
    oracle = command(path, "oracle", str(tmp_path / "clean.npy"))
    asked = (*QUICK, "--sampling", SAMPLING, "--candidate", oracle, "-o", out)
    assert gdn("denoise", frame, *asked).returncode == 0
    record = record_of(out)
    assert record["frames"][0]["mixture"]["shares"]["oracle"] > 0.8
    assert record["others"][-1]["name"] == "oracle"
    (said,) = record["search"]["candidates"]
    assert said["command"] == oracle.partition("=")[2]
    error = tifffile.imread(out / "frame_denoised.tif") / 2 - clean
    assert np.std(error) < 0.2 * np.std(clean)
    again = gdn("denoise", "--config", out / "gdn-run.toml", "--resume", "-o", out)
    assert "already complete" in unwrapped(again.stderr), again.stderr
    path.write_text(path.read_text() + "\n")
    changed = gdn("denoise", frame, *asked, "--resume")
    assert changed.returncode == 0, changed.stderr
    assert "already complete" not in unwrapped(
        changed.stderr
    )  # another script is another candidate
    assert record_of(out)["key"] != record["key"]


def test_nonsense_changes_nothing(frame_file: Path, tmp_path: Path) -> None:
    nonsense = command(script(tmp_path, NONSENSE))
    options = (*QUICK, "--no-score")
    assert gdn("denoise", frame_file, *options, "-o", tmp_path / "a").returncode == 0
    done = gdn("denoise", frame_file, *options, "--candidate", nonsense, "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert record_of(tmp_path / "b")["frames"][0]["mixture"]["shares"]["own"] == 0
    without, beside = (tifffile.imread(tmp_path / n / "frame_denoised.tif") for n in "ab")
    np.testing.assert_allclose(beside, without, rtol=1e-5)


def test_an_image_in_other_units_is_warned_of(frame_file: Path, tmp_path: Path) -> None:
    own = command(script(tmp_path, "np.save(target, 100 * counts)"))
    arguments = (*QUICK, "--no-score", "--candidate", own, "-o", tmp_path / "out")
    assert gdn("denoise", frame_file, *arguments).returncode == 0
    frame = record_of(tmp_path / "out")["frames"][0]
    assert any("own: its image has 100 times the mean" in said for said in frame["warnings"])
    assert frame["mixture"]["shares"]["own"] < 0.01


def test_a_candidate_that_fails_costs_its_file_alone(frame_file: Path, tmp_path: Path) -> None:
    other = frame_file.with_name("other.tif")
    tifffile.imwrite(other, noisy_frame((200, 240), 1))
    own = command(
        script(
            tmp_path,
            "if counts.shape[0] == 200:\n    sys.exit('out of its depth')\nnp.save(target, counts)",
        )
    )
    out = tmp_path / "out"
    arguments = (*QUICK, "--no-score", "--sampling", SAMPLING, "--candidate", own, "-o", out)
    result = gdn("denoise", other, frame_file, *arguments)
    one_line(result, 1, f"{other}: candidate own: ended with exit code 1: out of its depth")
    assert not left_behind(out)
    assert not (out / "other_gdn.json").exists()
    assert (out / "frame_gdn.json").exists()


def test_a_stack_fails_with_its_candidate(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.stack([noisy_frame(seed=n) for n in (1, 2)]))
    own = command(script(tmp_path, "sys.exit('never')"))
    arguments = (*QUICK, "--no-score", "--sampling", SAMPLING, "--candidate", own)
    result = gdn("denoise", tmp_path / "movie.tif", *arguments, "-o", tmp_path / "out")
    one_line(result, 1, "movie.tif: candidate own: ended with exit code 1: never")
    assert not list((tmp_path / "out").glob("movie*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--candidate", "no-such-denoiser"], "no installed package offers it"),
        (
            ["--candidate", "no-such-program {input} {output}"],
            "the program no-such-program is not found",
        ),
        (["--candidate", "sh {input} {output}", "--method", "original"], "with method original"),
        (["--candidate", "sh {input} {output}", "--no-residual"], "with residual off"),
        (["--candidate", "pt-ceo2-64=sh {input} {output}"], "a model has this name"),
    ],
)
def test_bad_usage_is_exit_code_2(
    frame_file: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    one_line(gdn("denoise", frame_file, *arguments, "-o", tmp_path / "x"), 2, "--candidate", words)
    assert not (tmp_path / "x").exists()


def test_a_restorer_alone_mixes_nothing(frame_file: Path) -> None:
    asked = ("--model", "restore", "--candidate", "sh {input} {output}")
    one_line(gdn("denoise", frame_file, *asked), 2, "--candidate", "a restorer alone")


def test_a_python_function_is_a_candidate() -> None:
    clean = smooth_noise()
    noisy = np.random.default_rng(7).poisson(2 * clean)

    def oracle(counts: np.ndarray, sampling_angstrom: float) -> np.ndarray:
        return np.asarray(clean * counts.mean() / clean.mean())

    options: dict[str, Any] = {
        "model": "pt-ceo2-64",
        "restarts": 16,
        "threads": 1,
        "score": False,
        "candidates": [oracle],
    }
    result = library.denoise(noisy, SAMPLING, **options)
    assert result.record["mixture"]["shares"]["oracle"] > 0.8
    with pytest.raises(library.InputError, match="wanted a function"):
        library.Denoiser(candidates=[3])  # type: ignore[list-item]

    def broken(counts: np.ndarray, sampling_angstrom: float) -> np.ndarray:
        raise RuntimeError("not today")

    with pytest.raises(library.CandidateError, match="candidate broken: RuntimeError: not today"):
        library.denoise(noisy, SAMPLING, **options | {"candidates": [broken]})

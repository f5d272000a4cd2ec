"""Candidates from outside gdn: what they are given, what they must return, and what is said where
they fail."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from gdn.errors import CandidateError, InputError
from gdn.frames.resampling import bin_sum, grids_for
from gdn.likelihood import POISSON
from gdn.pipeline.candidates_named import candidates_named
from gdn.search.command_candidate import Command
from gdn.search.outside_candidates import OutsideCandidate, PythonFunction
from gdn.search.thinning import Recorded
from tests.helpers.candidates import command, offer, script

SAMPLING = 0.1


def recorded(rng: np.random.Generator, shape: tuple[int, int] = (60, 81)) -> Recorded:
    counts = rng.poisson(3.0, shape).astype(np.float32)
    return Recorded(electrons=counts, law=POISSON, grids=grids_for(shape, SAMPLING, 0.4))


def failure(candidate: OutsideCandidate, counts: Recorded) -> str:
    with pytest.raises(CandidateError) as caught:
        candidate(counts)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"candidate {candidate.name}: ")
    return str(caught.value)


def refusal(*wanted: object) -> str:
    with pytest.raises(InputError) as caught:
        candidates_named(wanted)
    assert caught.value.parameter == "candidate"
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Commands


def test_a_command_gets_the_counts_and_its_image_is_summed(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    given, kept = recorded(rng), tmp_path / "kept.npy"
    path = script(
        tmp_path / "with space",
        "np.save(sys.argv[3], counts)\nassert float(sys.argv[4]) == 0.1\nnp.save(target, counts)",
    )
    (one,) = candidates_named([command(path, more=f"{kept} {{sampling}}")])
    image = one(given)
    counts = np.load(kept)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, given.electrons)
    expected = bin_sum(given.electrons.astype(np.float32), given.grids)
    np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-3)


def test_a_command_may_ask_for_larger_pixels(rng: np.random.Generator, tmp_path: Path) -> None:
    given, kept = recorded(rng, (60, 80)), tmp_path / "kept.npy"
    path = script(
        tmp_path, "np.save(sys.argv[3], counts)\nnp.save(target, 0 * counts + float(sys.argv[4]))"
    )
    (one,) = candidates_named([command(path, "own@0.21", f"{kept} {{sampling}}")])
    image = one(given)
    blocks = given.electrons.reshape(30, 2, 40, 2).sum((1, 3))
    np.testing.assert_array_equal(np.load(kept), blocks)
    assert image.shape == given.grids.binned_shape
    np.testing.assert_allclose(image, 0.2 * given.grids.area / 4, rtol=1e-4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('first', file=sys.stderr)\nsys.exit('no weights')", "exit code 1: no weights"),
        ("sys.exit(3)", "exit code 3: it wrote nothing"),
        ("", "did not write {output}"),
        ("np.save(target, counts[:-1])", "shape (59, 81), the counts have (60, 81)"),
        ("np.save(target, counts[None])", "shape (1, 60, 81)"),
        ("np.save(target, counts + 1j)", "does not hold real numbers (complex"),
        ("np.save(target, np.full(counts.shape, 'x'))", "does not hold real numbers (<U1)"),
        ("counts[2, 3] = np.nan\nnp.save(target, counts)", "1 pixels that are not finite"),
        ("np.save(target, 1e300 * counts.astype(float) - 1)", "not finite"),
        ("np.save(target, np.array([None]), allow_pickle=True)", "not a .npy file of numbers"),
        ("open(target, 'w').write('nothing')", "not a .npy file of numbers"),
        ("open(target, 'w')", "not a .npy file of numbers"),
    ],
)
def test_what_a_command_does_wrong_is_one_line(
    rng: np.random.Generator, tmp_path: Path, body: str, words: str
) -> None:
    (one,) = candidates_named([command(script(tmp_path, body))])
    assert words in failure(one, recorded(rng))


def test_a_command_that_does_not_end_is_ended_with_its_children(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN_CANDIDATE_SECONDS", "1.5")
    body = """
import subprocess, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[3], "w").write(str(child.pid))
time.sleep(60)
"""
    (one,) = candidates_named([command(script(tmp_path, body), more=str(tmp_path / "child"))])
    assert "GDN_CANDIDATE_SECONDS" in failure(one, recorded(rng))
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.setenv("GDN_CANDIDATE_SECONDS", "soon")
    assert "GDN_CANDIDATE_SECONDS=soon" in failure(one, recorded(rng))


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_identity_knows_command_pixel_size_and_files(tmp_path: Path) -> None:
    path = script(tmp_path, "np.save(target, counts)")
    texts = [
        command(path),
        command(path, "other"),
        command(path, "own@0.35"),
        command(path, more=f"--with={path}"),
    ]
    identities = [candidates_named([text])[0].identity for text in texts]
    again = candidates_named(texts[:1])[0]
    assert again.identity == identities[0]
    path.write_text(path.read_text() + "\n# changed")
    identities += [candidates_named([texts[0]])[0].identity]
    assert len(set(identities)) == 5
    assert pickle.loads(pickle.dumps(again)) == again
    program, changed = Command.read(texts[0].partition("=")[2]).files
    assert (program[0], changed[0]) != (str(path), "")
    assert str(path) in again.record()["files"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("nowhere/denoise {input} {output}", "the program nowhere/denoise is not found"),
        ("sh {input}", "lacks {output}"),
        ("./denoise.sh", "lacks {input} and {output}"),
        ("sh 'x {input} {output}", "cannot be read"),
        ("", "lacks {input}"),
        ("own@nm=sh {input} {output}", "pixel size 'nm'"),
        ("own@35=sh {input} {output}", "from 0.01 to 5"),
        ("generator=sh {input} {output}", "gdn has a candidate of this name"),
        ("restore=sh {input} {output}", "gdn has a candidate of this name"),
        ("not-installed", "no installed package offers it"),
        (3, "wanted a function"),
        (lambda counts, sampling: counts, "attribute 'name'"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: object, words: str) -> None:
    assert words in refusal(wanted)


def test_a_file_that_is_no_program_two_of_a_name_and_too_many(tmp_path: Path) -> None:
    path = script(tmp_path, "")
    assert "not executable" in refusal(f"{path} {{input}} {{output}}")
    assert "two candidates have this name" in refusal(command(path), command(path, more="-v"))
    assert "too many; at most 8" in refusal(*(command(path, f"own{number}") for number in range(9)))
    path.chmod(0o755)
    path.write_text(f"#!/bin/sh\n{path.read_text()}")
    (one,) = candidates_named([f"{path} {{input}} {{output}}"])
    assert one.name == "own.py"
    path.unlink()
    with pytest.raises(CandidateError, match=r"candidate own\.py: the program"):
        one.check()


# Functions


def test_a_function_gets_the_counts_and_may_ask_for_larger_pixels(
    rng: np.random.Generator,
) -> None:
    seen = []

    def twice(counts: np.ndarray, sampling_angstrom: float) -> np.ndarray:
        seen.append((counts, sampling_angstrom))
        return 2 * counts

    given = recorded(rng)
    before = given.electrons.copy()
    (one,) = candidates_named([twice])
    image = one(given)
    assert one.name == "twice"
    assert seen[0][1] == SAMPLING
    np.testing.assert_array_equal(seen[0][0], given.electrons)
    expected = 2 * bin_sum(given.electrons.astype(np.float32), given.grids)
    np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-3)
    seen[0][0][:] = 0
    np.testing.assert_array_equal(given.electrons, before)
    twice.sampling_angstrom = 0.3  # type: ignore[attr-defined]
    candidates_named([twice])[0](given)
    assert seen[1][0].shape == (20, 27)
    assert seen[1][1] == pytest.approx(0.3)


def test_what_a_function_raises_is_one_line_and_its_cause_is_kept(
    rng: np.random.Generator,
) -> None:
    def broken(counts: np.ndarray, sampling_angstrom: float) -> np.ndarray:
        raise KeyError("weights\nof layer 3")

    one = OutsideCandidate("broken", PythonFunction(broken))
    assert "KeyError" in failure(one, recorded(rng))
    with pytest.raises(CandidateError) as caught:
        one(recorded(rng))
    assert caught.value.__cause__ is not None


def test_an_installed_function_is_found_by_its_name_alone(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
def denoise(counts, sampling_angstrom):
    return 0 * counts + sampling_angstrom
denoise.sampling_angstrom = 0.2
"""
    offer(tmp_path, "house", "house_denoiser", code)
    offer(tmp_path, "empty", "empty_denoiser", "denoise = 3")
    offer(tmp_path, "torn", "torn_denoiser", "import no_such_module_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    given = recorded(rng, (60, 80))
    own, finer = candidates_named(["house"]), candidates_named(["house@0.1"])
    np.testing.assert_allclose(own[0](given), 0.2 * 4, rtol=1e-4)
    np.testing.assert_allclose(finer[0](given), 0.1 * 16, rtol=1e-4)
    assert own[0].record() == {
        "name": "house",
        "sampling_angstrom": 0.2,
        "package": "house_denoiser",
        "version": "1.0",
        "function": "house_denoiser:denoise",
    }
    assert own[0].identity != finer[0].identity
    again = pickle.loads(pickle.dumps(own[0]))
    again.check()
    assert "empty, house, torn" in refusal("hous")
    assert "is not a function" in refusal("empty")
    assert "no_such_module_anywhere" in refusal("torn")
    offer(tmp_path, "house", "other_denoiser", code)
    assert "several packages offer it" in refusal("house")
    (tmp_path / "house_denoiser-1.0.dist-info").rename(tmp_path / "house_denoiser-2.0.dist-info")
    metadata = tmp_path / "house_denoiser-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    with pytest.raises(CandidateError, match=r"house_denoiser 1.0 is needed, but 2.0 is installed"):
        again.check()

"""Bad usage, help, and the smaller commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from tests.helpers.commands import FAST, gdn, one_line
from tests.helpers.frames import noisy_frame


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--restarts", "0"], "--restarts"),
        (["--restarts", "x"], "--restarts"),
        (["--sampling", "-1"], "--sampling"),
        (["--noise", "salt"], "--noise"),
        (["--model", "nowhere"], "nowhere"),
        (["--engine", "numpy"], "numpy"),
        (["--estimate", "median"], "--estimate"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_bad_usage_is_exit_code_2(frame_file: Path, arguments: list[str], word: str) -> None:
    one_line(gdn("denoise", frame_file, *arguments), 2, word)


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--engine", "numpy"], "numpy"), (["--model", "nowhere"], "nowhere")]
)
def test_bad_usage_of_the_demo_is_exit_code_2(
    tmp_path: Path, arguments: list[str], word: str
) -> None:
    one_line(gdn("demo", "-o", tmp_path / "out", *arguments), 2, word)
    assert not (tmp_path / "out").exists()


def test_a_tampered_model_is_refused(frame_file: Path, tmp_path: Path) -> None:
    import shutil

    from gdn.models import find_model

    shutil.copytree(find_model("pt-ceo2-64").folder, tmp_path / "m")
    (tmp_path / "m" / "encoder.onnx").write_bytes(b"other")
    one_line(gdn("denoise", frame_file, "--model", tmp_path / "m"), 2, "encoder.onnx", "sha256")


def test_an_unwritable_folder_and_equal_names(frame_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one_line(
        gdn("denoise", frame_file, *FAST, "-o", tmp_path / "file" / "out"), 2, "cannot write there"
    )
    (tmp_path / "other").mkdir()
    tifffile.imwrite(tmp_path / "other" / "frame.tif", noisy_frame())
    one_line(
        gdn("denoise", frame_file, tmp_path / "other" / "frame.tif", *FAST, "-o", tmp_path / "o"),
        2,
        "would both be written",
    )


@pytest.mark.slow
def test_denoise_and_demo_never_import_torch(frame_file: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from gdn.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
    heavy = {"torch", "abtem", "matplotlib", "ase", "dask", "onnx"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""
    commands = [
        ["demo", "--help"],
        ["doctor"],
        ["denoise", str(frame_file), *FAST, "-o", str(tmp_path / "o")],
    ]
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "command", ["denoise", "simulate", "train", "export", "evaluate", "demo", "doctor"]
)
def test_every_command_has_help(command: str) -> None:
    result = gdn(command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_evaluate_prints_rows(tmp_path: Path) -> None:
    from gdn.evaluation.demo import demo_frames
    from gdn.frames.source import FrameCalibration
    from gdn.frames.writing import write_tiff

    frame = demo_frames()[0]
    write_tiff(
        tmp_path / "clean.tif",
        frame.image[:300, :300] / 0.45,
        FrameCalibration(sampling_angstrom=frame.sampling_angstrom),
    )
    result = gdn(
        "evaluate",
        tmp_path / "clean.tif",
        "--noise",
        "poisson:1,gaussian:0.5",
        "--restarts",
        "8",
        "--json",
        "--against",
        "noisy,constant,blur,original",
        "--original-steps",
        "2,3,5",
    )
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 10
    assert {r["method"] for r in rows} == {"noisy", "constant", "blur", "original", "gdn"}
    assert all(
        {"file", "frame", "noise", "method", "psnr_db", "ssim", "seconds"} <= set(r) for r in rows
    )
    one_line(gdn("evaluate", tmp_path / "clean.tif", "--noise", "salt:1"), 2, "salt:1")
    one_line(gdn("evaluate", tmp_path / "clean.tif", "--against", "magic"), 2, "magic")


def test_doctor_says_what_to_do_about_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.util import find_spec

    present = {"rsciio", "h5py", "torch", "distributed", "av", "napari", "hyperspy", "ase"}
    monkeypatch.setattr(
        "gdn.cli.doctor.importlib.util.find_spec",
        lambda name: name if name in present else (None if name == "zarr" else find_spec(name)),
    )
    done = gdn("doctor")
    advice = [line for line in done.stdout.splitlines() if line.startswith("to do")]
    assert advice == ["to do        to read and write Zarr: pip install 'gdn[formats]'"]
    broken = gdn("doctor", "--model", tmp_path)
    assert "to do        nothing can be denoised: choose another --model" in broken.stdout


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("", "pip install 'gdn[video]'"),
        ("pipx_metadata.json", "pipx runpip gdn install 'gdn[video]'"),
        ("uv-receipt.toml", "uv pip install --python {folder} 'gdn[video]'"),
    ],
)
def test_what_is_missing_is_installed_where_gdn_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, command: str
) -> None:
    folder = tmp_path / "gdn"
    folder.mkdir()
    if file:
        (folder / file).write_text("")
    monkeypatch.setattr("sys.prefix", str(folder))
    monkeypatch.setitem(sys.modules, "av", None)
    one_line(
        gdn("denoise", "frame.tif", "--movie-file", "gif"),
        2,
        f"av is not installed; {command.format(folder=folder)}",
    )


def test_doctor_says_no_when_nothing_can_run(tmp_path: Path) -> None:
    result = gdn("doctor", "--model", tmp_path, "--json")
    assert result.returncode == 1
    assert "no model.json" in json.loads(result.stdout)["ready"]
    assert gdn("doctor", "--json").returncode == 0


def test_the_shell_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gdn"])
    for name, value in (
        ("_GDN_COMPLETE", "complete_bash"),
        ("COMP_WORDS", "gdn denoise --re"),
        ("COMP_CWORD", "2"),
    ):
        monkeypatch.setenv(name, value)
    done = gdn()
    assert done.returncode == 0
    assert {"--restarts", "--report", "--resume", "--residual"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    "command", ["denoise", "simulate", "train", "export", "evaluate", "demo", "doctor"]
)
def test_help_has_examples_and_every_option_of_denoise_a_group(command: str) -> None:
    text = gdn(command, "--help").stdout
    assert f"    gdn {command}" in text
    if command == "denoise":
        groups = [
            line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")
        ]
        assert groups == [
            "Input:",
            "Output:",
            "Search:",
            "How far to trust it:",
            "Machine and run:",
            "Other options:",
        ]
        assert text.split("Other options:")[1].split() == [
            "-h,",
            "--help",
            "Show",
            "this",
            "message",
            "and",
            "exit.",
        ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_settings_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    command = [sys.executable, "-m", "gdn", "denoise", "f.tif", "--config", "pipe.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    one_line(done, 2, "--config pipe.toml: cannot be read (not a file)")

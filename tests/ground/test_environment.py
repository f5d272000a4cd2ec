"""Files in the folder in which gdn is started are not taken for Python's own modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdn.environment import SAFE_PATH, start_safely, users_environment
from tests.helpers.commands import FAST
from tests.helpers.frames import noisy_frame
from tests.helpers.needs import needs_cluster

TRAP = 'open("{}", "w").close(); raise SystemExit(9)'
MAIN = "import sys; sys.path.remove(''); from gdn.cli import main; main(sys.argv[1:])"


@needs_cluster
@pytest.mark.cluster
def test_the_folder_of_the_files_runs_nothing(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", noisy_frame())
    sprung = tmp_path / "sprung"
    for name in ("multiprocessing", "distributed", "random", "hdf5plugin"):
        (tmp_path / f"{name}.py").write_text(TRAP.format(sprung))
    words = ["denoise", "a.tif", "-o", "out", "--sampling", "0.2", "--no-score", *FAST]
    environment = {name: value for name, value in os.environ.items() if name != SAFE_PATH}
    done = subprocess.run(
        # As the console script does, which has no working folder on its path.
        [sys.executable, "-c", MAIN, *words, "--cluster", "local:1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not sprung.exists()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", ["", "1"])
def test_a_command_of_the_user_gets_what_gdn_got(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SAFE_PATH, given)
    start_safely()
    assert os.environ[SAFE_PATH]
    assert users_environment().get(SAFE_PATH, "") == given

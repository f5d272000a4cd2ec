"""Pictures for slides, and movies of stacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from gdn.pipeline.lettering import draw_words, width_of
from gdn.pipeline.output_files import is_own_result
from tests.helpers.commands import FAST, gdn, one_line
from tests.helpers.frames import noisy_frame
from tests.helpers.needs import missing

QUICK = [*FAST, "--model", "pt-ceo2-64", "--no-score"]


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    frames = np.stack([noisy_frame((160, 170), seed) for seed in (0, 1)])
    options = {"resolution": (10 / 0.061, 10 / 0.061), "metadata": {"unit": "nm", "axes": "TYX"}}
    tifffile.imwrite(path, frames, imagej=True, **options)
    return path


def test_a_letter_that_the_font_lacks_is_put_together() -> None:
    drawn = {}
    for word in ("A", "Å", "²", "2"):
        picture = Image.new("L", (40, 40))
        draw_words(ImageDraw.Draw(picture), (5, 10), word, 20, 255)
        drawn[word] = np.asarray(picture)
    extra = np.flatnonzero((drawn["Å"].astype(int) - drawn["A"]).any(1))
    assert len(extra)
    assert extra.max() < np.flatnonzero(drawn["A"].any(1)).min() + 3  # a ring above the A
    assert 0 < (drawn["²"] > 0).sum() < (drawn["2"] > 0).sum()
    assert width_of("120 e/Å²", 20) < width_of("120 e/A2", 20)


@pytest.mark.slow
def test_slides_of_a_stack_belong_to_its_results(stack_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = gdn("denoise", stack_file, *QUICK, "-o", out)
    assert plain.returncode == 0, plain.stderr
    assert not list(out.glob("*.png"))
    with_slides = ("denoise", stack_file, *QUICK, "-o", out, "--png", "--resume")
    assert gdn(*with_slides).returncode == 0
    slides = sorted(path.name for path in out.glob("*.png"))
    assert slides == ["stack_denoised_0000.png", "stack_denoised_0001.png"]
    assert set(slides) <= set(json.loads((out / "stack_gdn.json").read_text())["outputs"])
    with Image.open(out / slides[0]) as picture:
        assert picture.height > picture.width * 160 // 170  # words below the image
    assert "already complete" in gdn(*with_slides).stderr
    (out / slides[1]).unlink()
    assert "already complete" not in gdn(*with_slides).stderr
    assert (out / slides[1]).exists()


@pytest.mark.slow
@pytest.mark.skipif(missing("av"), reason="needs the extra 'video'")
@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_movie_has_every_frame(
    stack_file: Path, frame_file: Path, tmp_path: Path, kind: str
) -> None:
    import av

    out = tmp_path / "out"
    done = gdn("denoise", stack_file, frame_file, *QUICK, "-o", out, "--movie-file", kind)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.glob(f"*.{kind}")] == [f"stack_denoised.{kind}"]
    with av.open(str(out / f"stack_denoised.{kind}")) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 2
    assert frames[0].shape[1] > 1.9 * 170  # two images side by side
    left, right = np.hsplit(frames[0][:150].astype(float), 2)
    assert (
        np.abs(np.diff(left[:120, 20:160])).mean() > 3 * np.abs(np.diff(right[:120, 20:160])).mean()
    )


@pytest.mark.skipif(missing("av"), reason="needs the extra 'video'")
def test_another_kind_of_movie_is_refused(stack_file: Path) -> None:
    one_line(gdn("denoise", stack_file, "--movie-file", "avi"), 2, "--movie-file avi", "mp4 or gif")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("a_denoised.png", True),
        ("a_denoised_0012.png", True),
        ("a_denoised_0012.tif", False),
        ("a_12.png", False),
    ],
)
def test_slides_are_not_taken_for_frames(name: str, own: bool) -> None:
    assert is_own_result(Path(name)) is own

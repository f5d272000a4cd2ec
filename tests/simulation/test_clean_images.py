"""Data sets of clean images from any simulator: splits, pixel sizes, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gdn.errors import InputError
from gdn.frames.source import FrameFile
from gdn.simulation.clean_images import CleanImage, read_clean_image, stored_scenes
from gdn.simulation.image_import import ImagePlan, import_images
from gdn.simulation.simulate import seed_of_path
from gdn.simulation.structures import split_of
from tests.helpers.commands import gdn, one_line


def lattice(phase: float, shape: tuple[int, int] = (150, 170), sampling: float = 0.1) -> np.ndarray:
    """Columns 2 Å apart, vacuum 1."""
    y, x = np.indices(shape) * sampling
    wave = np.sin(np.pi * (y + phase)) * np.cos(np.pi * (x - phase))
    return np.asarray(1 + 0.4 * wave**2, dtype=np.float32)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eleven images and a stack of three, as somebody's simulator wrote them."""
    folder = tmp_path / "clean"
    folder.mkdir()
    for number in range(11):
        tifffile.imwrite(folder / f"c{number:02d}.tif", lattice(0.07 * number))
    np.savez(folder / "stack.npz", image=np.stack([lattice(0.75 + 0.07 * n) for n in range(3)]))
    return sorted(folder.iterdir())


def plan_of(tmp_path: Path, files: list[Path], **settings: object) -> ImagePlan:
    given: dict[str, object] = {"sampling_angstrom": 0.1, "seed": 1} | settings
    return ImagePlan(out=tmp_path / "set", files=files, **given)


def splits(paths: list[Path]) -> list[str]:
    return [split_of(seed_of_path(path)) for path in paths]


def test_a_file_is_in_one_split_and_each_split_has_some(files: list[Path], tmp_path: Path) -> None:
    paths = import_images(plan_of(tmp_path, files))
    assert stored_scenes(tmp_path / "set") == sorted(paths)
    assert len(paths) == 14
    assert len({seed_of_path(path) for path in paths}) == 12  # the stack is one structure
    assert set(splits(paths)) == {"train", "validation", "test"}
    record = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert record["scenes"] == "images"
    rows = [(row, frame) for row in record["images"]["structures"] for frame in row["frames"]]
    assert [row["split"] for row, _ in rows] == splits(paths)
    (first,) = [
        path for path, (row, _) in zip(paths, rows, strict=True) if row["file"] == "c00.tif"
    ]
    clean = read_clean_image(first)
    np.testing.assert_array_equal(clean.image, lattice(0))
    assert clean.field_angstrom == pytest.approx(15)


def test_the_split_is_of_the_content_not_of_names_or_order(
    files: list[Path], tmp_path: Path
) -> None:
    before = import_images(plan_of(tmp_path / "a", files))
    for path in files:
        path.rename(path.with_name(f"renamed-{path.name}"))
    again = sorted(files[0].parent.iterdir(), reverse=True)
    after = import_images(plan_of(tmp_path / "b", again))
    for mine, theirs in zip(before, after, strict=True):
        assert mine.name == theirs.name
        np.testing.assert_array_equal(read_clean_image(mine).image, read_clean_image(theirs).image)
    other = import_images(plan_of(tmp_path / "c", again, seed=2))
    assert [path.name for path in other] != [path.name for path in after]


def test_frames_of_a_file_are_apart_if_they_are_said_to_be(
    files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"at least 3.*frames of a file show different structures"):
        import_images(plan_of(tmp_path, files[11:]))
    paths = import_images(plan_of(tmp_path, files[11:], independent=True))
    assert sorted(splits(paths)) == ["test", "train", "validation"]


def test_each_image_is_read_once(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[tuple[str, int]] = Counter()
    read = FrameFile.read

    def counted(file: FrameFile, index: int, whole: bool = False) -> object:
        reads[file.path.name, index] += 1
        return read(file, index, whole)

    monkeypatch.setattr(FrameFile, "read", counted)
    progress: list[tuple[int, int]] = []
    import_images(plan_of(tmp_path, files), lambda done, total: progress.append((done, total)))
    assert len(reads) == 14
    assert set(reads.values()) == {1}
    assert progress == [(n + 1, 12) for n in range(12)]


def test_a_file_that_cannot_be_used_leaves_nothing_behind(
    files: list[Path], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.tif"
    tifffile.imwrite(odd, lattice(0.95) - 1.2)
    with pytest.raises(InputError, match=r"odd\.tif"):
        import_images(plan_of(tmp_path, [*files, odd]))
    assert not (tmp_path / "set").exists()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".images.elsewhere-1-a.part").mkdir()  # of a run that was killed
    assert len(import_images(plan_of(tmp_path, files))) == 14


def test_a_data_set_is_continued_but_not_mixed(files: list[Path], tmp_path: Path) -> None:
    paths = import_images(plan_of(tmp_path, files))
    kept = paths[0].stat().st_mtime_ns
    paths[5].unlink()
    assert import_images(plan_of(tmp_path, files)) == paths
    assert paths[5].exists()
    assert paths[0].stat().st_mtime_ns == kept
    for other in (
        plan_of(tmp_path, files, seed=2),
        plan_of(tmp_path, files[1:]),
        plan_of(tmp_path, files, sampling_angstrom=0.11),
    ):
        with pytest.raises(InputError, match="another data set; choose another folder"):
            import_images(other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        import_images(ImagePlan(out=tmp_path / "full", files=files, seed=1, sampling_angstrom=0.1))


@pytest.mark.parametrize(
    ("image", "settings", "words"),
    [
        (lattice(0.95) - 1.2, {}, r"odd.tif: goes down to -0.2 of the vacuum level"),
        (300 * lattice(0.95), {}, r"odd.tif: its mean is 3\d\d times the vacuum level"),
        (lattice(0.95), {"sampling_angstrom": None}, "odd.tif: carries no pixel size"),
        (lattice(0), {}, "odd.tif: has the same pixels as .*c00.tif"),
        (np.ones((50, 50)), {}, "odd.tif: frame 0 is constant.*leave it out"),
        (-lattice(0.95), {"vacuum": None}, "its mean is -1.*intensities"),
    ],
)
def test_what_makes_no_images_is_refused(
    files: list[Path], tmp_path: Path, image: np.ndarray, settings: dict[str, object], words: str
) -> None:
    odd = tmp_path / "odd.tif"
    tifffile.imwrite(odd, image.astype(np.float32))
    order = [odd, *files] if settings else [*files, odd]
    with pytest.raises(InputError, match=words) as caught:
        import_images(plan_of(tmp_path, order, **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_the_level_is_the_vacuum_or_the_mean(files: list[Path], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bright.tif", 300 * lattice(0.95))
    given = [*files[:3], tmp_path / "bright.tif"]
    mean = import_images(plan_of(tmp_path, given, vacuum=None))
    assert [read_clean_image(path).image.mean() for path in mean] == pytest.approx([1] * 4)
    for n in range(2):
        tifffile.imwrite(tmp_path / f"b{n}.tif", 300 * lattice(0.96 + 0.01 * n))
    same = [tmp_path / name for name in ("bright.tif", "b0.tif", "b1.tif")]
    level = import_images(plan_of(tmp_path / "level", same, vacuum=300.0))
    levels = [read_clean_image(path).image.mean() for path in level]
    assert levels == pytest.approx([lattice(0.95).mean()] * 3, rel=1e-3)


def test_a_view_has_the_pixels_that_were_asked_for() -> None:
    clean = CleanImage(lattice(0.3), 0.1)
    np.testing.assert_allclose(clean.view(0.1, (150, 170), (0, 0)), clean.image, atol=1e-5)
    # Coarser pixels average: as blocks of four do, but for the Gaussian that stands for the box.
    # Columns 1 Å apart, nearly all that pixels of 0.4 Å can hold, are the worst case.
    blocks = lattice(0.3, (148, 168)).reshape(37, 4, 42, 4).mean((1, 3))
    coarse = clean.view(0.4, (37, 42), (0, 0))
    np.testing.assert_allclose(coarse[2:-2, 2:-2], blocks[2:-2, 2:-2], atol=0.015)
    assert np.abs(lattice(0.3)[1::4, 1::4][:37, :42] - blocks).max() > 0.02
    part = clean.view(0.05, (40, 60), (4.0, 5.0))
    y, x = 4.0 + (np.arange(40) + 0.5) * 0.05, 5.0 + (np.arange(60) + 0.5) * 0.05
    # lattice() puts its samples at n * 0.1 Å, an image its pixels at (n + 1 / 2) * 0.1 Å.
    wave = np.sin(np.pi * (y - 0.05 + 0.3))[:, None] * np.cos(np.pi * (x - 0.05 - 0.3))
    np.testing.assert_allclose(part, 1 + 0.4 * wave**2, atol=1e-4)


def test_the_command_makes_a_data_set(files: list[Path], tmp_path: Path) -> None:
    made = ["simulate", tmp_path / "set", "--seed", "1", "--images"]
    done = gdn(*made, files[0].parent / "*.tif", "--images", files[-1], "--sampling", "0.1")
    assert done.returncode == 0, done.stderr
    assert "14 clean images (" in done.stdout
    assert "of validation" in done.stdout
    one_line(gdn(*made, files[0], "--count", "3"), 2, "--count cannot be used with --images")
    one_line(gdn(*made, files[0]), 2, "no pixel size", "--sampling")
    one_line(gdn(*made, files[0], "--vacuum", "dark"), 2, "--vacuum dark", "or mean")
    none = ["simulate", tmp_path / "none", "--seed", "1"]
    one_line(gdn(*none), 2, "--count")
    one_line(gdn(*none, "--count", "3", "--sampling", "0.1"), 2, "--sampling", "for --images")

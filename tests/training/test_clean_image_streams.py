"""Training and calibration on clean images of any simulator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gdn.models import find_model
from gdn.simulation.clean_images import read_clean_image, stored_scenes
from gdn.simulation.image_import import ImagePlan, import_images
from gdn.simulation.simulate import seed_of_path
from gdn.simulation.structures import split_of
from tests.helpers.commands import gdn
from tests.helpers.needs import needs_training

pytestmark = needs_training

SAMPLING = 0.2  # Å per pixel


def image_of(number: int, side: int) -> np.ndarray:
    """Dark columns of depth 0.1 + number / 100, rows 3 Å apart, a vacuum on the left."""
    y, x = np.indices((side, side)) * SAMPLING
    columns = (np.sin(np.pi * (y + 0.1 * number) / 3) * np.sin(np.pi * x / 3)) ** 4
    return np.asarray(1 - (0.1 + number / 100) * columns * (x > 4), dtype=np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of twelve clean images of 32 Å."""
    folder = tmp_path_factory.mktemp("images")
    stack = np.stack([image_of(number, 160) for number in range(12)])
    np.savez(folder / "theirs.npz", image=stack)
    out = folder / "set"
    import_images(
        ImagePlan(
            out=out,
            files=[folder / "theirs.npz"],
            seed=3,
            sampling_angstrom=SAMPLING,
            independent=True,
        )
    )
    return out


@pytest.fixture
def recipe_file(tiny_recipe: Path, tmp_path: Path) -> Path:
    """The tiny recipe for clean images."""
    path = tmp_path / "mine.toml"
    here = "[specimen]\n"
    text = tiny_recipe.read_text()
    assert here in text
    path.write_text(text.replace(here, f'{here}source = "images"\n'))
    return path


@pytest.mark.slow
def test_patches_are_cut_from_training_images_alone(images: Path, recipe_file: Path) -> None:
    from gdn.recipes import load_recipe
    from gdn.training.patch_stream import WaveStream, open_stream

    recipe = load_recipe(str(recipe_file))
    streams = [open_stream(images, recipe, workers) for workers in (0, 1)]
    drawn = []
    for stream in streams:
        assert isinstance(stream, WaveStream)
        drawn.append(np.concatenate([stream.draw(16).images, stream.draw(16).images]))
        assert {split_of(seed_of_path(path)) for path in stream.structures} == {"train"}
        held_out = stream.validation(8)
        stream.close()
    np.testing.assert_array_equal(*drawn)
    assert held_out.shape == (8, 1, 32, 32)
    # The vacuum and the columns' depth are those of the images.
    seen = 1 + recipe.network.intensity_scale * drawn[0]
    depths = [
        1 - read_clean_image(path).image.min()
        for path in stored_scenes(images)
        if split_of(seed_of_path(path)) == "train"
    ]
    assert seen.max() == pytest.approx(1, abs=0.01)
    assert 1 - seen.min() == pytest.approx(max(depths), abs=0.02)


def test_images_smaller_than_the_patch_are_refused(
    images: Path, recipe_file: Path, dataset: Path, tmp_path: Path
) -> None:
    from gdn.recipes import Recipe, load_recipe
    from gdn.training.loop import RunOptions, train
    from gdn.training.patch_stream import open_stream

    recipe = load_recipe(str(recipe_file))
    large = recipe.model_copy(
        update={"network": recipe.network.model_copy(update={"sampling_angstrom": 1.1})}
    )
    with pytest.raises(ValueError, match=r"smallest image is 32\.0 Å wide, a patch up to 35\.2 Å"):
        open_stream(images, large)
    with pytest.raises(ValueError, match="smallest image"):
        train(large, RunOptions(run=tmp_path / "run", data=images))
    assert not (tmp_path / "run").exists()  # a better recipe may take its place
    theirs = recipe.model_dump() | {"specimen": {"source": "files"}}
    with pytest.raises(ValueError, match=r"has the scenes images.*simulate structures of your own"):
        open_stream(images, Recipe.model_validate(theirs))
    with pytest.raises(ValueError, match=r"has the scenes pt-ceo2.*simulate clean images"):
        open_stream(dataset, recipe)


def test_calibration_takes_views_of_the_images(images: Path) -> None:
    from gdn.evaluation.calibration_run import CalibrationTask, draw_clean_view
    from gdn.evaluation.noise_suite import STUDY_VACUUM
    from gdn.evaluation.spectrum_law import lesson_of

    card = find_model("pt-ceo2-64").card  # its patch is 25.6 Å, the images are 32 Å wide
    path = stored_scenes(images)[0]
    views = [
        draw_clean_view(
            CalibrationTask(number=0, path=path, view=view, model=Path("unused"), seed=0),
            card,
            np.random.default_rng(view),
        )
        for view in (0, 0, 1)
    ]
    np.testing.assert_array_equal(views[0], views[1])
    assert all(418 <= min(view.shape) <= 523 for view in views)
    assert views[0].max() == pytest.approx(STUDY_VACUUM, abs=0.01)
    lesson = lesson_of(path, 0, card.sampling_angstrom, card.patch)
    assert np.isfinite(lesson.features).all()
    assert lesson.wrong.any()
    again = lesson_of(path, 0, card.sampling_angstrom, card.patch)
    np.testing.assert_array_equal(again.features, lesson.features)


@pytest.mark.slow
def test_the_command_trains_on_clean_images(
    images: Path, recipe_file: Path, tmp_path: Path
) -> None:
    done = gdn("train", "--recipe", recipe_file, "--data", images, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "run" / "stats.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(last["fit"])

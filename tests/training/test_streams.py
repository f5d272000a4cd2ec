"""Streams of patches: what is drawn, and from which data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from gdn.simulation.dataset import open_dataset
from gdn.simulation.imaging import Optics
from gdn.simulation.simulate import seed_of_path
from tests.helpers.needs import needs_training

pytestmark = needs_training


def test_a_data_set_is_of_one_voltage_and_the_trainer_refuses_another(
    tmp_path: Path, dataset: Path, tiny_recipe: Path
) -> None:
    from gdn.recipes import Recipe, load_recipe
    from gdn.training.patch_stream import open_stream

    def of(**specimen: object) -> Recipe:
        return Recipe.model_validate(
            load_recipe(str(tiny_recipe)).model_dump() | {"specimen": specimen}
        )

    data = shutil.copytree(dataset, tmp_path / "data")
    open_stream(data, of()).close()  # as old ones, it has no dataset.json: 300 kV
    (data / "dataset.json").write_text('{"schema": 1, "seed": 9, "count": 5}')
    open_stream(data, of(energies_kv=[300])).close()
    open_dataset(data, 9, 5, 300.0, "abtem")  # as old ones, it does not say who made its waves
    with pytest.raises(ValueError, match=r"made at 300 kV, asked for 200 kV.*or 300 kV"):
        open_dataset(data, 9, 5, 200.0, "abtem")
    with pytest.raises(
        ValueError, match=r"made at 300 kV, the recipe is for 200 kV; .* or set energies_kv"
    ):
        open_stream(data, of(energies_kv=[200]))
    with pytest.raises(
        ValueError, match=r"'gdn simulate' does not make the recipe's 'any'.*sitting"
    ):
        open_stream(data, of(source="any", energies_kv=[300, 80]))
    with pytest.raises(
        ValueError,
        match=r"has the scenes pt-ceo2, the recipe pt-ceo2-wide.*simulate the scenes pt-ceo2-wide",
    ):
        open_stream(data, of(source="pt-ceo2-wide"))
    with pytest.raises(ValueError, match=r"has the scenes pt-ceo2, asked for pt-ceo2-wide"):
        open_dataset(data, 9, 5, 300.0, "abtem", "pt-ceo2-wide")
    (data / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="simulate it again"):
        open_stream(data, of())
    with pytest.raises(ValidationError, match="has one"):
        of(energies_kv=[300, 80])


@pytest.mark.slow
def test_streams_repeat_whatever_the_workers(dataset: Path, tiny_recipe: Path) -> None:
    from gdn.recipes import load_recipe
    from gdn.training.patch_stream import open_stream

    recipe = load_recipe(str(tiny_recipe))
    drawn = []
    for workers in (0, 1):
        stream = open_stream(dataset, recipe, workers)
        try:
            drawn.append(np.concatenate([stream.draw(16).images, stream.draw(16).images]))
            assert {seed_of_path(p) for p in stream.held_out} == {11}
            assert stream.validation(8).shape == (8, 1, 32, 32)
        finally:
            stream.close()
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (32, 1, 32, 32)
    assert np.abs(drawn[0]).max() < 1


def test_imaging_conditions_are_drawn_from_the_recipe(dataset: Path, tiny_recipe: Path) -> None:
    from gdn.recipes import Imaging, Recipe, load_recipe
    from gdn.training.patch_stream import open_stream

    # Stored data sets repeat: by default the numbers are drawn as they always were.
    usual = Optics.random(np.random.default_rng(3))
    rng = np.random.default_rng(3)
    assert (usual.defocus_nm, usual.spherical_um) == (rng.integers(0, 21), rng.uniform(-13, 3))
    assert [usual.astigmatism_nm, usual.astigmatism_degrees] == [
        abs(rng.normal(0, 1)),
        rng.uniform(0, 180),
    ]
    wide = load_recipe("wide-64").imaging
    drawn = [Optics.random(np.random.default_rng(seed), wide) for seed in range(200)]
    assert min(o.defocus_nm for o in drawn) < -10
    assert min(o.blur_angstrom for o in drawn) < 0.3
    largest = []
    for imaging in (Imaging(), Imaging(most_contrast=0.1)):
        recipe = Recipe.model_validate(
            load_recipe(str(tiny_recipe)).model_dump() | {"imaging": imaging.model_dump()}
        )
        stream = open_stream(dataset, recipe, 0)
        images = recipe.network.intensity_scale * stream.draw(32).images
        largest.append(np.abs(images).max((1, 2, 3)))
        stream.close()
    assert largest[0].max() > 0.15
    np.testing.assert_allclose(
        largest[1], np.minimum(largest[0], 0.1), atol=1e-3
    )  # patches are kept in half precision


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("defocus_nm = [20, 0]", "smaller number comes first"),
        ("blur_angstrom = [-1, 1]", "not below it"),
        ("fog = 1", "imaging.fog"),
    ],
)
def test_imaging_that_cannot_be_is_refused(tmp_path: Path, line: str, words: str) -> None:
    from gdn.recipes import load_recipe

    (tmp_path / "mine.toml").write_text(f'name = "mine"\n[imaging]\n{line}\n')
    with pytest.raises(ValueError, match=words) as caught:
        load_recipe(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_a_batch_does_not_depend_on_how_many_share_it(dataset: Path, tiny_recipe: Path) -> None:
    import torch

    from gdn.recipes import load_recipe
    from gdn.training.patch_stream import WaveStream
    from gdn.training.shared_randomness import Shards, StepDraws, seed_of

    recipe = load_recipe(str(tiny_recipe))
    alone = WaveStream(dataset, recipe)
    two, four = (
        [WaveStream(dataset, recipe, share=(rank, world)) for rank in range(world)]
        for world in (2, 4)
    )
    for _ in range(5):
        whole = alone.draw(16)
        for group in (two, four):
            parts = [stream.draw(16 // len(group)) for stream in group]
            np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images)
            np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), whole.labels)
    for group in (two, four):
        sets = [set(stream.structures) for stream in group]
        assert set.union(*sets) == set(alone.train)
        assert sum(len(one) for one in sets) == len(alone.train)
    assert seed_of(1, 2, 0) == 15529898885419721899  # whatever the interpreter
    for world in (2, 4):
        draws = [StepDraws((1, 2), Shards(4, rank, world), "cpu") for rank in range(world)]
        undivided = StepDraws((1, 2), Shards(4), "cpu")
        n = 16 // world
        mean = torch.linspace(0, 9, 16 * 3).reshape(16, 3)
        assert torch.equal(torch.cat([d.normal(n, 5) for d in draws]), undivided.normal(16, 5))
        assert torch.equal(torch.cat([d.uniform(n) for d in draws]), undivided.uniform(16))
        assert torch.equal(
            torch.cat([d.poisson(m) for d, m in zip(draws, mean.split(n), strict=True)]),
            undivided.poisson(mean),
        )
        assert torch.equal(torch.cat([d.first(n, 0.75) for d in draws]), undivided.first(16, 0.75))
        assert int(undivided.first(16, 0.75).sum()) == 12
        assert torch.equal(torch.cat([d.normal(n // 4, 5) for d in draws]), undivided.normal(4, 5))


def test_labels_follow_defocus_and_thickness(dataset: Path) -> None:
    from gdn.training.patch_cutting import Cut, wave_patches

    path = sorted((dataset / "waves").glob("*.npz"))[0]
    near, far = (
        wave_patches(path, Optics(defocus_nm=d), np.random.default_rng(0), 3, Cut(32, 0.4))[1]
        for d in (4, 16)
    )
    np.testing.assert_allclose(far[:, 0] - near[:, 0], 2)
    np.testing.assert_array_equal(far[:, 1], near[:, 1])


def test_large_patches_never_leave_the_cell() -> None:
    from gdn.training.patch_cutting import cut_angle

    rng = np.random.default_rng(0)
    angles = np.array([cut_angle(rng, 25.6, 64.0) for _ in range(500)])
    assert (25.6 * (np.abs(np.cos(angles)) + np.abs(np.sin(angles))) + 1 <= 32.001).all()
    assert np.ptp(np.array([cut_angle(rng, 12.8, 64.0) for _ in range(500)]) % (np.pi / 2)) > 1.4

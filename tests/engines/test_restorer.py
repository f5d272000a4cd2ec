"""The restorer: its folder, and running it on any size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gdn.engines.base import EngineError
from gdn.engines.restorer import RestorerSession, windows
from gdn.models import ModelError, RestorerModel, find_model, load_any, load_model, sha256_of
from gdn.search.restored import bin_by, binning, restore_counts, restore_frame
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import needs_training

pytestmark = needs_training


@pytest.fixture
def folder(tmp_path: Path, restorer: Path) -> Path:
    return Path(shutil.copytree(restorer, tmp_path / "restore"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_restorers_card_says_what_it_is(restorer: Path) -> None:
    card = load_any(restorer).card
    assert card.kind == "restorer"
    assert card.specimen.material == "any crystal"
    assert card.specimen.voltage_kv is None
    assert set(card.files) == {"restorer.onnx", "weights.safetensors"}
    assert (restorer / "restorer.onnx").stat().st_size < 2**15  # no weights in it
    assert find_model("pt-ceo2-64").card.kind == "generator"


def test_a_device_is_where_the_restorer_runs(
    restorer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime for cards, on a machine where the card cannot be used: it falls back in
    silence."""

    class OnProcessor:
        def __init__(self, *_: object, **options: object) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    model = load_any(restorer)
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    monkeypatch.setattr("onnxruntime.InferenceSession", OnProcessor)
    for driver in (False, True):
        monkeypatch.setattr("gdn.engines.restorer.has_driver", lambda driver=driver: driver)
        assert RestorerSession(model, "auto").device == "cpu"
        with pytest.raises(EngineError, match="the restorer cannot use device cuda"):
            RestorerSession(model, "cuda")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "generator"}, "latent"),
        ({"kind": "painter"}, "kind"),
        ({"schema_version": 3}, "schema_version"),
        ({"latent": 5}, "latent"),
        ({"multiple": 0}, "multiple"),
        ({"files": {}}, "lists no weights.safetensors"),
    ],
)
def test_cards_that_are_no_restorers_are_refused(
    folder: Path, changes: dict[str, object], words: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(ModelError, match=words):
        load_any(folder)


def test_a_restorer_is_no_generator(restorer: Path) -> None:
    with pytest.raises(ModelError, match="is a restorer; a generator is needed here"):
        load_model(restorer)


def test_a_changed_weight_is_refused(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="its sha256 is not the one"):
        load_any(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "restorer.onnx"])
def test_damage_that_the_hash_vouches_for_is_one_line(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x80\x04K\x01.")
    edit(
        folder,
        files=json.loads((folder / "model.json").read_text())["files"]
        | {name: sha256_of(folder / name)},
    )
    model = load_any(folder)
    assert isinstance(model, RestorerModel)
    with pytest.raises(EngineError) as caught:
        RestorerSession(model, "cpu", 1)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_not_exported(restorer_sitting: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(restorer_sitting, tmp_path / "sitting"))
    about = json.loads((source / "restore.json").read_text())
    (source / "restore.json").write_text(
        json.dumps(about | {"shape": {"widths": [8, 16], "blocks": [1, 1]}})
    )
    one_line(gdn("export", source, "-o", tmp_path / "out"), 2, "not the weights of a restorer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(48, 64), (37, 50), (3, 5)])
def test_any_size_is_torchs_image(
    restorer_sitting: Path, restorer_session: RestorerSession, shape: tuple[int, int]
) -> None:
    import torch
    from safetensors.torch import load_file

    from gdn.generator.onnx_files import round_to_half
    from gdn.generator.restorer_network import Restorer, RestorerShape

    network = Restorer(RestorerShape((8, 8), (1, 1)))
    network.load_state_dict(load_file(str(restorer_sitting / "restore.safetensors")))
    round_to_half(network)
    frame = np.random.default_rng(0).poisson(20.0, shape).astype(np.float32)
    sides = [max(n + -n % 4, 8) for n in shape]
    padded = np.pad(
        frame, [(0, m - n) for m, n in zip(sides, shape, strict=True)], mode="symmetric"
    )
    frames, mask = torch.zeros(1, 5, *sides), torch.zeros(1, 5, *sides)
    frames[0, 0], mask[0, 0] = torch.from_numpy(padded), 1
    with torch.no_grad():
        mean, deviation = (
            float(frame.mean()),
            float(frame.std()),
        )  # of the frame, not of what is mirrored
        standard = network.restore((frames - mean) / deviation * mask, mask).numpy()[
            0, 0, : shape[0], : shape[1]
        ]
        expected = mean + deviation * standard
    np.testing.assert_allclose(restorer_session.restore(frame[None]), expected, rtol=1e-4)


def test_wrong_arguments_say_what_is_expected(restorer_session: RestorerSession) -> None:
    frame = np.ones((16, 16), np.float32)
    with pytest.raises(ValueError, match="n from 1 to 5"):
        restorer_session.restore(frame)
    with pytest.raises(ValueError, match="the mask has the shape"):
        restorer_session.restore(frame[None], frame)
    with pytest.raises(ValueError, match="turns 3"):
        restorer_session.restore(frame[None], turns=3)


def test_turns_turn_back(restorer_session: RestorerSession) -> None:
    """A network that only multiplies by its own symmetry commutes with turns; a random one averages
    to a symmetric one."""
    frame = np.random.default_rng(1).poisson(30.0, (24, 32)).astype(np.float32)
    whole = restorer_session.restore(frame[None], turns=8)
    assert whole.shape == frame.shape
    turned = restorer_session.restore(np.ascontiguousarray(np.rot90(frame))[None], turns=8)
    np.testing.assert_allclose(np.rot90(whole), turned, rtol=1e-4)


@pytest.mark.parametrize("length", [64, 100, 260, 1000])
def test_windows_cover_an_axis_smoothly(length: int) -> None:
    found = windows(length // 4 * 4, 64, 24, 4)
    total = np.zeros(length // 4 * 4)
    for at, weight in found:
        assert at.start % 4 == 0
        assert at.stop - at.start == len(weight) <= max(64, length if len(found) == 1 else 0)
        total[at] += weight
    assert total.min() > 0.5


def test_no_seams_between_windows(restorer: Path) -> None:
    model = load_any(restorer)
    assert isinstance(model, RestorerModel)
    y, x = np.indices((150, 212))
    frame = (20 * (1 + 0.3 * np.cos(x / 3) * np.cos(y / 4))).astype(np.float32)
    whole = RestorerSession(model, "cpu", 1).restore(frame[None])
    cut = RestorerSession(model, "cpu", 1, largest=160, overlap=96).restore(frame[None])
    off = np.abs(cut - whole) / whole.std()
    assert off[8:-8, 8:-8].max() < 1e-3


def test_frames_are_binned_by_the_nearest_whole_number() -> None:
    assert [binning(s, 0.35) for s in (0.0612, 0.09, 0.2, 0.25, 0.35, 0.6)] == [6, 4, 2, 1, 1, 1]
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert bin_by(image, 2).shape == (2, 3)
    assert bin_by(image, 2)[0, 0] == image[:2, :2].sum()


def test_a_restored_frame_lies_on_its_own_grid(restorer_session: RestorerSession) -> None:
    """A network of no weight in its last layer gives the mean; the image keeps size, place and
    units."""
    frame = np.random.default_rng(2).poisson(3.0, (101, 87)).astype(np.uint8)
    image = restore_counts(frame, 0.0612, restorer_session)
    assert image.shape == frame.shape
    assert image.mean() == pytest.approx(frame.mean(), rel=0.2)
    np.testing.assert_array_equal(
        image, restore_counts(frame.astype(np.float32), 0.0612, restorer_session)
    )
    result = restore_frame(frame.astype(np.float32) * 7, 0.0612, restorer_session)
    assert result.estimate is None
    assert (result.raw_spread >= 0).all()
    assert result.raw_spread.shape == frame.shape

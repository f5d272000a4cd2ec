"""The restorer: its folder, running it on any size, and its share of the result."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import gdn, needs_training
from scipy.ndimage import gaussian_filter
from test_cli import FAST, one_line

from gdn.engines.base import EngineError
from gdn.engines.choose import open_engine
from gdn.engines.restorer import RestorerSession, _windows
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import Grids, bin_sum
from gdn.likelihood import POISSON
from gdn.models import ModelError, RestorerModel, find_model, load_any, load_model, sha256_of
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.open_models import beside_restorer
from gdn.pipeline.options import Options
from gdn.search.band_mixture import CENTRES, Mixing, bands, choose_mixing, mix_images
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.held_out_shares import Choice
from gdn.search.restored import RestorerCandidate, bin_by, binning, restore_counts, restore_frame
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded
from gdn.trust.held_out_score import denoise_part, recover_recorded

pytestmark = needs_training
SAMPLING = (0.4, 0.4)
NAMES = ("generator", "filter", "restore")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of a tiny restorer leaves: random weights."""
    import torch
    from safetensors.torch import save_file

    from gdn.training.restorer_network import Restorer, RestorerShape

    folder = tmp_path_factory.mktemp("sitting")
    torch.manual_seed(0)
    network = Restorer(RestorerShape((8, 8), (1, 1)))
    with torch.no_grad():
        network.leave.weight.normal_(0, 0.05)
    save_file(network.state_dict(), str(folder / "restore.safetensors"))
    about = {
        "shape": network.shape.record(),
        "sampling_angstrom": 0.35,
        "seeds": [0],
        "images": 0,
        "recipe": {"name": "none"},
    }
    (folder / "restore.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def restorer(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """Its model folder, by the command."""
    folder = tmp_path_factory.mktemp("models") / "restore"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        result = gdn("export", trained, "-o", folder)
    assert result.returncode == 0, result.stderr
    assert "a restorer" in result.stdout
    return folder


@pytest.fixture
def session(restorer: Path) -> RestorerSession:
    model = load_any(restorer)
    assert isinstance(model, RestorerModel)
    return RestorerSession(model, "cpu", 1)


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
    with pytest.raises(ModelError, match="a restorer; a generator is wanted here"):
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


def test_weights_of_another_shape_are_not_exported(trained: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(trained, tmp_path / "sitting"))
    about = json.loads((source / "restore.json").read_text())
    (source / "restore.json").write_text(
        json.dumps(about | {"shape": {"widths": [8, 16], "blocks": [1, 1]}})
    )
    one_line(gdn("export", source, "-o", tmp_path / "out"), 2, "not the weights of a restorer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(48, 64), (37, 50), (3, 5)])
def test_any_size_is_torchs_image(
    trained: Path, session: RestorerSession, shape: tuple[int, int]
) -> None:
    import torch
    from safetensors.torch import load_file

    from gdn.generator.onnx_files import round_to_half
    from gdn.training.restorer_network import Restorer, RestorerShape

    network = Restorer(RestorerShape((8, 8), (1, 1)))
    network.load_state_dict(load_file(str(trained / "restore.safetensors")))
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
    np.testing.assert_allclose(session.restore(frame[None]), expected, rtol=1e-4)


def test_wrong_arguments_say_what_is_expected(session: RestorerSession) -> None:
    frame = np.ones((16, 16), np.float32)
    with pytest.raises(ValueError, match="n from 1 to 5"):
        session.restore(frame)
    with pytest.raises(ValueError, match="a mask of shape"):
        session.restore(frame[None], frame)
    with pytest.raises(ValueError, match="turns 3"):
        session.restore(frame[None], turns=3)


def test_turns_turn_back(session: RestorerSession) -> None:
    """A network that only multiplies by its own symmetry commutes with turns; a random one averages
    to a symmetric one."""
    frame = np.random.default_rng(1).poisson(30.0, (24, 32)).astype(np.float32)
    whole = session.restore(frame[None], turns=8)
    assert whole.shape == frame.shape
    turned = session.restore(np.ascontiguousarray(np.rot90(frame))[None], turns=8)
    np.testing.assert_allclose(np.rot90(whole), turned, rtol=1e-4)


@pytest.mark.parametrize("length", [64, 100, 260, 1000])
def test_windows_cover_an_axis_smoothly(length: int) -> None:
    found = _windows(length // 4 * 4, 64, 24, 4)
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


def test_a_restored_frame_lies_on_its_own_grid(session: RestorerSession) -> None:
    """A network of no weight in its last layer gives the mean; the image keeps size, place and
    units."""
    frame = np.random.default_rng(2).poisson(3.0, (101, 87)).astype(np.uint8)
    image = restore_counts(frame, 0.0612, session)
    assert image.shape == frame.shape
    assert image.mean() == pytest.approx(frame.mean(), rel=0.2)
    np.testing.assert_array_equal(image, restore_counts(frame.astype(np.float32), 0.0612, session))
    result = restore_frame(frame.astype(np.float32) * 7, 0.0612, session)
    assert result.estimate is None
    assert (result.raw_spread >= 0).all()
    assert result.raw_spread.shape == frame.shape


# The mixture


def synthetic(seed: int = 0, size: int = 160) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A clean image (electrons per px) and another one."""
    rng = np.random.default_rng(seed)
    clean, other = (gaussian_filter(rng.standard_normal((size, size)), 2.0) for _ in range(2))
    return (
        np.maximum(20 * (1 + 0.2 * clean / clean.std()), 1).astype(np.float32),
        (other / other.std()).astype(np.float32),
        rng,
    )


def split_of(clean: np.ndarray, seed: int) -> tuple[object, Recorded]:
    counts = np.random.default_rng(seed).poisson(clean).astype(np.float32)
    return Recorded(counts, POISSON, Grids(clean.shape, clean.shape, 0.4)).split(seed)


def test_bands_sum_to_one() -> None:
    windows = list(bands((50, 70), SAMPLING))
    assert len(windows) == len(CENTRES)
    np.testing.assert_allclose(sum(windows), 1.0, atol=1e-12)


def test_the_truth_gets_the_weight() -> None:
    clean, wrong, _ = synthetic()
    parts, _ = split_of(clean, 1)
    images = [0.75 * (clean + 3 * wrong), gaussian_filter(parts.first, 3.0), 0.75 * clean]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    assert mixing.changed
    assert mixing.share("restore") > 0.9
    image, apart = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    assert np.square(image - clean).mean() < 0.05 * np.square(3 * wrong).mean()
    assert apart.min() >= 0
    record = mixing.record()
    assert json.loads(json.dumps(record)) == record
    assert record["alone_nats"]["restore"] > 100


def test_each_band_takes_its_own_candidate() -> None:
    """One candidate lacks the coarse part of the image, the other the fine one."""
    clean, _, rng = synthetic(3)
    coarse = (
        5
        * gaussian_filter(rng.standard_normal(clean.shape), 8)
        / gaussian_filter(rng.standard_normal(clean.shape), 8).std()
    )
    whole = (clean + coarse - coarse.min()).astype(np.float32)
    parts, _ = split_of(whole, 4)
    fine = whole - gaussian_filter(whole, 4) + whole.mean()
    images = [
        0.75 * fine,
        0.75 * np.full_like(whole, whole.mean()),
        0.75 * gaussian_filter(whole, 4),
    ]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    image, _ = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    errors = [np.square(im / 0.75 - whole).mean() for im in images]
    assert np.square(image - whole).mean() < 0.5 * min(errors)


@pytest.mark.parametrize("seed", range(6))
def test_garbage_changes_nothing(seed: int) -> None:
    """Within 0.05 dB of the result without it, also where the generator is good but not perfect."""
    clean, wrong, _ = synthetic(seed)
    parts, _ = split_of(clean, seed + 10)
    good = clean + 0.3 * wrong
    images = [
        0.75 * good,
        gaussian_filter(parts.first, 2.0),
        0.75 * np.random.default_rng(seed).permuted(clean),
    ]
    mixing = choose_mixing(parts, images, NAMES, Choice(), SAMPLING)
    image, _ = mix_images([im / 0.75 for im in images], mixing, SAMPLING)
    before, after = (float(np.square(im - clean).mean()) for im in (good, image))
    assert 10 * np.log10(after / before) < 0.05
    assert mixing.share("restore") < 0.1


def test_weights_lie_on_the_simplex() -> None:
    clean, wrong, _ = synthetic(7)
    parts, _ = split_of(clean, 7)
    images = [
        0.75 * (clean + wrong),
        0.75 * (clean + wrong),
        0.75 * (clean - wrong),
        parts.first,
    ]  # two the same
    mixing = choose_mixing(parts, images, (*NAMES, "another"), Choice(share=0.5), SAMPLING)
    assert (mixing.weights >= 0).all()
    np.testing.assert_allclose(mixing.weights.sum(1), 1)
    assert mixing.prior.tolist() == [0.5, 0.5, 0, 0]


class Truth:
    """A candidate that knows the clean frame (electrons per recorded pixel), of the share of counts
    it is given."""

    name = "truth"

    def __init__(self, clean: np.ndarray) -> None:
        self.clean = clean
        self.asked: list[int] = []

    def __call__(self, recorded: Recorded) -> np.ndarray:
        self.asked.append(recorded.depth)
        return bin_sum(self.clean, recorded.grids) * np.float32(0.75**recorded.depth)


def test_a_result_is_mixed_and_scored_with_all_its_candidates() -> None:
    frame = demo_frames()[1]
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    cut = np.ascontiguousarray(frame.image[:430, :440])
    noisy, truth = DEMO_NOISE.apply(cut, 3), Truth(cut)
    alone = denoise_frame(noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank))
    result = denoise_frame(
        noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank, others=[truth])
    )
    assert alone.mixing is None
    assert isinstance(result.mixing, Mixing)
    assert result.mixing.share("truth") > 0.7
    before, after = (float(np.square(r.image - cut).mean()) for r in (alone, result))
    assert after < 0.3 * before
    assert alone.estimate is not None
    assert result.estimate is not None
    # What the p-value is made of is the generator's own.
    np.testing.assert_array_equal(result.estimate.generated, alone.estimate.generated)
    np.testing.assert_array_equal(result.estimate.added, alone.estimate.added)
    assert (result.estimate.raw_spread >= alone.estimate.raw_spread).all()
    truth.asked.clear()
    halves = denoise_part(
        result.estimate,
        lambda: recover_recorded(noisy, result),
        0,
        Searcher(engine=engine, bank=bank, others=[truth]),
    )
    assert truth.asked == [
        2
    ]  # of the part's part: its image of the part is that by which the mixture was chosen
    assert (
        np.square(halves.mine - bin_sum(cut, result.grids)).mean()
        < 0.3 * before * result.grids.area**2
    )


def test_a_restorer_of_random_weights_costs_nothing(session: RestorerSession) -> None:
    frame = demo_frames()[0]
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    cut = np.ascontiguousarray(frame.image[:430, :430])
    noisy = DEMO_NOISE.apply(cut, 5)
    images = [
        denoise_frame(
            noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank, others=others)
        ).image
        for others in ([], [RestorerCandidate(session)])
    ]
    before, after = (float(np.square(image - cut).mean()) for image in images)
    assert 10 * np.log10(after / before) < 0.05


# The command


def test_denoise_with_a_restorer_beside_a_generator(
    frame_file: Path, restorer: Path, tmp_path: Path
) -> None:
    result = gdn(
        "denoise",
        frame_file,
        *FAST,
        "--model",
        f"pt-ceo2-64,{restorer}",
        "--report",
        "-o",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "frame.json").read_text())
    assert record["model"]["name"] == "pt-ceo2-64"
    assert [other["name"] for other in record["others"]] == ["collaborative", "restore"]
    assert set(record["frames"][0]["mixture"]["shares"]) == {*NAMES, "collaborative"}
    again = gdn("denoise", frame_file, *FAST, "--model", "pt-ceo2-64", "--resume", "-o", tmp_path)
    assert "complete already" not in again.stderr  # another mixture is another result


def test_denoise_by_a_restorer_alone(frame_file: Path, restorer: Path, tmp_path: Path) -> None:
    result = gdn(
        "denoise", frame_file, *FAST, "--model", restorer, "--json", "--report", "-o", tmp_path
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["model"] == "restore"
    assert row["objective"] is None
    image = tifffile.imread(tmp_path / "frame_denoised.tif")
    assert image.shape == (220, 240)
    assert np.isfinite(tifffile.imread(tmp_path / "frame_spread.tif")).all()
    assert (tmp_path / "report.html").exists()
    done = gdn("denoise", frame_file, *FAST, "--model", restorer, "--resume", "-o", tmp_path)
    assert "complete already" in done.stderr
    one_line(
        gdn("denoise", frame_file, "--model", restorer, "--atoms", "-o", tmp_path / "x"),
        2,
        "--atoms",
        "a restorer alone cannot do this",
    )
    one_line(gdn("demo", "--model", restorer, "-o", tmp_path / "x"), 2, "shows a generator")


def other_crystal() -> np.ndarray:
    """A particle of 16 Å with two kinds of columns in the manner of HAADF, 300x300 px of 0.14 Å,
    which no generator has seen."""
    y, x = np.mgrid[:300, :300] * 0.14 - 21
    image = np.full((300, 300), 0.1)
    for (dy, dx), strength, width in (((0, 0), 0.8, 0.5), ((1.4, 2.3), 0.35, 0.45)):
        cy, cx = dy + 2.8 * np.round((y - dy) / 2.8), dx + 4.6 * np.round((x - dx) / 4.6)
        image += (
            strength
            * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
            * (np.hypot(cy, cx) < 8)
        )
    return image.astype(np.float32)


def test_on_another_specimen_the_shipped_restorer_has_the_most_to_say() -> None:
    clean, sampling = other_crystal(), 0.14
    noisy = DEMO_NOISE.apply(clean, 7)
    generator = find_model("pt-ceo2-64")
    options = Options(restarts=16, cache=False, threads=1)
    results = []
    for models in ([generator], beside_restorer(generator)):
        with Denoiser.of(models, options) as denoiser:
            results.append(denoiser.for_recording(noisy, sampling).search(noisy, sampling))
    without, result = results
    assert result.mixing is not None
    shares = {name: result.mixing.share(name) for name in result.mixing.names}
    assert max(shares, key=lambda name: shares[name]) == "restore", shares
    before, after = (float(np.square(r.image - clean).mean()) for r in (without, result))
    assert after < 0.8 * before  # 1 dB

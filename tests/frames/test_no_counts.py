"""Frames that are not what a counting detector gives: regions that are no counts, inverted
contrast, a level that is free, and frames with nothing in them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import rotate

from gdn.errors import EmptyFrame, InputError
from gdn.evaluation.demo import demo_frames
from gdn.frames.bad_pixels import find_defects
from gdn.frames.constant_regions import find_constant_regions
from gdn.frames.examined import examine
from gdn.frames.noise import noise_of, parse_noise
from gdn.frames.pixel_mask import PixelMask, read_mask
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.result_check import check_result
from tests.helpers.commands import FAST, gdn
from tests.helpers.frames import noisy_frame

Mask = NDArray[np.bool_]
SAMPLING = 0.0612


def clean(side: int = 400) -> NDArray[np.float32]:
    """A part of the first frame of the demonstration, mean 1."""
    image = demo_frames()[0].image[200 : 200 + side, 200 : 200 + side]
    return np.asarray(image / image.mean(), dtype=np.float32)


def counts(dose: float, seed: int = 0, side: int = 400) -> NDArray[np.float32]:
    return np.random.default_rng(seed).poisson(dose * clean(side)).astype(np.float32)


def masks(side: int = 400) -> dict[str, Mask]:
    y, x = np.mgrid[:side, :side]
    radius = np.hypot(y - side / 2, x - side / 2)
    return {
        "border": (y < 30) | (x >= side - 25),
        "aperture": radius > 190,
        "beam stop": radius < 60,
        "gap": (y >= 200) & (y < 203),
        "quadrant": (y >= side // 2) & (x >= side // 2),
        "corners": rotate(np.ones((side, side)), 12, reshape=False, order=0) < 0.5,
    }


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("dose", [0.45, 5.0])
@pytest.mark.parametrize("value", [0.0, 5.0, 255.0, -1.0])
def test_regions_of_any_value_are_no_counts(name: str, dose: float, value: float) -> None:
    frame, mask = counts(dose), masks()[name]
    frame[mask] = value
    defects, _, noise = examine(frame)
    assert defects.bad is not None
    assert not (mask & ~defects.bad).any()
    assert (defects.bad & ~mask).sum() < 0.05 * mask.size
    assert (noise.kind, noise.gain) == ("poisson", 1.0)
    assert f"({100 * defects.bad.mean():.2g} % of the frame)" in defects.notes[-1]


@pytest.mark.parametrize("dose", [0.0045, 0.045, 0.45, 4.5, 45.0])
def test_pixels_of_one_value_by_chance_are_counts(dose: float) -> None:
    for seed in range(3):
        frame = counts(dose, seed)
        assert find_constant_regions(frame, np.zeros(frame.shape, bool)) == []
        assert find_defects(frame).bad is None


def test_an_empty_vacuum_that_holds_a_few_counts_is_recorded() -> None:
    mean = np.where(np.arange(400) < 200, 20, 0.01) * np.ones((400, 1))
    assert find_defects(np.random.default_rng(0).poisson(mean).astype(np.float32)).bad is None


@pytest.mark.parametrize("ceiling", [60.0, 777.0, 3000.0])
def test_flat_tops_are_found_at_any_value(ceiling: float) -> None:
    frame = counts(20.0)
    frame[100:110, 50:60], frame[300:302, 300:303] = 1e6, 1e6
    found = find_defects(np.minimum(frame, np.float32(ceiling)))
    assert found.bad is not None
    assert found.bad.sum() == 106
    assert "saturated" in found.notes[0]


def test_a_rim_mixed_by_interpolation_goes_with_its_region() -> None:
    frame = counts(50.0)
    frame[:40] = 0
    frame[40] /= 2
    found = find_defects(frame)
    assert found.bad is not None
    assert found.bad[:41].all()
    assert found.bad.sum() == 41 * 400


def test_a_masked_frame_is_as_good_as_a_whole_one_where_it_was_recorded() -> None:
    frame = counts(5.0)
    broken = frame.copy()
    broken[:60], broken[:, -40:] = 0, 0
    with Denoiser(model="pt-ceo2-64", restarts=16, threads=1, cache=False, score=False) as denoiser:
        whole, part = (denoiser.denoise(image, SAMPLING) for image in (frame, broken))
    error = [
        float(np.sqrt(((one.image - 5 * clean())[130:, :290] ** 2).mean())) for one in (whole, part)
    ]
    assert error[1] < 1.5 * error[0]
    assert part.dose == pytest.approx(whole.dose, rel=0.02)
    assert np.isfinite(part.image).all()
    assert part.image[:60].mean() == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("settings", [{"model": "restore"}, {"method": "original"}])
def test_every_method_leaves_regions_out(settings: dict[str, str]) -> None:
    frame = counts(5.0, side=200)
    frame[:50] = 0
    few = {"original_steps": "1,2,2"} if "method" in settings else {}
    with Denoiser(restarts=8, threads=1, cache=False, fill="nan", **few, **settings) as denoiser:
        result = denoiser.denoise(frame, SAMPLING)
    assert np.isnan(result.image[:50]).all()
    assert result.image[54:].mean() == pytest.approx(5, rel=0.03)


@pytest.mark.slow
def test_half_a_frame_of_nan_is_left_out_and_left_empty(tmp_path: Path) -> None:
    frame = noisy_frame((200, 200)).astype(np.float32)
    frame[:, :110] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", frame)
    common = (*FAST, "--sampling", "0.1", "--json", "--report", "--intervals", "90")
    result = gdn("denoise", tmp_path / "a.tif", *common, "--fill", "nan")
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert any("22000 missing (NaN) pixels are left out, NaN in the" in w for w in row["warnings"])
    for name in ("denoised", "spread", "interval90"):
        path = next(tmp_path.glob(f"a_{name}*.tif"))
        np.testing.assert_array_equal(np.isnan(tifffile.imread(path)), np.isnan(frame))
    assert "NaN" not in (tmp_path / "a_gdn.json").read_text().replace("(NaN)", "").replace(
        ", NaN", ""
    )
    refused = gdn("denoise", tmp_path / "a.tif", *FAST, "--fill", "nan", "--dtype", "uint16")
    assert refused.returncode == 2
    assert "--fill nan: uint16 cannot hold NaN" in " ".join(refused.stderr.split())


@pytest.mark.slow
def test_a_mask_is_left_out_of_every_frame(tmp_path: Path) -> None:
    stack = np.stack([noisy_frame((150, 150), seed) for seed in (0, 1)])
    mask = np.zeros((150, 150), np.uint8)
    mask[60:90, 60:90] = 7
    tifffile.imwrite(tmp_path / "s.tif", stack)
    tifffile.imwrite(tmp_path / "m.tif", mask)
    common = (tmp_path / "s.tif", *FAST, "--sampling", "0.1", "--json", "--overwrite")
    result = gdn("denoise", *common, "--mask", tmp_path / "m.tif")
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        assert any("900 missing (NaN) or masked (m.tif)" in w for w in json.loads(line)["warnings"])
    search = json.loads((tmp_path / "s_gdn.json").read_text())["search"]
    assert (search["mask"], len(search["mask_sha256"])) == ("m.tif", 64)
    tifffile.imwrite(tmp_path / "m.tif", mask[1:])
    result = gdn("denoise", *common, "--mask", tmp_path / "m.tif")
    assert result.returncode == 1
    assert "the mask m.tif has 149x150 px, the frame 150x150" in " ".join(result.stderr.split())
    result = gdn("denoise", *common, "--mask", tmp_path / "s.tif")
    assert result.returncode == 2
    assert "2 images; a mask must be one image" in " ".join(result.stderr.split())


def test_a_mask_is_packed_and_compared(tmp_path: Path) -> None:
    masked = np.random.default_rng(0).random((17, 31)) > 0.5
    tifffile.imwrite(tmp_path / "m.tif", masked.astype(np.uint8))
    mask = read_mask(tmp_path / "m.tif")
    np.testing.assert_array_equal(mask.masked, masked)
    assert mask == PixelMask.of("m.tif", masked) == pickle.loads(pickle.dumps(mask))
    assert mask.identity != PixelMask.of("m.tif", ~masked).identity


@pytest.mark.parametrize("top", [0.0, 255.0, 65535.0])
@pytest.mark.parametrize("dose", [0.045, 0.45, 5.0])
def test_inverted_counts_have_a_negative_gain(top: float, dose: float) -> None:
    electrons = counts(dose)
    for wanted in (None, parse_noise("poisson")):
        noise = noise_of(np.float32(top) - electrons, wanted)
        assert (noise.kind, noise.gain, noise.offset) == ("poisson", -1.0, top)
    np.testing.assert_allclose(noise.electrons(np.float32(top) - electrons), electrons)
    assert "inverted" in noise.notes[0]


def test_inverted_counts_come_back_as_the_mirror_image_of_counts() -> None:
    electrons = counts(5.0, side=300)
    with Denoiser(model="pt-ceo2-64", restarts=16, threads=1, cache=False, score=False) as denoiser:
        upright, inverted = (
            denoiser.denoise(image, SAMPLING) for image in (electrons, 255 - electrons)
        )
    np.testing.assert_allclose(inverted.image, 255 - upright.image, atol=1e-3)
    assert upright.spread is not None
    assert inverted.spread is not None
    np.testing.assert_allclose(inverted.spread, upright.spread, atol=1e-3)
    assert any("inverted" in w for w in inverted.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["auto", "gaussian:1"])
def test_an_affine_map_of_a_normalised_frame_is_one_of_its_result(noise: str) -> None:
    electrons = counts(400.0, side=300)
    frame = (electrons - electrons.mean()) / electrons.std()
    scale = 1.0 if noise != "auto" else 64.0
    settings = {"model": "pt-ceo2-64", "restarts": 16, "threads": 1, "cache": False}
    with Denoiser(score=False, noise=noise, **settings) as denoiser:
        results = [denoiser.denoise(scale * frame + b, SAMPLING).image for b in (0.0, -3.0)]
    truth = (400 * clean(300) - electrons.mean()) / electrons.std()
    for image, b in zip(results, (0.0, -3.0), strict=True):
        assert np.sqrt((((image - b) / scale - truth) ** 2).mean()) < 0.3 * truth.std()
    np.testing.assert_allclose(results[1] + 3, results[0], atol=0.05 * scale)


@pytest.mark.parametrize("unit", [1e-12, 1e-20, 1e15])
@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_the_size_of_the_units_does_not_matter(unit: float, kind: str) -> None:
    clean_frame = clean()
    if kind == "poisson":
        frame = counts(5.0)
    else:
        noise = 0.2 * np.random.default_rng(0).standard_normal(clean_frame.shape)
        frame = np.asarray(clean_frame + noise, dtype=np.float32)
    one, other = noise_of(frame, None), noise_of((frame * unit).astype(np.float32), None)
    assert other.kind == one.kind == kind
    assert other.law.beta == pytest.approx(
        one.law.beta / (1 if kind == "poisson" else other.gain**2 / unit**2), rel=0.01
    )
    assert other.electrons((frame * unit).astype(np.float32)).mean() > 0.01


def test_frames_with_nothing_in_them_are_said_to_be_so() -> None:
    blanked = np.zeros((64, 64), np.float32)
    blanked[5, 5] = 1
    ramp = np.arange(64, dtype=np.float32)[None] + np.zeros((64, 1), np.float32)
    lost = counts(5.0, side=64)
    lost[:62] = np.nan
    cases = (
        (np.full((64, 64), 3, np.float32), "constant (every pixel is 3)"),
        (blanked, "all but 1 of 4096 pixels are 0"),
        (ramp, "no noise"),
        (lost, "only 128 of 4096 pixels are counts"),
    )
    for frame, words in cases:
        for noise in (None, parse_noise("poisson"), parse_noise("gaussian")):
            with pytest.raises(EmptyFrame) as raised:
                examine(frame, noise)
            assert words in str(raised.value)
    again = pickle.loads(pickle.dumps(EmptyFrame("constant")))
    assert (type(again), str(again)) == (EmptyFrame, "constant")


@pytest.mark.parametrize("noise", ["auto", "poisson", "gaussian", "poisson-gaussian"])
def test_a_few_stray_counts_come_back_finite(noise: str) -> None:
    frame = counts(2e-4)
    assert 10 < frame.sum() < 100
    with Denoiser(model="pt-ceo2-64", restarts=8, threads=1, cache=False, noise=noise) as denoiser:
        result = denoiser.denoise(frame, SAMPLING)
    assert np.isfinite(result.image).all()
    json.dumps(result.record, allow_nan=False)


def test_a_result_whose_scale_is_wrong_is_refused() -> None:
    frame = counts(5.0, side=150)
    with Denoiser(model="pt-ceo2-64", restarts=8, threads=1, cache=False, score=False) as denoiser:
        judged = denoiser.for_recording(frame, SAMPLING).denoise(frame, SAMPLING)
    result, trust = judged.result, judged.trust
    check_result(frame, result, trust)
    with pytest.raises(InputError, match=r"mean is 9\.9"):
        check_result(frame, replace(result, image=2 * result.image), trust)
    with pytest.raises(InputError, match="not finite"):
        check_result(frame, replace(result, image=result.image * np.nan), trust)


def test_empty_frames_of_a_stack_come_back_flat_and_say_why(tmp_path: Path) -> None:
    stack = np.stack([noisy_frame((150, 150))] * 4).astype(np.float32)
    stack[1], stack[2], stack[3, :140] = 2, 0, np.nan
    stack[2, 70, 70] = 9
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    result = gdn("denoise", tmp_path / "s.tif", *FAST, "--sampling", "0.1", "--json")
    assert result.returncode == 0, result.stderr
    words = [" ".join(json.loads(line)["warnings"]) for line in result.stdout.splitlines()]
    reasons = ("is constant", "all but 1 of 22500 pixels", "21000 NaN or infinite")
    for number, reason in enumerate(reasons, 1):
        assert reason in words[number]
        assert words[number].count(f"frame {number}") == 1
    image = tifffile.imread(tmp_path / "s_denoised.tif")
    assert image[0].std() > 0
    for flat, frame in zip(image[1:], stack[1:], strict=True):
        np.testing.assert_allclose(flat, np.nanmean(frame), rtol=1e-6)

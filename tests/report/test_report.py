"""The report of a run: complete, self-contained, not too large, and rendered by a real browser."""

from __future__ import annotations

import base64
import io
import pickle
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON
from gdn.pipeline.recording import JudgedFrame
from gdn.report.charts import histogram, ranked
from gdn.report.html import ReportedRun, page, write_report
from gdn.report.ledger import PICTURES, Ledger
from gdn.report.shares import FLAT, PALETTE, legend, share_picture
from gdn.search.band_mixture import Mixing
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate, Mixed, TileFit
from gdn.search.held_out_shares import Choice
from gdn.search.share_map import ShareMap
from gdn.search.tiles import Binned, tile_frame
from gdn.trust.atoms import Atoms
from gdn.trust.columns import find_columns
from gdn.trust.evidence import Evidence
from gdn.trust.fit import Explained
from gdn.trust.held_out_score import Comparison, Expected
from gdn.trust.judge import Trust

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def judged_frame(side: int, p: float = 0.4, seed: int = 2) -> tuple[np.ndarray, FrameResult, Trust]:
    """A frame of `side` px with a lattice, and a judgement of it, without a search."""
    rng = np.random.default_rng(seed)
    grids = grids_for((side, side), 0.0612, 0.4)
    rows = grids.binned_shape[0]
    y, x = np.indices((rows, rows))
    image = (19 * (1 + 0.2 * np.cos(y * 1.05) * np.cos(x * 1.05))).astype(np.float32)
    counts = rng.poisson(image).astype(np.float32)
    tiling = tile_frame((rows, rows), 128, 64)
    n = len(tiling.corners)
    fit = TileFit(
        objective=np.zeros(n),
        energy=np.ones(n),
        dose=np.full(n, 19.0),
        objectives=rng.normal(5, 1, 4 * n),
        tile=np.repeat(np.arange(n), 4),
        bank_share=0.0,
    )
    found = Estimate(
        binned=Binned(counts, POISSON),
        tiling=tiling,
        image=image,
        dose=19.0,
        generated=image,
        added=0 * image,
        restarts=0.1 * image,
        laplace=0 * image,
        choice=Choice(),
        fit=fit,
    )
    fine = np.kron(image / 19, np.ones((8, 8), np.float32))[:side, :side]
    result = FrameResult(
        image=fine,
        raw_spread=0.1 * fine,
        noise=NoiseModel(kind="poisson"),
        grids=grids,
        dose=0.45,
        objective=-1.0,
        objectives=[-1.0],
        bank_share=0.0,
        residual_share=0.0,
        held_out=Choice(),
        tiles=n,
        estimate=found,
    )
    columns = find_columns(image / 19, 0.4)
    one = np.ones(len(columns))
    evidence = Evidence(nats=one, information=one, doubt=one, relative=one, amplitude=one)
    verdict = np.resize(np.array(["present", "cannot tell", "absent"]), len(columns))
    atoms = Atoms(
        yx_px=columns.yx / 0.0612,
        sampling_angstrom=0.0612,
        columns=columns,
        evidence=evidence,
        position_error=0.05 * one,
        probability=one,
        verdict=verdict,
        rate=0.05,
    )
    scores = [
        Comparison(
            against="best blur", difference=4e-3, error=4e-4, expected=6e-4, nats=100, nats_error=9
        ),
        Comparison(
            against="constant", difference=1e-4, error=4e-4, expected=6e-4, nats=1, nats_error=9
        ),
    ]
    words = ["<b>not</b> explained & so on"] if p < 0.01 else []
    trust = Trust(
        spread=result.raw_spread,
        intervals={},
        calibrated=True,
        fit=Explained(p, np.full(n, p), 0 * image),
        scores=scores,
        atoms=atoms,
        own=Expected(6e-4, 1e-4),
        warnings=words,
    )
    return rng.poisson(0.45 * fine).astype(np.float32), result, trust


def ledger_of(frames: int, side: int) -> Ledger:
    ledger = Ledger(keep=True)
    for n in range(frames):
        frame, result, trust = judged_frame(side, 0.001 if n == 1 else 0.4, n)
        ledger(Path(f"frame {n} <&>.tif"), 0, frame, JudgedFrame(result, trust))
    return ledger


@pytest.fixture(scope="module")
def twenty() -> Ledger:
    return ledger_of(20, 1200)


def test_twenty_large_frames_make_one_small_page(twenty: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(
        path,
        ReportedRun("gdn: 20 frames", [("command", "gdn denoise 'a <b>.tif'"), ("seed", "0")]),
        twenty,
    )
    assert path.stat().st_size < 30e6
    text = path.read_text()
    # Self-contained: nothing is fetched, no script runs.
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<script" not in text
    assert "<b>" not in text  # file names and warnings are text
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 20 * 6
    for encoded in pictures[:6]:
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).size[0] > 300
    for said in (
        "cannot be told apart",
        "better than the best blur",
        "cannot be explained by the generator",
        "&lt;b&gt;not&lt;/b&gt;",
    ):
        assert said in text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not rendered")
def test_a_browser_renders_it(twenty: Ledger, tmp_path: Path) -> None:
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    write_report(path, ReportedRun("gdn: 20 frames", []), twenty)
    assert BROWSER is not None
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    # The page is measured from inside by the browser: a copy of it reports what was laid out.
    probe = (
        "<script>addEventListener('load',()=>{const "
        "i=[...document.images];document.title=[i.length,"
        "i.filter(e=>e.complete&&e.naturalWidth>0&&e.getBoundingClientRect().width>100).length,"
        "[...document.querySelectorAll('svg')].filter(e=>e.getBoundingClientRect().height>50).length,"
        "document.documentElement.scrollWidth<=innerWidth].join()})</script>"
    )
    copy = tmp_path / "probe.html"
    copy.write_text(path.read_text().replace("</body>", probe + "</body>"))
    done = subprocess.run(
        [
            BROWSER,
            *options,
            "--window-size=1300,900",
            "--virtual-time-budget=20000",
            "--dump-dom",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr[-500:]
    assert title[1] == "120,120,40,true"
    subprocess.run(
        [BROWSER, *options, "--window-size=1300,1600", f"--screenshot={shot}", path.as_uri()],
        capture_output=True,
        timeout=120,
        check=False,
    )
    picture = np.asarray(Image.open(shot).convert("L"), dtype=float)
    assert picture.shape == (1600, 1300)
    assert 0.02 < (picture < 128).mean() < 0.8  # neither blank nor black


def test_more_frames_than_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdn.report.ledger.PICTURES", 2)
    assert PICTURES == 40
    text = page(ReportedRun("t", []), ledger_of(3, 300))
    assert text.count("<section id=") == 2
    assert "1 further frames" in text


def test_a_result_without_an_estimate_has_its_place() -> None:
    frame, result, _ = judged_frame(300)
    words = ["the original method has no spread"]
    bare = Trust(
        spread=np.full_like(frame, np.nan),
        intervals={},
        calibrated=False,
        fit=None,
        scores=[],
        atoms=None,
        own=Expected(float("nan")),
        warnings=words,
    )
    ledger = Ledger(keep=True)
    ledger(Path("a.tif"), 0, frame, JudgedFrame(replace(result, estimate=None), bare))
    assert "the original method has no spread" in page(ReportedRun("t", []), ledger)
    assert ledger.words() == []


def test_charts_of_nothing() -> None:
    assert "<svg" in histogram(np.zeros(0), "title <", "x")
    assert "&lt;" in histogram(np.zeros(0), "title <", "x")
    assert "<svg" in ranked(np.zeros(1), "t", "x")


def shares_of(names: tuple[str, ...], overall: tuple[float, ...]) -> ShareMap:
    """A map of 40 x 60 px with the same shares everywhere, the last rows without contrast."""
    shares = np.broadcast_to(np.array(overall)[:, None, None] * 255, (len(names), 40, 60))
    contrast = np.full((40, 60), 255, np.uint8)
    contrast[30:] = 0
    return ShareMap(names=names, overall=overall, shares=shares.astype(np.uint8), contrast=contrast)


def test_squares_are_as_many_as_the_shares() -> None:
    picture = share_picture(shares_of(("restore", "generator"), (0.7, 0.3)), (290, 193))
    assert picture.size == (290, 193)
    pixels = np.asarray(picture)
    assert (pixels[160:] == FLAT).all()
    for name, share in (("restore", 0.7), ("generator", 0.3)):
        found = (pixels[:140] == PALETTE[name]).all(-1).mean()
        assert abs(found - share) < 0.02


def test_colours_stay_with_their_candidates() -> None:
    first = legend(shares_of(("restore", "5 neighbours", "mine"), (0.5, 0.3, 0.2)))
    other = legend(shares_of(("3 neighbours", "9 frames", "restore"), (0.5, 0.3, 0.2)))
    assert first[0].colour == other[2].colour
    assert first[1].colour == other[0].colour
    assert len({line.colour for line in first}) == 3


def test_the_map_of_shares_has_its_place_and_legend() -> None:
    frame, result, trust = judged_frame(300)
    estimate = result.estimate
    assert estimate is not None
    weights = np.full((1, 2), 0.5)
    mixing = Mixing(
        names=("generator", "<mine>"),
        weights=weights,
        prior=weights[0],
        gain=np.zeros(1),
        alone=weights,
        contrast=np.ones(1),
    )
    shares = shares_of(("generator", "<mine>"), (0.62, 0.38))
    mixed = Mixed(image=estimate.image, disagreement=0 * estimate.image, mixing=mixing, map=shares)
    ledger = Ledger(keep=True)
    its = replace(result, estimate=replace(estimate, mixed=mixed))
    ledger(Path("a.tif"), 0, frame, JudgedFrame(its, trust))
    travelled = pickle.loads(pickle.dumps(ledger.entries))  # as from a cluster's worker
    text = page(ReportedRun("t", []), Ledger(keep=True, entries=travelled))
    assert "generator 62%" in text
    assert "&lt;mine&gt; 38%" in text
    assert text.count("data:image/png") == 1
    ledger(Path("b.tif"), 0, frame, JudgedFrame(result, trust))  # one candidate alone: no map
    assert page(ReportedRun("t", []), ledger).count("data:image/png") == 1

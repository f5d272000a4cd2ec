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
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON
from gdn.pipeline.recording import JudgedFrame
from gdn.report.charts import histogram, ranked
from gdn.report.html import ReportedRun, page, write_report
from gdn.report.ledger import PICTURES, Ledger, decibels
from gdn.report.shares import FLAT, PALETTE, legend, share_picture
from gdn.report.style import policy
from gdn.search.band_mixture import Mixing
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate, Mixed, TileFit
from gdn.search.held_out_shares import Choice
from gdn.search.share_map import ShareMap
from gdn.search.tiles import Binned, tile_frame
from gdn.trust.atoms import Atoms
from gdn.trust.columns import find_columns
from gdn.trust.comparison import Comparison, Expected
from gdn.trust.evidence import ColumnEvidence
from gdn.trust.fit import Explained
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
    evidence = ColumnEvidence(nats=one, information=one, doubt=one, relative=one, amplitude=one)
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


@pytest.mark.slow
def test_twenty_large_frames_make_one_small_page(twenty: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(
        path,
        ReportedRun(
            title="gdn: 20 frames",
            facts=[("seed", "0")],
            commands=["gdn denoise 'a <b>.tif'"],
            models={"frame 0 <&>.tif [0]": "mine"},
        ),
        twenty,
    )
    assert path.stat().st_size < 20e6  # below 1 MB a frame
    text = path.read_text()
    # Self-contained: nothing is fetched, and no script runs but the page's own.
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert text.count("<script") == 1
    assert policy() in text
    assert "<b>" not in text  # file names and warnings are text
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 20 * 8
    for encoded in pictures[:6]:
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).size[0] > 300
    for said in (
        "cannot be told apart",
        "better than the best blur",
        "cannot be explained by the generator",
        "&lt;b&gt;not&lt;/b&gt;",
        "<pre>gdn denoise &#x27;a &lt;b&gt;.tif&#x27;</pre>",
        "error expected, % of the vacuum level",
        "0.45 e/px, 120 e/Å²; model mine",
        "1200 x 1200 px of 0.0612 Å (7.34 x 7.34 nm)",
        "pixel size (--sampling)",  # what to do about the frame that is not explained
    ):
        assert said in text


def browse(tmp_path: Path, *arguments: str) -> str:
    """What the browser writes about a page."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not rendered")
@pytest.mark.parametrize(("width", "dark"), [(1300, False), (500, True)])
def test_a_browser_renders_it(twenty: Ledger, tmp_path: Path, width: int, dark: bool) -> None:
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    few = Ledger(keep=True, entries=twenty.entries[:4])
    write_report(path, ReportedRun(title="gdn: 4 frames"), few)
    # The page is measured from inside by the browser: a copy of it reports what was laid out.
    probe = (
        "<script>addEventListener('load',()=>{const "
        "i=[...document.images];document.title=[i.length,"
        "i.filter(e=>e.complete&&e.naturalWidth>0&&e.getBoundingClientRect().width>100).length,"
        "[...document.querySelectorAll('svg')].filter(e=>e.getBoundingClientRect().height>50).length,"
        "document.querySelectorAll('.compare:not([hidden])').length,"
        "document.documentElement.scrollWidth<=innerWidth].join()})</script>"
    )
    copy = tmp_path / "probe.html"
    text = path.read_text().replace(policy(), "")  # which forbids the probe
    copy.write_text(text.replace("</body>", probe + "</body>"))
    window = f"--window-size={width},1600"
    said = browse(tmp_path, window, "--virtual-time-budget=20000", "--dump-dom", copy.as_uri())
    title = re.search(r"<title>(.*?)</title>", said)
    assert title
    # Eight pictures a frame, and two in its slider; two charts and a profile.
    assert title[1] == "40,40,12,4,true"
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    browse(tmp_path, window, scheme, f"--screenshot={shot}", path.as_uri())
    picture = np.asarray(Image.open(shot).convert("L"), dtype=float)
    assert picture.shape == (1600, width)
    assert 0.02 < (picture < 128).mean() < 0.98  # neither blank nor black
    assert (picture[:8].mean() < 60) == dark  # its margin


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not rendered")
def test_the_page_lets_its_own_script_run_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, ReportedRun(title="one frame"), ledger_of(1, 300))
    strange = "<script>document.title='strange'</script></body>"
    path.write_text(path.read_text().replace("</body>", strange))
    said = browse(tmp_path, "--virtual-time-budget=9000", "--dump-dom", path.as_uri())
    assert "<title>one frame</title>" in said
    assert 'alt="after"' in said  # the slider was made
    assert re.search(r'class="where">row at \d+ %<', said)  # the profile was drawn again


def test_more_frames_than_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdn.report.ledger.PICTURES", 2)
    assert PICTURES == 40
    text = page(ReportedRun(title="t"), ledger_of(3, 300))
    assert text.count("<section id=") == 2
    assert "<details><summary>frame" not in text  # three files, no stack
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
    assert "the original method has no spread" in page(ReportedRun(title="t"), ledger)
    assert ledger.words() == []


def test_what_is_counted_as_refused_was_refused() -> None:
    frame, result, trust = judged_frame(300)
    assert trust.fit is not None
    refused = replace(trust, fit=replace(trust.fit, p=3 / 301))  # 0.01 in the record
    assert not refused.explained
    ledger, other = Ledger(keep=True), Ledger()
    ledger(Path("a.tif"), 0, frame, JudgedFrame(result, refused))
    other.add(ledger.entries[0])  # as from a cluster's worker
    assert ledger.unlike == other.unlike == 1
    assert other.entries == []


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
    text = page(ReportedRun(title="t"), Ledger(keep=True, entries=travelled))
    assert "generator 62%" in text
    assert "&lt;mine&gt; 38%" in text
    assert text.count("data:image/png") == 1
    ledger(Path("b.tif"), 0, frame, JudgedFrame(result, trust))  # one candidate alone: no map
    assert page(ReportedRun(title="t"), ledger).count("data:image/png") == 1


def test_an_empty_field_has_nothing_to_resolve() -> None:
    def against(difference: float) -> Comparison:
        return Comparison(
            against="constant", difference=difference, error=1e-4, expected=1e-12, nats=0,
            nats_error=1,
        )  # fmt: skip

    assert against(-1e-5).gain_db < -29  # a number without a meaning
    assert decibels(against(-1e-5)) == "nothing to resolve"
    assert decibels(against(-4e-4)) == ("nothing to resolve; gdn is off by 2 % of the vacuum level")
    frame, result, trust = judged_frame(300)
    for scores, said in (([against(-1e-5)], True), ([*trust.scores, against(-1e-5)], False)):
        ledger = Ledger(keep=True)
        ledger(Path("a.tif"), 0, frame, JudgedFrame(result, replace(trust, scores=scores)))
        text = page(ReportedRun(title="t"), ledger)
        assert ("picture shows is no finding" in text) == said
        assert "<td>nothing to resolve</td>" in text


def test_the_advice_for_a_frame_that_is_not_explained_fits_its_run() -> None:
    frame, result, trust = judged_frame(300, 0.001)

    def advice(frames: int, **run: Any) -> str:
        ledger = Ledger(keep=True)
        for index in range(frames):
            ledger(Path("a.tif"), index, frame, JudgedFrame(result, trust))
        return page(ReportedRun(title="t", **run), ledger)

    assert "learn from the recording (--adapt)" in advice(1)
    assert "learn from the recording (--movie on --adapt" in advice(3)
    assert "learn from the recording (--adapt)" in advice(3, movies={"a.tif": {"used": False}})
    assert "learn from the recording" not in advice(3, learned=True)


def test_a_stack_is_shown_frame_by_frame_with_its_drift() -> None:
    ledger = Ledger(keep=True)
    for index in range(3):
        frame, result, trust = judged_frame(300, seed=index)
        ledger(Path("movie.tif"), index, frame, JudgedFrame(result, trust))
    movie = {
        "used": True,
        "window_frames": 9,
        "drift_angstrom": [[0, 0], [1.5, -0.5], [2.5, -1]],
        "blocks": [{"changes": [2]}],
    }
    text = page(ReportedRun(title="t", movies={"movie.tif": movie}), ledger)
    assert "movie.tif: 3 frames" in text
    assert "drift, Å" in text
    assert "with its neighbours (up to 9 frames)" in text
    assert text.count("<details><summary>movie.tif [") == 2  # the first is open
    assert "was denoised by itself" in page(ReportedRun(title="t"), ledger)

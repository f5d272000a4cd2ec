"""The steps of `measurements.py`: which benchmark makes which rows."""

from __future__ import annotations

from dataclasses import dataclass

RECORDING = "RECORDING"  # in a command: the file of --recording


@dataclass(frozen=True)
class Step:
    """One benchmark.

    - `command`: its script and options, paths from the folder.
    - `hours`: about, on two cores.
    - `rows`: the file that it writes, without ending, and the name of the file in docs/results that
      it replaces.
    - `keys`: of rows; not empty if docs/results has rows of others too (rivals): then only rows
      alike in these are replaced.
    - `resumes`: what is in its file is not done again. Else a step that was stopped begins anew.
    """

    command: str
    hours: float
    rows: str = ""
    keys: tuple[str, ...] = ()
    resumes: bool = False

    @property
    def needs_recording(self) -> bool:
        """Whether it measures a recording that does not come with this repository."""
        return RECORDING in self.command.split()


OF_RIVALS = ("frame", "noise", "method")
OF_SIZES = ("group", "frame", "noise", "factor")
OF_HANDLED = ("frame", "noise", "handled")
SCANS = "handled.py --frames kin --only gaas-haadf,batio3,al-100,aln-abf --off"
GDN = "--methods gdn --noise"
STEPS = {
    "near": Step("near.py -o near", 0.1),
    "far": Step("far.py -o far", 0.2),
    "kin": Step("kin.py -o kin", 0.2),
    "suite": Step(
        "suite.py --data structures --frames 20 --against constant,blur,bm3d,bm3d-binned "
        "--rows suite.jsonl",
        1.0,
        "suite",
        ("file", "noise", "pair", "method"),
    ),
    "far-1": Step(f"rivals.py --far far {GDN} poisson:1 --json rivals.jsonl", 0.1, resumes=True),
    "far-10": Step(f"rivals.py --far far {GDN} poisson:10 --json rivals.jsonl", 0.1, resumes=True),
    "far-gaussian": Step(
        f"rivals.py --far far {GDN} gaussian:0.5 --json rivals.jsonl",
        0.1,
        "rivals",
        OF_RIVALS,
        resumes=True,
    ),
    "kin-1": Step(
        f"rivals.py --far kin {GDN} poisson:1 --json kin.jsonl", 0.1, "kin", OF_RIVALS, resumes=True
    ),
    "camera": Step(
        "camera.py --frames kin --rows camera.jsonl --only al-100,aln-abf,batio3,gaas-haadf",
        0.2,
        "camera",
    ),
    "handled": Step("handled.py --frames kin --rows handled.jsonl", 0.3, "handled"),
    "straighten-10": Step(
        f"{SCANS} --noise poisson:10 --kinds recorded,scan,offsets,jitter --rows straighten.jsonl",
        0.2,
        "straighten",
        OF_HANDLED,
    ),
    "straighten-100": Step(
        f"{SCANS} --noise poisson:100 --kinds recorded,scan --rows straighten.jsonl",
        0.1,
        "straighten",
        OF_HANDLED,
    ),
    "planted": Step("planted.py --rows planted.jsonl", 0.2, "planted"),
    "blocks": Step(
        "blocks.py --frames kin --noise poisson:1,poisson:10 --rows blocks.jsonl", 0.4, "blocks"
    ),
    "mixture-0.1": Step("mixing.py --frames near --kept kept --noise poisson:0.1", 0.1),
    "mixture-1": Step("mixing.py --frames near --kept kept --noise poisson:1", 0.1),
    "mixture-best": Step(
        "mixture_error.py --frames near --kept kept --rows mixture-best.jsonl", 0.2, "mixture-best"
    ),
    "ghosts": Step(
        "ghosts.py --frames near --groups own,bright --rows ghosts-after.jsonl",
        0.1,
        "ghosts-after",
        ("frame", "noise", "model"),
    ),
    "small-fields": Step(
        "small_fields.py near --rows small-fields-after.jsonl",
        0.3,
        "small-fields-after",
        resumes=True,
    ),
    "contrast": Step(
        "contrast.py --data structures --structures 6 --against blur,bm3d-binned "
        "--rows contrast.jsonl",
        0.5,
        "contrast",
        ("file", "frame", "noise", "method"),
    ),
    "contrast-curve": Step(
        "contrast.py --data structures --structures 6 --noise poisson:3,poisson:25 --against blur "
        "--rows contrast-curve.jsonl",
        0.5,
        "contrast-curve",
    ),
    "trust": Step(
        "trust.py --data structures --frames 60 --rows trust.jsonl --plot reliability.png",
        3.0,
        "trust",
    ),
    "trust-mixture": Step(
        "trust.py --data structures --frames 16 --wrong 0 --score-frames 0 "
        "--rows trust-mixture.jsonl",
        0.5,
        "trust-mixture",
    ),
    "trust-far": Step(
        "trust.py --far far --noise poisson:1 --wrong 0 --score-frames 0 --rows trust-far.jsonl",
        0.2,
        "trust-far",
    ),
    "pixel-size": Step(
        "pixel_size.py --frames far --groups pt-ceo2 --factors 1 0.7 0.85 1.2 1.4 "
        "--rows pixel-size.jsonl",
        0.3,
        "pixel-size",
        OF_SIZES,
    ),
    "pixel-size-other": Step(
        "pixel_size.py --frames far --groups other --factors 1 --rows pixel-size.jsonl",
        0.2,
        "pixel-size",
        OF_SIZES,
    ),
    "posterior": Step(
        "posterior_restarts.py --data structures --far far --rows posterior.jsonl",
        1.0,
        "posterior",
        ("model", "group", "frame", "level", "width", "n"),
    ),
    "movies": Step(
        "movies.py movies --split test --make 7 --frames 9 --side 600 --doses 4.5,0.45,0.045 "
        "--methods constant,blur,bm3d,gdn,gdn-movie --rows movies.jsonl",
        1.0,
        "movies",
        ("movie", "kind", "dose", "method"),
        resumes=True,
    ),
    "far-movies": Step(
        "far_movies.py -o far-movies --frames 9 "
        "--only pt-ceo2-1,pt-ceo2-5,gan-edge,si-110,srtio3-vacancies",
        0.1,
    ),
    "movies-far": Step(
        "movies.py far-movies/movies --split far --frames 9 --side 600 --doses 0.45 "
        "--methods truth,constant,blur,bm3d,gdn,gdn-movie --rows movies-far.jsonl",
        0.3,
        "movies-far",
        resumes=True,
    ),
    "recording": Step(
        f"recording_held_out.py {RECORDING} --sampling 0.0455 --electron 31.2 "
        "--rows recording-held-out.jsonl",
        0.2,
        "recording-held-out",
    ),
    "cost": Step(
        "cost.py --json cost.jsonl", 2.0, "cost", ("method", "frames", "side", "options"), True
    ),
}

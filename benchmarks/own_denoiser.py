"""What a denoiser of one's own is worth as a candidate (`gdn denoise --candidate`): frames of
`near.py` denoised without it, with it, and by it alone.

    python benchmarks/near.py -o /data/near
    python benchmarks/own_denoiser.py --near /data/near --names crystals-1,crystals-5 --candidate \\
        'tk@0.35=/opt/tk/bin/python benchmarks/tk_candidate.py {input} {output} NETWORK'

NETWORK in the command becomes tk_r_em's network for the frame's mode, as in `rivals.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rival_methods import TK_NETWORKS
from rivals import frames_of

from gdn.evaluation.metrics import Image, psnr
from gdn.evaluation.noise_suite import parse_suite
from gdn.frames.resampling import unbin
from gdn.models import AUTO
from gdn.pipeline.denoiser import Denoiser
from gdn.search.denoise_frame import FrameResult
from gdn.search.outside_candidates import OutsideCandidate
from gdn.trust.held_out_score import recover_recorded


def alone(candidate: OutsideCandidate, noisy: Image, result: FrameResult) -> Image:
    """The candidate's own image, in the frame's units."""
    image = unbin(candidate(recover_recorded(noisy, result)), result.grids)
    return np.asarray(result.noise.units(image / np.float32(result.grids.area)))


def denoised(noisy: Image, sampling: float, **options: Any) -> FrameResult:
    """What `gdn denoise --no-score` makes of a frame."""
    with Denoiser(score=False, threads=1, **options) as denoiser:
        return denoiser.for_recording(noisy, sampling).search(noisy, sampling)


def row(frame: dict[str, Any], noise: Any, options: argparse.Namespace) -> list[float]:
    """PSNR without, with and by the candidate alone, and its share."""
    clean, sampling = frame["image"], frame["sampling_angstrom"]
    noisy = noise.apply(clean, int(frame["record"]["number"]))
    command = options.candidate.replace("NETWORK", TK_NETWORKS[frame["record"]["mode"]])
    before = denoised(noisy, sampling, model=options.model)
    after = denoised(noisy, sampling, model=options.model, candidates=[command])
    assert after.mixing is not None
    (candidate,) = Denoiser(model=options.model, candidates=[command]).options.outside
    scores = [psnr(clean, image) for image in (before.image, after.image)]
    own = psnr(clean, alone(candidate, noisy, after))
    return [*scores, own, after.mixing.share(candidate.name)]


def line(name: str, values: list[float]) -> str:
    """A line of the table."""
    without, beside, own, share = values
    return f"| {name} | {without:.2f} | {beside:.2f} | {own:.2f} | {share:.0%} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--near", type=Path, required=True, help="folder that near.py wrote")
    parser.add_argument("--names", default="", help="of frames, with commas; all without")
    parser.add_argument("--candidate", required=True, help="as gdn denoise takes it")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--model", default=AUTO)
    options = parser.parse_args()
    (noise,) = parse_suite(options.noise)
    print("| frame | gdn | with it | it alone | its share |")
    print("|---|--:|--:|--:|--:|")
    rows = []
    for frame in frames_of(options.near, options.names):
        rows.append(row(frame, noise, options))
        print(line(frame["record"]["name"], rows[-1]), flush=True)
    print(line(f"mean, n = {len(rows)}", np.mean(rows, 0).tolist()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What each candidate of the mixture is worth, on validation frames (`near.py`): subsets, how much
other bands count, and the best by the truth.

Every frame is denoised once as `gdn denoise` does; the candidates' images of the first part of the
counts and of all counts are kept (`--kept`), and mixed anew for every row. `best bands` and `best
shares` have the weights of least squared error to the clean frame, by band and alike in all bands:
what better chosen weights could gain at the most.

    python benchmarks/near.py -o near
    python benchmarks/mixing.py --frames near --kept near/kept [--noise poisson:1]
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import far
import numpy as np
from suite import denoiser_of

from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.frames.resampling import bin_sum
from gdn.models import AUTO
from gdn.search import band_mixture as mixture
from gdn.search import estimate, first_part, flat_places, mixture_weights
from gdn.search.held_out_shares import Choice
from gdn.search.mixture_weights import OTHER_BANDS
from gdn.search.thinning import Split

Image = np.ndarray


@dataclass
class Kept:
    """One frame: candidates' images of the `first` part and of the `whole` of its counts, and the
    `truth`."""

    group: str
    parts: Split
    first: list[Image]
    whole: list[Image]
    names: tuple[str, ...]
    choice: Choice
    sampling: tuple[float, float]
    truth: Image


@contextmanager
def listening(heard: dict[str, Any]) -> Iterator[None]:
    """Hear what the mixture is given; every candidate makes its image of all counts, as if each had
    a little weight."""

    def choose(
        parts: Split, images: list[Image], guess: Image, weighing: flat_places.Weighing
    ) -> Any:
        recipe = flat_places.choose_recipe(parts, images, guess, weighing)
        made = recipe.structured(images, guess, parts.law.deviation(guess))
        heard.update(parts=parts, first=made, names=weighing.names)
        heard.update(choice=weighing.choice, sampling=weighing.sampling)
        assert recipe.mixing is not None
        weights = recipe.mixing.weights + 1e-9
        return replace(recipe, mixing=replace(recipe.mixing, weights=weights))

    def mix_images(
        images: list[Image], mixing: mixture.Mixing, sampling: tuple[float, float]
    ) -> Any:
        heard["whole"] = images
        return mixture.mix_images(images, mixing, sampling)

    with (
        mock.patch.object(first_part, "choose_recipe", choose),
        mock.patch.object(estimate, "mix_images", mix_images),
    ):
        yield


def keep(folder: Path, kept: Path, noise: Noise) -> Iterator[Kept]:
    """All frames of `folder`, denoised where `kept` has not got them."""
    kept.mkdir(parents=True, exist_ok=True)
    with denoiser_of(AUTO) as denoiser:
        for path in sorted(folder.glob("*.npz")):
            at = kept / f"{path.stem} {str(noise).replace(':', '-')}.pickle"
            if not at.exists():
                frame, heard = far.read(path), dict[str, Any]()
                clean, sampling = frame["image"], frame["sampling_angstrom"]
                noisy = noise.apply(clean, int(frame["record"]["number"]))
                recording = denoiser.for_recording(noisy, sampling)
                with listening(heard):
                    result = recording.search(noisy, sampling)
                truth = bin_sum(result.noise.electrons(clean), result.grids)
                at.write_bytes(pickle.dumps(Kept(frame["record"]["group"], truth=truth, **heard)))
                print(at.stem, file=sys.stderr, flush=True)
            yield pickle.loads(at.read_bytes())


def by_counts(kept: Kept, numbers: tuple[int, ...], other_bands: float = OTHER_BANDS) -> Image:
    """The mixture of some of the candidates."""
    first, whole = ([pick[i] for i in numbers] for pick in (kept.first, kept.whole))
    names = tuple(kept.names[i] for i in numbers)
    with mock.patch.object(mixture_weights, "OTHER_BANDS", other_bands):
        weights = mixture.choose_mixing(kept.parts, first, names, kept.choice, kept.sampling)
    return mixture.mixture_of(whole, weights, kept.sampling)


def by_truth(kept: Kept, bands: bool) -> Image:
    """The mixture of all candidates that comes nearest to the truth."""
    spectra = [mixture._cosines(image) for image in kept.whole]
    offsets, target = (
        np.stack([s - spectra[0] for s in spectra]),
        mixture._cosines(kept.truth) - spectra[0],
    )
    shape = (kept.truth.shape[0], kept.truth.shape[1])
    total = spectra[0].copy()
    for window in mixture.bands(shape, kept.sampling) if bands else [np.ones(shape)]:
        weighted = (offsets * window).reshape(len(offsets), -1)
        weights = mixture_weights.least_on_simplex(
            weighted @ offsets.reshape(len(offsets), -1).T, weighted @ target.ravel()
        )
        total += window * np.tensordot(weights, offsets, 1)
    return np.asarray(mixture._image(total))


def candidate(kept: Kept, number: int) -> Image:
    """One candidate alone."""
    return kept.whole[number]


def psnr_of(kept: Kept, image: Image) -> float:
    """Up to a constant of the frame, dB."""
    return float(-10 * np.log10(((image - kept.truth) ** 2).mean()))


def table(frames: list[Kept]) -> Iterator[str]:
    """Gain over generator and plain filter in dB, mean and least of each group."""
    names = frames[0].names
    everyone = tuple(range(len(names)))
    rows: dict[str, Callable[[Kept], Image]] = {
        f"{name} alone": partial(candidate, number=i) for i, name in enumerate(names)
    }
    for i, name in enumerate(names[2:], 2):
        rows[f"with {name}"] = partial(by_counts, numbers=(0, 1, i))
    for part in (0.0, 0.05, OTHER_BANDS, 0.5, 1.0):
        rows[f"all, other bands {part:g}"] = partial(by_counts, numbers=everyone, other_bands=part)
    rows |= {
        "best shares": partial(by_truth, bands=False),
        "best bands": partial(by_truth, bands=True),
    }
    groups = list(dict.fromkeys(kept.group for kept in frames))
    count = {g: sum(kept.group == g for kept in frames) for g in groups}
    yield (
        "| gain dB: mean (least) | "
        + " | ".join(f"{g}, n = {count[g]}" for g in groups)
        + " |\n|---|"
        + "--:|" * len(groups)
    )
    own = {
        id(kept): psnr_of(
            kept, (1 - kept.choice.share) * kept.whole[0] + kept.choice.share * kept.whole[1]
        )
        for kept in frames
    }
    for label, make in rows.items():
        cells = []
        for group in groups:
            gain = np.array(
                [
                    psnr_of(kept, make(kept)) - own[id(kept)]
                    for kept in frames
                    if kept.group == group
                ]
            )
            cells.append(f"{gain.mean():+.2f} ({gain.min():+.2f})")
        yield f"| {label} | {' | '.join(cells)} |"


def options_for(description: str | None, noise: str) -> argparse.ArgumentParser:
    """The options of a script about kept frames: which, where they are kept, at which `noise`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder that near.py wrote")
    parser.add_argument(
        "--kept", type=Path, required=True, help="folder for the candidates' images"
    )
    parser.add_argument("--noise", default=noise)
    return parser


def main() -> int:
    parser = options_for(__doc__, "poisson:1")
    options = parser.parse_args()
    print(*table(list(keep(options.frames, options.kept, parse_suite(options.noise)[0]))), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

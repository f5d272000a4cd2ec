"""Frames as other microscopes and other programs leave them: what each way of handling costs gdn.

Frames of `kin.py`, which are for choosing settings, are made noisy and then handled (see HANDLED),
and so is the clean image where the handling changes it. The PSNR is by the range of the clean
image; its change is against the counts as they were recorded.

    python benchmarks/kin.py -o kin
    python benchmarks/handled.py --frames kin --rows docs/results/handled.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import far
import numpy as np
from numpy.typing import NDArray
from rows import Row, printed
from scipy.ndimage import gaussian_filter, map_coordinates, rotate, shift, zoom
from scipy.signal import lfilter

from gdn import Denoiser, GdnError
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.models import AUTO

OFF = "off"  # auto, without straightening rows
FRAMES = "gaas-haadf,batio3,co-hcp,sno2,pt-ceo2-22,pt-ceo2-24"
Image = NDArray[np.float64]
Pair = tuple[Image, Image]
Random = np.random.Generator


def blur(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    return gaussian_filter(counts, 0.7), gaussian_filter(clean, 0.7)


def scale(counts: Image, clean: Image, random: Random) -> Pair:
    """Float values of an arbitrary unit, next to no read noise."""
    return 7.3 * counts + random.normal(0, 0.05, counts.shape), 7.3 * clean


def read_out(counts: Image, clean: Image, random: Random) -> Pair:
    """A camera that spreads electrons, reads out with noise and keeps an offset, in integers."""
    spread, truth = blur(counts, clean, random)
    return np.round(100 * spread + random.normal(0, 3, counts.shape) + 50), 100 * truth + 50


def gain_pattern(counts: Image, clean: Image, random: Random) -> Pair:
    return 7.3 * counts * random.normal(1, 0.03, counts.shape), 7.3 * clean


def row_offsets(counts: Image, clean: Image, random: Random) -> Pair:
    return counts + random.normal(0, 0.1, (len(counts), 1)) * clean.mean(), clean


def row_gains(counts: Image, clean: Image, random: Random) -> Pair:
    del counts
    return random.poisson(clean * random.normal(1, 0.05, (len(clean), 1))).astype(float), clean


def line_jitter(counts: Image, clean: Image, random: Random) -> Pair:
    """Rows begin too early or too late, by 0.7 px rms."""
    del counts
    x = np.arange(clean.shape[1])
    moved = np.stack([np.interp(x + random.normal(0, 0.7), x, line) for line in clean])
    return random.poisson(moved).astype(float), clean


def scan(counts: Image, clean: Image, random: Random) -> Pair:
    """Rows sway along themselves (1 px rms) and across (0.7 px), alike over 100 px of a row, and
    their brightness wanders (2 %)."""
    del counts
    rows, columns = clean.shape
    places = np.mgrid[:rows, :columns].astype(np.float64)
    alike = np.exp(-1 / 100)

    def wandering(rms: float) -> Image:
        steps = random.normal(0, (1 - alike**2) ** 0.5, (rows, columns + 500))
        return np.asarray(rms * lfilter([1], [1, -alike], steps, axis=1)[:, 500:])

    moved = places - np.stack([wandering(0.7), wandering(1.0)])
    swaying = map_coordinates(clean, moved, order=3, mode="nearest")
    lit = np.maximum(swaying + 0.02 * clean.mean() * wandering(1.0), 0)
    return random.poisson(lit).astype(float), clean


def uneven_beam(counts: Image, clean: Image, random: Random) -> Pair:
    """A beam that falls off to a third in the far corner."""
    del counts
    y, x = np.mgrid[: clean.shape[0], : clean.shape[1]] / clean.shape[0]
    lit = clean * np.exp(-((y - 0.15) ** 2 + (x - 0.1) ** 2) / (2 * 0.75**2))
    return random.poisson(lit).astype(float), lit


def half_a_pixel(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    return shift(counts, 0.5, order=1, mode="reflect"), shift(clean, 0.5, order=1, mode="reflect")


def middle(image: Image) -> Image:
    """What a turn by 7° leaves whole."""
    margin = len(image) // 8
    return image[margin:-margin, margin:-margin]


def cropped(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    return middle(counts), middle(clean)


def turned(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    both = (middle(rotate(image, 7, reshape=False, order=1)) for image in (counts, clean))
    return next(both), next(both)


def corners(counts: Image, clean: Image, random: Random) -> Pair:
    """Turned likewise, and the corners set to 0, where nothing is scored."""
    del random
    return (
        rotate(counts, 7, reshape=False, order=1),
        rotate(clean, 7, reshape=False, order=1, cval=np.nan),
    )


def twice_as_large(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    return zoom(counts, 2, order=1), zoom(clean, 2, order=1)


def larger_by_half(counts: Image, clean: Image, random: Random) -> Pair:
    del random
    return zoom(counts, 1.5, order=3), zoom(clean, 1.5, order=3)


def low_pass(counts: Image, clean: Image, random: Random) -> Pair:
    """Detail finer than 4 px cut off in the Fourier transform."""
    del random
    rows, columns = counts.shape
    k = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    spectra = (np.fft.rfft2(image) * (k < 0.25) for image in (counts, clean))
    cut = (np.fft.irfft2(spectrum, s=counts.shape) for spectrum in spectra)
    return next(cut), next(cut)


def picture(counts: Image, clean: Image, random: Random) -> Pair:
    """Blurred, stretched to 8 bits and clipped."""
    del random
    smooth = gaussian_filter(counts, 1.0)
    low, high = np.quantile(smooth, (0.002, 0.998))
    stretched = (
        np.clip((image - low) / (high - low), 0, 1) * 255
        for image in (smooth, gaussian_filter(clean, 1.0))
    )
    return np.round(next(stretched)), next(stretched)


# What a kind is compared to, if not to the counts as they were recorded.
AGAINST = {"turned": "middle"}
HANDLED: dict[str, tuple[str, Callable[[Image, Image, Random], Pair]]] = {
    "recorded": ("counts as recorded", lambda counts, clean, random: (counts, clean)),
    "scaled": ("float values, any unit", scale),
    "gain": ("gain pattern, 3 % a pixel", gain_pattern),
    "blur": ("each electron over 0.7 px", blur),
    "camera": ("the same, read noise, offset 50", read_out),
    "offsets": ("offset of each row, 10 %", row_offsets),
    "gains": ("gain of each row, 5 %", row_gains),
    "jitter": ("line jitter, 0.7 px", line_jitter),
    "scan": ("swaying, uneven rows of a scan", scan),
    "beam": ("uneven beam, to a third", uneven_beam),
    "shift": ("moved by half a pixel", half_a_pixel),
    "middle": ("the middle alone", cropped),
    "turned": ("turned by 7°, linear; the middle", turned),
    "corners": ("the same, corners empty", corners),
    "twice": ("2 times as large, linear", twice_as_large),
    "half": ("1.5 times as large, cubic", larger_by_half),
    "low-pass": ("cut off at 4 px", low_pass),
    "picture": ("blurred, stretched to 8 bits", picture),
}


def rows_of(
    path: Path, noise: Noise, denoisers: dict[str, Denoiser], kinds: list[str]
) -> Iterator[Row]:
    """One frame, handled in every way."""
    frame = far.read(path)
    number = int(frame["record"]["number"])
    level = noise.level if noise.kind == "poisson" else 1.0  # whole counts
    counts = level * noise.apply(frame["image"], number).astype(np.float64)
    clean = frame["image"].astype(np.float64) * counts.mean() / frame["image"].mean()
    for kind in kinds:
        noisy, truth = HANDLED[kind][1](counts, clean, np.random.default_rng([number, 0xA4]))
        sampling = frame["sampling_angstrom"] * min(len(counts) / len(noisy), 1)
        row: Row = {"frame": path.stem, "noise": str(noise), "handled": kind}
        for name, denoiser in denoisers.items():
            try:
                result = denoiser.denoise(noisy.astype(np.float32), sampling)
            except GdnError as error:
                row[f"{name}_error"] = str(error)
                continue
            square = np.nanmean((np.asarray(result.image, np.float64) - truth) ** 2)
            extent = np.nanmax(truth) - np.nanmin(truth)
            row[name] = round(float(20 * np.log10(extent) - 10 * np.log10(square)), 3)
            if name == AUTO:
                row |= {"p": result.explained_p, "warnings": list(result.warnings)}
        yield row


def table(rows: list[Row]) -> str:
    """Markdown: the mean change of the PSNR against the counts as recorded, and the worst."""
    by = {(row["frame"], row["handled"]): row for row in rows}
    lines = [
        "| handled | n | gdn, dB | change, dB (worst) | restorer alone, dB | refused |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, (words, _) in HANDLED.items():
        own = [row for row in rows if row["handled"] == kind]
        done = [row for row in own if AUTO in row]
        if not done:
            continue
        against = AGAINST.get(kind, "recorded")
        change = [row[AUTO] - by[row["frame"], against][AUTO] for row in done]
        mean = np.mean([row[AUTO] for row in done])
        alone = [row["restore"] for row in done if "restore" in row]
        lines.append(
            f"| {words} | {len(own)} | {mean:.2f} | {np.mean(change):+.2f} ({min(change):+.2f}) | "
            f"{np.mean(alone):.2f} | {len(own) - len(done)} |"
        )
    return "\n".join(lines)


def straightening_table(rows: list[Row]) -> str:
    """Markdown: what straightening rows gains, where it was also left out."""
    lines = [
        "| noise | handled | n | straightened | gdn, dB | off, dB | gained, dB (least) |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    noises = sorted({row["noise"] for row in rows}, key=lambda noise: float(noise.split(":")[1]))
    for noise, (kind, (words, _)) in product(noises, HANDLED.items()):
        both = [r for r in rows if (r["noise"], r["handled"]) == (noise, kind) and OFF in r]
        if not both:
            continue
        straight = sum(any("straightened" in word for word in r["warnings"]) for r in both)
        gained = [r[AUTO] - r[OFF] for r in both]
        ours, left = (np.mean([r[name] for r in both]) for name in (AUTO, OFF))
        lines.append(
            f"| {noise} | {words} | {len(both)} | {straight} | {ours:.2f} | {left:.2f} | "
            f"{np.mean(gained):+.2f} ({min(gained):+.2f}) |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="a folder of kin.py")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--only", default=FRAMES, metavar="NAMES", help="of frames, with commas")
    parser.add_argument("--kinds", default=",".join(HANDLED), help="of handling, with commas")
    parser.add_argument("--rows", type=Path, metavar="JSONL", help="written anew")
    parser.add_argument("--off", action="store_true", help="also without straightening rows")
    options = parser.parse_args()
    noise, kinds = parse_suite(options.noise)[0], options.kinds.split(",")
    settings = {AUTO: (AUTO, "auto"), "restore": ("restore", "auto")}
    if options.off:
        settings[OFF] = (AUTO, "off")
    with ExitStack() as opened:
        denoisers = {
            name: opened.enter_context(Denoiser(model, threads=1, straighten=straighten))
            for name, (model, straighten) in settings.items()
        }
        paths = [options.frames / f"{name}.npz" for name in options.only.split(",")]
        made = (row for path in paths for row in rows_of(path, noise, denoisers, kinds))
        rows = printed(made, options.rows)
    print(table(rows))
    if options.off:
        print(straightening_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

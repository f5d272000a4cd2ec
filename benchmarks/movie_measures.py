"""What `movies.py` measures: PSNR of frames and near events, and columns that change, found in a
restored movie. The table is made by `movie_tables.py`.

The detector is the same for all methods and knows the true drift and every site of a column. At a
site its signal is the mean of the restored frame within 0.8 Å. Its step at frame t is the mean of
the signal over frames t to t + 2 less that over t - 3 to t - 1. A detection is the largest step
within three frames and 2 Å that is larger than 0.5 times the local contrast, which is the standard
deviation of the clean first frame within 3 Å of the site. An event is found by the nearest
detection of its sign within 1.5 Å and three frames; its lag is the detection's frame less its own.
A detection farther than 3 Å or three frames from every event is invented. Events with fewer than
three frames before or after them are not counted.

A restored image shows steps that the counts cannot tell. So it is also said how many of the
detections are *told*: at the site the counts of the same frames step too, by so much that noise
alone would do it anywhere in the movie once in twenty movies.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM

Stack = NDArray[np.float32]  # (frames, rows, columns), vacuum 1.0
Row = dict[str, Any]

AROUND = 3  # frames before and after an event
NEAR_ANGSTROM = 3.0
DISC_ANGSTROM = 0.8
THRESHOLD = 0.5  # of the local contrast
APART_ANGSTROM = 2.0  # two detections
MATCH_ANGSTROM = 1.5
FALSE_MOVIES = 0.05  # of movies without an event, in which the counts tell of one
HEAVY = 0.35  # of the 75th percentile of summed atomic numbers: columns that are watched
LOCAL = ("vanish", "appear", "hop", "layer")
WATCHED = ("static", *LOCAL)  # movies whose columns change by events alone


@dataclass(frozen=True, kw_only=True)
class Change:
    """A column that is new (`sign` 1) or gone (-1) from `frame` on, at `place` (y, x) Å in the
    cell."""

    frame: int
    place: tuple[float, float]
    sign: int


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A part of a movie, as methods see it. `clean` vacuum 1.0, `counts` at `dose`; `corners`
    (frames, 2), the outer corner of pixel [0, 0] in the cell, Å; `sites` (n, 2) y, x Å of columns.
    """

    clean: Stack
    counts: Stack
    dose: float
    sampling: float
    corners: NDArray[np.float64]
    changes: list[Change]
    sites: NDArray[np.float64]
    kind: str

    def pixels(self, places: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
        """Places (n, 2) Å on `frame`, in px from the centre of pixel [0, 0]."""
        return np.asarray((places - self.corners[frame]) / self.sampling - 0.5)


def frame_psnr(clip: Clip, images: Stack) -> list[float]:
    """PSNR of each frame, in the study's units."""
    pairs = zip(clip.clean, images, strict=True)
    return [psnr(STUDY_VACUUM * a, STUDY_VACUUM * b) for a, b in pairs]


def event_psnr(clip: Clip, images: Stack) -> dict[str, list[float]]:
    """PSNR within 3 Å of each change, over the three frames before it and the three from it on."""
    psnrs: dict[str, list[float]] = {"before": [], "after": []}
    for change in clip.changes:
        spans = {"before": (change.frame - AROUND, change.frame)}
        spans["after"] = (change.frame, change.frame + AROUND)
        for name, (low, high) in spans.items():
            errors = [
                _near(clip, images, change, frame)
                for frame in range(max(low, 0), min(high, len(images)))
            ]
            if errors:
                mean = np.concatenate(errors).mean() * STUDY_VACUUM**2
                psnrs[name].append(float(-10 * np.log10(max(mean, 1e-20))))
    return psnrs


def _near(clip: Clip, images: Stack, change: Change, frame: int) -> NDArray[np.float64]:
    """Squared errors of the pixels of `frame` within 3 Å of a change."""
    centre = clip.pixels(np.array([change.place]), frame)[0]
    rows, columns = np.indices(images.shape[1:])
    away = np.hypot(rows - centre[0], columns - centre[1]) * clip.sampling
    inside = away < NEAR_ANGSTROM
    error = clip.clean[frame][inside].astype(np.float64) - images[frame][inside]
    return np.asarray(error**2)


def disc_offsets(radius_px: float) -> NDArray[np.int64]:
    """Rows and columns (n, 2) of the pixels within a radius of the origin."""
    reach = int(radius_px)
    grid = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1).T - reach
    return np.asarray(grid[np.hypot(*grid.T) <= radius_px])


def watched_sites(clip: Clip) -> NDArray[np.float64]:
    """The sites whose disc of 3 Å lies on every frame."""
    margin, side = NEAR_ANGSTROM / clip.sampling, np.array(clip.clean.shape[1:])
    keep = np.ones(len(clip.sites), bool)
    for frame in range(len(clip.clean)):
        at = clip.pixels(clip.sites, frame)
        keep &= ((at > margin) & (at < side - 1 - margin)).all(1)
    return np.asarray(clip.sites[keep])


def signals(clip: Clip, images: Stack, sites: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each frame within 0.8 Å of each site, (frames, sites)."""
    offsets = disc_offsets(DISC_ANGSTROM / clip.sampling)
    amplitudes = np.empty((len(images), len(sites)))
    for frame, image in enumerate(images):
        at = np.rint(clip.pixels(sites, frame)).astype(int)[:, None] + offsets
        amplitudes[frame] = image[at[..., 0], at[..., 1]].mean(1)
    return amplitudes


def local_contrast(clip: Clip, sites: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of the clean first frame within 3 Å of each site."""
    at = np.rint(clip.pixels(sites, 0)).astype(int)[:, None]
    at = at + disc_offsets(NEAR_ANGSTROM / clip.sampling - 1)
    return np.asarray(clip.clean[0][at[..., 0], at[..., 1]].std(1))


def relative_steps(
    signal: NDArray[np.float64], contrast: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Steps (frames, sites) in units of the local contrast; 0 where there are not three frames on
    either side."""
    steps = np.zeros_like(signal)
    for t in range(AROUND, len(signal) - AROUND + 1):
        steps[t] = signal[t : t + AROUND].mean(0) - signal[t - AROUND : t].mean(0)
    return np.asarray(steps / contrast)


def detect(clip: Clip, images: Stack) -> list[tuple[Change, float]]:
    """Changes that the detector finds, the strongest first, each with its step."""
    sites = watched_sites(clip)
    if not len(sites):
        return []
    steps = relative_steps(signals(clip, images, sites), local_contrast(clip, sites))
    taken = np.zeros(steps.shape, bool)
    detections = []
    for flat in np.abs(steps).ravel().argsort()[::-1]:
        t, i = np.unravel_index(flat, steps.shape)
        if abs(steps[t, i]) < THRESHOLD:
            break
        if taken[t, i]:
            continue
        near = np.hypot(*(sites - sites[i]).T) < APART_ANGSTROM
        taken[max(0, t - AROUND) : t + AROUND + 1, near] = True
        place = (float(sites[i][0]), float(sites[i][1]))
        change = Change(frame=int(t), place=place, sign=int(np.sign(steps[t, i])))
        detections.append((change, float(steps[t, i])))
    return detections


def told_by_counts(clip: Clip, change: Change, tests: int) -> bool:
    """Whether the counts themselves step at a change, beyond noise, of `tests` sites and times."""
    signal = signals(clip, clip.counts / np.float32(clip.dose), np.array([change.place]))[:, 0]
    before = signal[change.frame - AROUND : change.frame].mean()
    after = signal[change.frame : change.frame + AROUND].mean()
    pixels = len(disc_offsets(DISC_ANGSTROM / clip.sampling))
    error = np.sqrt((before + after) / (AROUND * pixels * clip.dose))
    least = NormalDist().inv_cdf(1 - FALSE_MOVIES / 2 / max(tests, 1))
    return bool(abs(after - before) > least * error)


def column_sign(clip: Clip) -> int:
    """1 where columns are brighter than their surroundings in the clean movie, else -1: the sign of
    the step at its changes, or of the sites against the first frame's median."""
    values = []
    for change in clip.changes:
        signal = signals(clip, clip.clean, np.array([change.place]))[:, 0]
        values.append(change.sign * (signal[change.frame] - signal[change.frame - 1]))
    return 1 if values and np.mean(values) > 0 else -1


def score_events(clip: Clip, images: Stack) -> Row:
    """Events found, their lags, and events invented; and the same of those that the counts tell."""
    detections = [change for change, _ in detect(clip, images)]
    tests = len(watched_sites(clip)) * max(len(images) - 2 * AROUND + 1, 1)
    told = [change for change in detections if told_by_counts(clip, change, tests)]
    alone = _matched(clip, told)
    return _matched(clip, detections) | {
        "told_found": alone["found"],
        "told_invented": alone["invented"],
    }


def _matched(clip: Clip, detections: list[Change]) -> Row:
    sign = column_sign(clip)
    lags, free = [], list(detections)
    last = len(clip.clean) - AROUND
    scored = [event for event in clip.changes if AROUND <= event.frame <= last]
    for event in scored:
        alike = [
            d for d in free if d.sign == sign * event.sign and _together(d, event, MATCH_ANGSTROM)
        ]
        if alike:
            best = min(alike, key=lambda d: (_away(d, event), abs(d.frame - event.frame)))
            lags.append(best.frame - event.frame)
            free.remove(best)
    invented = [d for d in free if not any(_together(d, e, NEAR_ANGSTROM) for e in clip.changes)]
    return {
        "events": len(scored),
        "found": len(lags),
        "lags": lags,
        "invented": len(invented),
        "sites": len(watched_sites(clip)),
    }


def _away(a: Change, b: Change) -> float:
    return float(np.hypot(a.place[0] - b.place[0], a.place[1] - b.place[1]))


def _together(a: Change, b: Change, within: float) -> bool:
    return _away(a, b) < within and abs(a.frame - b.frame) <= AROUND

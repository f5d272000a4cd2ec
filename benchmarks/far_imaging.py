"""Images of the far set's specimens: HRTEM by abTEM's multislice, HAADF and ABF by an incoherent
model, and cameras.

HRTEM: Kirkland's potentials (training uses Lobato's), four frozen phonons, 2 Å slices, abTEM's
contrast transfer function with its envelopes of focal spread and source angle, a small anisotropic
vibration, the camera.

HAADF and ABF (documented here, not multislice): each atom scatters like a Gaussian spot; HAADF of
weight Z^1.7 (Pennycook's exponent with screening) and of the width of its vibration, ABF of Z^0.8
and wider, as light columns are seen there. Deeper atoms count less, exp(-depth / 250 Å). The sum is
convolved with abTEM's probe and the source's Gaussian. ABF is exp(-object): the beam less what is
scattered out of the ring. There is no channelling, no cross-talk and no focus series.

Lengths in Å, angles in mrad, arrays [y, x]; intensities with the incident beam 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import abtem
import numpy as np
import scipy.fft
from ase import Atoms
from numpy.typing import NDArray

Image = NDArray[np.float64]

PHONONS = 4
SLICE_ANGSTROM = 2.0
POTENTIAL_ANGSTROM = 0.09  # Å per point of the grid of the waves, at most
# Root mean square along one axis at room temperature, by atomic number.
VIBRATION_ANGSTROM = {
    6: 0.06,
    8: 0.085,
    14: 0.075,
    16: 0.08,
    22: 0.075,
    26: 0.07,
    34: 0.10,
    35: 0.16,
    47: 0.09,
    48: 0.11,
    55: 0.17,
    58: 0.07,
    78: 0.065,
    79: 0.085,
    82: 0.14,
}
USUAL_VIBRATION_ANGSTROM = 0.08
DEPTH_ANGSTROM = 250.0
SINGLE: dict[str, Any] = {"scheduler": "single-threaded", "progress_bar": False}
HAADF_POWER, ABF_POWER = 1.7, 0.8
ABF_SPOT_ANGSTROM = 0.25
ABF_STRENGTH = 0.9  # of the strongest column: exp(-0.9) of the beam is left there
DARK_LEVEL = 0.03  # of the strongest column in HAADF: what the detector counts without any


@dataclass(frozen=True)
class Lens:
    """The microscope's objective. `defocus_nm` positive is underfocus; aberrations as abTEM names
    them, in the units here."""

    voltage_kv: float
    cs_um: float = -5.0
    focal_spread_nm: float = 3.0
    source_mrad: float = 0.1
    astigmatism_nm: float = 1.0
    coma_nm: float = 20.0
    trefoil_nm: float = 20.0
    angle_degrees: float = 30.0
    tilt_mrad: tuple[float, float] = (0.0, 0.0)
    vibration_angstrom: tuple[float, float] = (0.3, 0.25)  # along y and x, standard deviations


@dataclass(frozen=True)
class Probe:
    """A STEM's probe: aberration-free but for `cs_um`, `source_angstrom` the source's standard
    deviation."""

    voltage_kv: float
    convergence_mrad: float = 22.0
    cs_um: float = 1.0
    source_angstrom: float = 0.35


def grid_of(box: float) -> int:
    """Points along the side of a box of `box` Å: an even number without large factors."""
    return (
        int(scipy.fft.next_fast_len(2 * int(np.ceil(box / POTENTIAL_ANGSTROM / 2)), real=True))
        // 2
        * 2
    )


def exit_waves(atoms: Atoms, lens: Lens, seed: int) -> Any:
    """abTEM's exit waves of the frozen phonons, (PHONONS, n, n), [x, y]."""
    sigmas = [VIBRATION_ANGSTROM.get(int(z), USUAL_VIBRATION_ANGSTROM) for z in atoms.numbers]
    moved = abtem.FrozenPhonons(atoms, PHONONS, sigmas=list(map(float, sigmas)), seed=seed)
    n = grid_of(float(atoms.cell[0, 0]))
    potential = abtem.Potential(
        moved, gpts=(n, n), slice_thickness=SLICE_ANGSTROM, parametrization="kirkland"
    )
    plane = abtem.PlaneWave(energy=lens.voltage_kv * 1e3, tilt=lens.tilt_mrad)
    waves: Any = plane.multislice(potential)  # one: of one plane wave
    return waves.compute(**SINGLE)


def hrtem(waves: Any, lens: Lens, defocus_nm: float) -> Image:
    """Image intensity (n, n) of the waves' box, mean over phonons, without camera."""
    angle = np.deg2rad(lens.angle_degrees)
    optics = abtem.CTF(
        energy=lens.voltage_kv * 1e3,
        focal_spread=10 * lens.focal_spread_nm,
        angular_spread=lens.source_mrad,
        defocus=10 * defocus_nm,
        Cs=1e4 * lens.cs_um,
        C12=10 * lens.astigmatism_nm,
        phi12=angle,
        C21=10 * lens.coma_nm,
        phi21=2 * angle,
        C23=10 * lens.trefoil_nm,
        phi23=3 * angle,
    )
    intensity = np.asarray(waves.apply_ctf(optics).intensity().compute(**SINGLE).array, float)
    image = intensity.reshape(-1, *intensity.shape[-2:]).mean(0).T
    return blurred(image, float(waves.extent[0]), lens.vibration_angstrom)


def blurred(image: Image, box: float, sigma: tuple[float, float]) -> Image:
    """The periodic image convolved with a Gaussian of `sigma` Å along y and x."""
    ky, kx = (np.fft.fftfreq(n, box / n) for n in image.shape)
    factor = np.exp(-2 * np.pi**2 * ((sigma[0] * ky[:, None]) ** 2 + (sigma[1] * kx[None]) ** 2))
    return np.asarray(np.fft.ifft2(np.fft.fft2(image) * factor).real)


def stem(atoms: Atoms, probe: Probe, mode: str) -> Image:
    """HAADF or ABF of the box, (n, n), by the incoherent model of this module."""
    box = float(atoms.cell[0, 0])
    n = grid_of(box)
    power, spot = (HAADF_POWER, 0.0) if mode == "HAADF" else (ABF_POWER, ABF_SPOT_ANGSTROM)
    spectrum = np.zeros((n, n), complex)
    for z in np.unique(atoms.numbers):
        at = atoms.positions[atoms.numbers == z]
        weight = z**power * np.exp(-(at[:, 2] - atoms.positions[:, 2].min()) / DEPTH_ANGSTROM)
        sigma = np.hypot(VIBRATION_ANGSTROM.get(int(z), USUAL_VIBRATION_ANGSTROM), spot)
        spectrum += np.fft.fft2(blurred(deposited(at[:, :2], weight, n, box), box, (sigma, sigma)))
    shape = (
        abtem.Probe(
            energy=probe.voltage_kv * 1e3,
            semiangle_cutoff=probe.convergence_mrad,
            Cs=1e4 * probe.cs_um,
            extent=box,
            gpts=n,
        )
        .build((0.0, 0.0))
        .intensity()
        .compute(**SINGLE)
    )
    assert isinstance(shape, abtem.Images)
    focus = np.asarray(shape.array, float).reshape(n, n).T
    thing = np.fft.ifft2(spectrum * np.fft.fft2(focus / focus.sum())).real
    thing = blurred(thing, box, (probe.source_angstrom,) * 2)
    top = float(np.percentile(thing, 99.9))
    return thing / top + DARK_LEVEL if mode == "HAADF" else np.exp(-ABF_STRENGTH * thing / top)


def deposited(xy: NDArray[np.float64], weight: NDArray[np.float64], n: int, box: float) -> Image:
    """Weights at places (m, 2) Å on the periodic grid (n, n), [y, x], shared out among the four
    nearest points."""
    out = np.zeros((n, n))
    cell = xy[:, ::-1] / box * n
    low = np.floor(cell).astype(int)
    part = cell - low
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.where(dy, part[:, 0], 1 - part[:, 0]) * np.where(
                dx, part[:, 1], 1 - part[:, 1]
            )
            np.add.at(out, ((low[:, 0] + dy) % n, (low[:, 1] + dx) % n), share * weight)
    return out


def framed(
    image: Image, box: float, sampling: float, shape: tuple[int, int], camera: str
) -> NDArray[np.float32]:
    """The middle of the box on a camera of `shape` pixels of `sampling` Å: Fourier interpolation,
    averaging over pixels, and the camera's transfer. The box is a whole number of pixels."""
    n, wanted = image.shape[0], round(box / sampling)
    spectrum = scipy.fft.fftshift(scipy.fft.fft2(image))
    keep = min(n, wanted)
    full = np.zeros((wanted, wanted), complex)
    half = (keep - 1) // 2  # both signs of each frequency
    here, there = (slice(m // 2 - half, m // 2 + half + 1) for m in (n, wanted))
    full[there, there] = spectrum[here, here]
    frequency = scipy.fft.fftshift(np.fft.fftfreq(wanted))  # 1/px
    averaged = np.sinc(frequency)
    transfer = CAMERAS[camera](2 * np.hypot(frequency[:, None], frequency[None]))
    # Sample [i, j] of the box lies at (i, j) * box / n: pixel centres are half a pixel further.
    move = np.exp(1j * np.pi * frequency)
    full *= transfer * np.outer(averaged * move, averaged * move)
    whole = scipy.fft.ifft2(scipy.fft.ifftshift(full)).real * (wanted / n) ** 2
    top, left = ((wanted - m) // 2 for m in shape)
    return np.asarray(whole[top : top + shape[0], left : left + shape[1]], dtype=np.float32)


def to_pixels(
    places: NDArray[np.float64], box: float, sampling: float, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Places (n, 2) Å of the box as x, y in pixels of the frame, the centre of pixel [0, 0] at the
    origin."""
    wanted = round(box / sampling)
    return np.asarray(
        places / sampling - 0.5 - [(wanted - shape[1]) // 2, (wanted - shape[0]) // 2]
    )


# Modulation transfer against the frequency as a share of Nyquist's; none is a Gaussian. "pixel" is
# the box alone.
CAMERAS: dict[str, Any] = {
    "pixel": lambda q: np.ones_like(q),
    "scintillator": lambda q: 0.35 / (1 + (q / 0.12) ** 2) + 0.65 / (1 + (q / 0.6) ** 2),
    "fibre": lambda q: 0.25 * np.exp(-q / 0.08) + 0.75 * np.exp(-q / 0.9),
    "direct": lambda q: np.sinc(q / 2.4) * (0.92 + 0.08 * np.exp(-q / 0.05)),
}

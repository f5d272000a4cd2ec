"""From a stored exit wave to an image: lens transfer, partial coherence, blur, sampling. NumPy only
(docs/simulation.md, "Pt on CeO2").

Intensities are in units of the vacuum level (1.0). Spatial frequencies k in 1/Å. The wave lives on
a periodic square cell and is band-limited, so an image at any sampling and origin is exact Fourier
evaluation, not interpolation.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from gdn.recipes import Imaging
from gdn.simulation.scattering import wavelength_angstrom
from gdn.storage import writing

ComplexArray = NDArray[np.complex64]
FloatArray = NDArray[np.float32]

FRAME_SHAPE, FRAME_SAMPLING = (850, 850), 0.0612  # the study's frame
ENERGY_KV = 300.0  # of waves stored before their record said it
WAVE_BAND = 1.6  # 1/Å kept of the exit wave; the focal spread damps what lies beyond to below 1e-3
IMAGE_BAND = 1.45  # 1/Å kept of the intensity; the blur leaves less than 2 % there
_GRID = 300  # px on which the intensity is formed: products alias only beyond IMAGE_BAND
MARGIN_ANGSTROM = 2.0  # next to the cell's edge the periodic neighbour shows


@dataclass(frozen=True, kw_only=True)
class Optics:
    """Imaging conditions of a lens and a camera, for any beam. Units are in the names.

    - `defocus_nm`: positive is underfocus.
    - `spherical_um`: the coefficient of spherical aberration.
    - `astigmatism_nm`, `coma_nm`, `trefoil_nm`: amplitudes.
    - `astigmatism_degrees`, `coma_degrees`, `trefoil_degrees`: their azimuths.
    - `focal_spread_nm`: standard deviation of the defocus.
    - `source_mrad`: semi-angle of the source at 1/e of its middle.
    - `blur_angstrom`: standard deviation of vibration and detector together.
    - `camera_angstrom`: c in the camera's transfer function (1 + (2 pi k c)^2)^(-3/4), that of a
      point spread with long tails; 0 is a perfect camera.
    """

    defocus_nm: float = 6.0
    spherical_um: float = -5.0
    astigmatism_nm: float = 0.0
    astigmatism_degrees: float = 0.0
    coma_nm: float = 0.0
    coma_degrees: float = 0.0
    trefoil_nm: float = 0.0
    trefoil_degrees: float = 0.0
    focal_spread_nm: float = 3.0
    source_mrad: float = 0.1
    blur_angstrom: float = 0.45
    camera_angstrom: float = 0.0

    @staticmethod
    def random(rng: np.random.Generator, ranges: Imaging = Imaging()) -> Optics:
        """Conditions drawn from `ranges`, by default those of one aberration-corrected microscope
        at underfocus."""
        return Optics(
            defocus_nm=float(rng.integers(ranges.defocus_nm[0], ranges.defocus_nm[1] + 1)),
            spherical_um=rng.uniform(*ranges.spherical_um),
            astigmatism_nm=abs(rng.normal(0, ranges.astigmatism_nm)),
            astigmatism_degrees=rng.uniform(0, 180),
            coma_nm=abs(rng.normal(0, ranges.coma_nm)),
            coma_degrees=rng.uniform(0, 360),
            trefoil_nm=abs(rng.normal(0, ranges.trefoil_nm)),
            trefoil_degrees=rng.uniform(0, 120),
            focal_spread_nm=rng.uniform(*ranges.focal_spread_nm),
            source_mrad=rng.uniform(*ranges.source_mrad),
            blur_angstrom=rng.uniform(*ranges.blur_angstrom),
            # Drawn last, and only where asked for: stored seeds go on standing for the same
            # conditions.
            camera_angstrom=rng.uniform(*ranges.camera_angstrom)
            if ranges.camera_angstrom[1]
            else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class Wave:
    """A band-limited exit wave.

    - `spectrum` (n, n) complex64: in FFT order, of a wave of unit amplitude; axis 0 is y, axis 1 x.
    - `cell_angstrom`: side of the square cell.
    - `columns` (m, 2) float32: projected atom columns, (x, y) in Å from the cell's corner.
    - `weights` (m,) float32: their summed atomic numbers.
    - `record`: of the structure and the beam.
    """

    spectrum: ComplexArray
    cell_angstrom: float
    columns: FloatArray
    weights: FloatArray
    record: dict[str, Any]

    @property
    def energy_kv(self) -> float:
        """Energy of the electrons, kV."""
        return float(self.record.get("energy_kv", ENERGY_KV))


def write_wave(path: Path, wave: Wave) -> None:
    """Store `wave` as an uncompressed .npz (no pickle) under a temporary name, then rename."""
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            spectrum=wave.spectrum.astype(np.complex64),
            cell_angstrom=np.float64(wave.cell_angstrom),
            columns=wave.columns.astype(np.float32),
            weights=wave.weights.astype(np.float32),
            record=np.array(json.dumps(wave.record)),
        )


def read_wave(path: Path) -> Wave:
    """Read what `write_wave` wrote. Raises ValueError naming the file if it is not such a file."""
    try:
        # Opened here: NumPy leaves the file open when it finds that it is no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            return Wave(
                spectrum=data["spectrum"],
                cell_angstrom=float(data["cell_angstrom"]),
                columns=data["columns"],
                weights=data["weights"],
                record=json.loads(str(data["record"])),
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a stored exit wave ({error}); simulate it again") from None


def band_crop(spectrum: NDArray[Any], n: int) -> NDArray[Any]:
    """Centre `n` x `n` low frequencies of a larger or smaller (m, m) spectrum in FFT order."""
    out = np.zeros((n, n), spectrum.dtype)
    half = (min(n, spectrum.shape[0]) - 1) // 2
    low, high = slice(0, half + 1), slice(-half, None)
    for a in (low, high):
        for b in (low, high):
            out[a, b] = spectrum[a, b]
    return out


def _frequencies(n: int, cell: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k = np.asarray(np.fft.fftfreq(n, cell / n), dtype=np.float64)
    return k[:, None], k[None, :]


def transfer(
    optics: Optics, n: int, cell: float, wavelength: float, focus_offset_nm: float = 0.0
) -> ComplexArray:
    """Lens transfer (n, n) for electrons of `wavelength` Å, with the envelope of the source angle
    (Kirkland 2010, eqs. 3.9 and 3.38)."""
    ky, kx = _frequencies(n, cell)
    alpha = wavelength * (kx + 1j * ky)
    a2 = np.abs(alpha) ** 2
    c1 = -10 * (optics.defocus_nm + focus_offset_nm)
    cs = 1e4 * optics.spherical_um
    astigmatism = 10 * optics.astigmatism_nm * np.exp(2j * np.deg2rad(optics.astigmatism_degrees))
    coma = 10 * optics.coma_nm * np.exp(1j * np.deg2rad(optics.coma_degrees))
    trefoil = 10 * optics.trefoil_nm * np.exp(3j * np.deg2rad(optics.trefoil_degrees))
    path = 0.5 * c1 * a2 + 0.25 * cs * a2**2
    path = path + 0.5 * (astigmatism * np.conj(alpha) ** 2).real
    path = path + a2 * (coma * np.conj(alpha)).real + (trefoil * np.conj(alpha) ** 3).real / 3
    slope = np.sqrt(a2) * (c1 + cs * a2)  # d(path)/d(alpha), rotationally symmetric part, Å
    envelope = np.exp(-((np.pi * 1e-3 * optics.source_mrad / wavelength * slope) ** 2))
    return np.asarray(envelope * np.exp(-2j * np.pi / wavelength * path), dtype=np.complex64)


def intensity_spectrum(wave: Wave, optics: Optics) -> NDArray[np.complex64]:
    """Fourier coefficients (m, m) of the image intensity over the cell, mean value at [0, 0]
    (docs/simulation.md, "Pt on CeO2").

    Focal spread is an incoherent sum over a Gauss-Hermite rule of five foci.
    """
    n = wave.spectrum.shape[0]
    nodes, weights = np.polynomial.hermite.hermgauss(5)
    wavelength = wavelength_angstrom(1e3 * wave.energy_kv)
    intensity = np.zeros((_GRID, _GRID), np.float32)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        offset = np.sqrt(2) * node * optics.focal_spread_nm
        exit_wave = wave.spectrum * transfer(optics, n, wave.cell_angstrom, wavelength, offset)
        psi = scipy.fft.ifft2(band_crop(exit_wave, _GRID)) * (_GRID / n) ** 2
        intensity += np.float32(weight) * (psi.real**2 + psi.imag**2)
    keep = 2 * int(IMAGE_BAND * wave.cell_angstrom) + 1
    spectrum = band_crop(scipy.fft.fft2(intensity), keep) / _GRID**2
    ky, kx = _frequencies(keep, wave.cell_angstrom)
    k2 = ky**2 + kx**2
    blur = np.exp(-2 * (np.pi * optics.blur_angstrom) ** 2 * k2)
    camera = (1 + (2 * np.pi * optics.camera_angstrom) ** 2 * k2) ** -0.75
    return np.asarray(spectrum * blur * camera, dtype=np.complex64)


def render(
    wave: Wave,
    optics: Optics,
    sampling_angstrom: float,
    shape: tuple[int, int],
    origin_angstrom: tuple[float, float] | None = None,
) -> FloatArray:
    """Clean frame `shape` (rows, columns), float32, vacuum 1.0, of the pixel-area-averaged
    intensity.

    `origin_angstrom` (y, x) is the outer corner of pixel [0, 0] in the cell; None centres the
    frame. Raises ValueError if the field is larger than the cell.
    """
    cell = wave.cell_angstrom
    field = np.array(shape) * sampling_angstrom
    if (field > cell - 2 * MARGIN_ANGSTROM).any():
        raise ValueError(
            f"a field of {field[0]:.1f} x {field[1]:.1f} Å is larger than the simulated"
            f" {cell - 2 * MARGIN_ANGSTROM:.0f} Å; ask for fewer pixels or a finer sampling"
        )
    corner = np.array(origin_angstrom) if origin_angstrom is not None else (cell - field) / 2
    spectrum = intensity_spectrum(wave, optics)
    k = np.fft.fftfreq(spectrum.shape[0], cell / spectrum.shape[0])
    pixel = np.sinc(k * sampling_angstrom)
    phases = [
        (
            np.exp(
                2j
                * np.pi
                * np.outer(corner[a] + (np.arange(shape[a]) + 0.5) * sampling_angstrom, k)
            )
            * pixel
        )
        for a in (0, 1)
    ]
    rows, columns = (p.astype(np.complex64) for p in phases)
    return np.asarray((rows @ spectrum @ columns.T).real, dtype=np.float32)


def oversampled(wave: Wave, optics: Optics, n: int, pixel_angstrom: float) -> FloatArray:
    """The whole periodic cell (n, n), float32, of the intensity averaged over `pixel_angstrom`.

    The pixel's box is replaced by the Gaussian of equal second moment, so that the image may be
    rotated afterwards. Sample [i, j] lies at ((i, j) * cell / n) Å.
    """
    spectrum = intensity_spectrum(wave, optics)
    ky, kx = _frequencies(spectrum.shape[0], wave.cell_angstrom)
    pixel = np.exp(-2 * np.pi**2 * pixel_angstrom**2 / 12 * (ky**2 + kx**2))
    full = band_crop((spectrum * pixel).astype(np.complex64), n)
    return np.asarray(scipy.fft.ifft2(full).real * n**2, dtype=np.float32)


def as_record(optics: Optics) -> dict[str, float]:
    """`optics` as a JSON-ready dictionary."""
    return {name: float(value) for name, value in asdict(optics).items()}

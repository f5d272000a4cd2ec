"""Images of stored exit waves in torch, a batch at a time, on the training device. It computes what
`gdn.simulation.imaging` computes for one image (docs/simulation.md, "Images on the training
device").

Intensities are in units of the vacuum level (1.0), lengths in Å, spatial frequencies in 1/Å, angles
in radians. Every tensor of imaging conditions is (n,), one value per image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gdn.simulation.imaging import IMAGE_BAND, Optics
from gdn.simulation.multislice import band_size, crop

GRID = 300  # px of the cell on which the intensity is formed
FINE = 320  # px of the cell from which patches are cut, by cubic splines
FOCI = 5  # nodes of the focal spread's Gauss-Hermite rule


@dataclass(frozen=True)
class Lens:
    """Aberrations and partial coherence of a batch of images, each (n,) float32; see
    `gdn.simulation.imaging.Optics`. Lengths are in Å, azimuths in radians.

    - `wavelength`: of the electrons.
    - `defocus`: positive is underfocus.
    - `spherical`: the coefficient of spherical aberration.
    - `astigmatism`, `coma`, `trefoil`: amplitudes.
    - `astigmatism_azimuth`, `coma_azimuth`, `trefoil_azimuth`: their directions, radians.
    - `focal_spread`: standard deviation of the defocus.
    - `source`: semi-angle, radians.
    - `blur`: standard deviation of a Gaussian.
    - `camera`: c in the transfer function (1 + (2 pi k c)^2)^(-3/4) of the camera's point spread,
      which has long tails and is not a Gaussian; 0 is a perfect camera.
    """

    wavelength: Tensor
    defocus: Tensor
    spherical: Tensor
    astigmatism: Tensor
    astigmatism_azimuth: Tensor
    coma: Tensor
    coma_azimuth: Tensor
    trefoil: Tensor
    trefoil_azimuth: Tensor
    focal_spread: Tensor
    source: Tensor
    blur: Tensor
    camera: Tensor

    @staticmethod
    def of(optics: list[Optics], wavelength: float, device: str = "cpu") -> Lens:
        """A batch from the conditions of the NumPy renderer."""
        rows = [
            (
                wavelength,
                10 * o.defocus_nm,
                1e4 * o.spherical_um,
                10 * o.astigmatism_nm,
                np.deg2rad(o.astigmatism_degrees),
                10 * o.coma_nm,
                np.deg2rad(o.coma_degrees),
                10 * o.trefoil_nm,
                np.deg2rad(o.trefoil_degrees),
                10 * o.focal_spread_nm,
                1e-3 * o.source_mrad,
                o.blur_angstrom,
                o.camera_angstrom,
            )
            for o in optics
        ]
        table = torch.tensor(rows, dtype=torch.float32, device=device)
        return Lens(*table.unbind(1))

    def take(self, index: Tensor) -> Lens:
        """The conditions of some images."""
        return Lens(*(getattr(self, f.name)[index] for f in fields(self)))


@cache
def _frequencies(n: int, cell: float, device: str) -> tuple[Tensor, Tensor]:
    """Complex frequency kx + i ky (n, n) complex64, and |k|^2 float32."""
    k = torch.fft.fftfreq(n, cell / n, device=device)
    return torch.complex(k[None, :].expand(n, n), k[:, None].expand(n, n)), k[:, None] ** 2 + k[
        None, :
    ] ** 2


def over_pixels(values: Tensor) -> Tensor:
    """One value per image, (n,), reshaped to (n, 1, 1)."""
    return values[:, None, None]


def _path(lens: Lens, alpha: Tensor, a2: Tensor) -> Tensor:
    """Path difference in Å at the angles `alpha`, without defocus (Uhlemann & Haider 1998;
    docs/simulation.md, "Images on the training device")."""
    path = 0.25 * over_pixels(lens.spherical) * a2**2
    towards = torch.conj(alpha)
    for size, azimuth, order in (
        (lens.astigmatism, lens.astigmatism_azimuth, 2),
        (lens.coma, lens.coma_azimuth, 1),
        (lens.trefoil, lens.trefoil_azimuth, 3),
    ):
        term = (over_pixels(torch.polar(size, order * azimuth)) * towards**order).real
        path = path + (term * a2 if order == 1 else term / order)
    return path


def intensity_spectra(waves: Tensor, lens: Lens, cell: float, grid: int = GRID) -> Tensor:
    """Fourier coefficients (images, m, m) complex64 of the intensity of exit waves (images, n, n),
    mean value at [0, 0].

    Lens transfer with the envelope of the source angle (Kirkland 2010, eqs. 3.9 and 3.38). The
    focal spread is an incoherent sum over a Gauss-Hermite rule of five foci (docs/simulation.md,
    "Images on the training device").
    """
    n = waves.shape[-1]
    nodes, weights = np.polynomial.hermite.hermgauss(FOCI)
    k, _ = _frequencies(n, cell, str(waves.device))
    wave, spherical = over_pixels(lens.wavelength), over_pixels(lens.spherical)
    alpha = wave * k
    a2 = alpha.real**2 + alpha.imag**2
    path, angle = _path(lens, alpha, a2), a2.sqrt()
    total = torch.zeros(len(waves), grid, grid, device=waves.device)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        c1 = -over_pixels(lens.defocus + float(np.sqrt(2) * node) * lens.focal_spread)
        slope = angle * (c1 + spherical * a2)  # d(path)/d(alpha), rotationally symmetric part, Å
        envelope = torch.exp(-((np.pi * over_pixels(lens.source) / wave * slope) ** 2))
        focused = waves * torch.polar(envelope, -2 * np.pi / wave * (path + 0.5 * c1 * a2))
        psi = torch.fft.ifft2(crop(focused, grid)) * (grid / n) ** 2
        total += float(weight) * (psi.real**2 + psi.imag**2)
    m = band_size(IMAGE_BAND, cell)
    return _blurred(crop(torch.fft.fft2(total), m) / grid**2, lens.blur, lens.camera, cell)


def _blurred(spectra: Tensor, blur: Tensor, camera: Tensor, cell: float) -> Tensor:
    _, k2 = _frequencies(spectra.shape[-1], cell, str(spectra.device))
    gauss = torch.exp(-2 * (np.pi * over_pixels(blur)) ** 2 * k2)
    return spectra * gauss * (1 + (2 * np.pi * over_pixels(camera)) ** 2 * k2) ** -0.75


def pixel_averaged(spectra: Tensor, pixel: Tensor, cell: float) -> Tensor:
    """`spectra` (images, m, m) of images averaged over pixels of `pixel` (images,) Å. The pixel's
    box is replaced by the Gaussian of equal second moment, so that the image can be turned
    afterwards (docs/simulation.md, "Images on the training device")."""
    _, k2 = _frequencies(spectra.shape[-1], cell, str(spectra.device))
    return spectra * torch.exp(-2 * np.pi**2 / 12 * over_pixels(pixel) ** 2 * k2)


def cell_images(spectra: Tensor, n: int = FINE) -> Tensor:
    """Whole periodic cells (images, n, n) float32 of `spectra`; sample [i, j] lies at ((i, j) *
    cell / n) Å."""
    images: Tensor = torch.fft.ifft2(crop(spectra, n)).real * n**2
    return images


@cache
def _spline_inverse(n: int, device: str) -> Tensor:
    """Transform (n, n) of the periodic filter that turns samples into cubic spline coefficients
    (Unser 1999)."""
    k = torch.fft.fftfreq(n, device=device)
    inverse = 3 / (2 + torch.cos(2 * np.pi * k))
    return inverse[:, None] * inverse[None, :]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Where n patches are cut.

    - `image` (n,) int64: the number of the image.
    - `centre` (n, 2): y, x in Å.
    - `angle` (n,): radians.
    - `flip` (n,): 1 or -1.
    - `pixel` (n,): Å.
    """

    image: Tensor
    centre: Tensor
    angle: Tensor
    flip: Tensor
    pixel: Tensor


def patches(spectra: Tensor, cuts: Cuts, patch: int, cell: float) -> Tensor:
    """Patches (n, patch, patch) float32 cut out of periodic cells by cubic splines, like scipy's
    `map_coordinates`."""
    device, n = str(spectra.device), FINE
    fine = crop(spectra, n) * _spline_inverse(n, device)
    coefficients = torch.fft.ifft2(fine).real * n**2
    grid = torch.arange(patch, device=device) - (patch - 1) / 2
    c, s = over_pixels(cuts.angle.cos()), over_pixels(cuts.angle.sin())
    y = grid[None, :, None] * over_pixels(cuts.pixel)
    x = grid[None, None, :] * over_pixels(cuts.pixel * cuts.flip)
    step = cell / n
    rows = (over_pixels(cuts.centre[:, 0]) + c * y - s * x) / step
    columns = (over_pixels(cuts.centre[:, 1]) + s * y + c * x) / step
    return _spline_values(coefficients, cuts.image, rows, columns)


def _spline_values(coefficients: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Periodic cubic splines with `coefficients` (images, n, n) at `rows`, `columns` (patches, h,
    w) of `image` (patches,)."""
    n = coefficients.shape[-1]
    flat, base = coefficients.flatten(), over_pixels(image * n * n)
    weights_y, first_y = _weights(rows)
    weights_x, first_x = _weights(columns)
    at_y = [(first_y + i) % n * n for i in range(4)]
    at_x = [(first_x + j) % n for j in range(4)]
    total = torch.zeros_like(rows)
    for i in range(4):
        line = torch.zeros_like(rows)
        for j in range(4):
            line += weights_x[j] * flat[base + at_y[i] + at_x[j]]
        total += weights_y[i] * line
    return total


def _weights(place: Tensor) -> tuple[list[Tensor], Tensor]:
    """Weights of the four coefficients around `place`, and the number of the first. They are those
    of the cubic B-spline (Unser 1999)."""
    low = place.floor()
    t = place - low
    u = 1 - t
    inner, outer = 2 / 3 - t**2 + t**3 / 2, 2 / 3 - u**2 + u**3 / 2
    return [u**3 / 6, inner, outer, t**3 / 6], low.long() - 1


def turning_room(half: Tensor, cell: float) -> Tensor:
    """Largest angle, radians from a multiple of 90 degrees, at which squares of half-width `half`
    (n,) Å fit into the cell (docs/simulation.md, "Images on the training device")."""
    ratio = ((cell / 2 - 1) / half / np.sqrt(2)).clamp(0, 1)
    limit = (torch.asin(ratio) - np.pi / 4).clamp_min(0)
    return torch.where(ratio >= 1, torch.full_like(limit, np.pi / 4), limit)


def stem_image(maps: Tensor, probe: Tensor, tail: Tensor, cell: float) -> Tensor:
    """Images (images, GRID, GRID), real and not negative, of columns by an incoherent probe. `maps`
    (images, m, m) are spectra. The probe is a Gaussian of `probe` (images,) Å; its share `tail` is
    three times as wide (docs/simulation.md, "Images on the training device")."""
    _, k2 = _frequencies(maps.shape[-1], cell, str(maps.device))
    narrow = torch.exp(-2 * (np.pi * over_pixels(probe)) ** 2 * k2)
    seen = maps * ((1 - over_pixels(tail)) * narrow + over_pixels(tail) * narrow**9)
    n = maps.shape[-1]
    return F.relu(torch.fft.ifft2(crop(seen, GRID)).real * (GRID / n) ** 2)


def spectra_of(images: Tensor, cell: float) -> Tensor:
    """Fourier coefficients (images, m, m) of real cells (images, g, g), mean value at [0, 0], as
    far as IMAGE_BAND."""
    g = images.shape[-1]
    return crop(torch.fft.fft2(images), band_size(IMAGE_BAND, cell)) / g**2

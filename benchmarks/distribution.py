"""Do a generator's images look like the data? Precision and recall by nearest neighbours, and
spectra.

Kynkäänniemi et al. 2019 with k = 3 in a fixed embedding: mean and deviation of a random three-layer
convolutional network's features (no training, so that nothing prefers photographs), and the radial
log-spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Images = NDArray[np.float32]
NEIGHBOUR = 3


@dataclass(frozen=True)
class Likeness:
    """`precision`: share of generated images near real ones; `recall`: of real ones near generated;
    `spectrum_db`: rms difference of the mean radial power spectra."""

    precision: float
    recall: float
    spectrum_db: float


def radial_spectrum(images: Images, bins: int = 24) -> NDArray[np.float64]:
    """Mean power (n, bins) of images (n, p, p) in rings of spatial frequency up to Nyquist, mean
    value taken off."""
    p = images.shape[1]
    window = np.hanning(p)[:, None] * np.hanning(p)[None, :]
    power = np.abs(np.fft.fft2((images - images.mean((1, 2), keepdims=True)) * window)) ** 2
    k = np.fft.fftfreq(p)
    ring = np.minimum((np.hypot(k[:, None], k[None, :]) * 2 * bins).astype(int), bins)
    count = np.bincount(ring.ravel(), minlength=bins + 1)[:bins]
    return np.stack(
        [
            np.bincount(ring.ravel(), image_power.ravel(), bins + 1)[:bins] / count
            for image_power in power
        ]
    )


@torch.no_grad()
def embed(images: Images) -> NDArray[np.float64]:
    """Features (n, 136 + 24) of images (n, p, p), vacuum 1."""
    rng = torch.Generator().manual_seed(0)
    x = torch.from_numpy(np.ascontiguousarray(images - 1, dtype=np.float32))[:, None]
    blocks = []
    for inputs, outputs, size in ((1, 16, 7), (16, 24, 5), (24, 28, 5)):
        weight = torch.randn(outputs, inputs, size, size, generator=rng)
        weight -= weight.mean((2, 3), keepdim=True)
        weight /= weight.flatten(1).norm(dim=1)[:, None, None, None]
        x = F.conv2d(x, weight).abs()
        blocks += [x.mean((2, 3)), x.std((2, 3))]
        x = (
            F.avg_pool2d(x, 2) if x.shape[-1] >= 20 else x
        )  # small patches would not last for three layers
    features = np.log(torch.cat(blocks, 1).numpy().astype(np.float64) + 1e-3)
    return np.concatenate([features, 0.5 * np.log(radial_spectrum(images) + 1e-3)], 1)


def _near(points: NDArray[np.float64], of: NDArray[np.float64]) -> float:
    """Share of `points` inside the ball of some member of `of`, each as large as the distance to
    its k-th neighbour."""
    radius = np.sort(cdist(of, of), 1)[:, NEIGHBOUR]
    return float((cdist(points, of) <= radius[None, :]).any(1).mean())


def likeness(generated: Images, real: Images) -> Likeness:
    """Of two sets of images (n, p, p), vacuum 1."""
    a, b = embed(generated), embed(real)
    # At least 5 % (the features are logarithms): what hardly varies in the data must not decide.
    centre, scale = b.mean(0), np.maximum(b.std(0), 0.05)
    a, b = (a - centre) / scale, (b - centre) / scale
    ours, theirs = (10 * np.log10(radial_spectrum(x).mean(0) + 1e-9) for x in (generated, real))
    return Likeness(_near(a, b), _near(b, a), float(np.sqrt(((ours - theirs) ** 2).mean())))

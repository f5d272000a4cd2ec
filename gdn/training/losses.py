"""Losses of the recipes that train a generator. Images are in network units, latents (n, d), logits
(n, 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gdn.simulation.detectors import blur_as_camera
from gdn.training.shared_randomness import StepDraws

NEARLY_CLEAN = 1e5  # electrons a pixel


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy with one-sided label smoothing (Salimans et al. 2016): real ->
    `smoothing`."""
    real = F.binary_cross_entropy_with_logits(real_logits, torch.full_like(real_logits, smoothing))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return real + fake


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating generator loss (Goodfellow et al. 2014, section 3)."""
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def relativistic_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Relativistic pairing loss (Jolicoeur-Martineau 2019; Huang et al. 2024, eq. 2). It is small
    if `ours` look more real."""
    return F.softplus(theirs - ours).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared norm of the logits' gradient by the images: R1 on real images, R2 on generated
    ones (Mescheder et al. 2018)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def kl_to_flow(log_variance: Tensor, u: Tensor, log_determinant: Tensor) -> Tensor:
    """KL divergence of the encoder's Gaussian from the flow's prior per sample (n,), nats, from one
    draw e. The entropy is in closed form (Kingma & Welling 2014, app. B); -log p(e) = |u|^2 / 2 -
    log |du/de| is that of the draw (Dinh et al. 2017). Both are without d log(2 pi) / 2, which
    cancels."""
    return 0.5 * (u**2 - 1 - log_variance).sum(1) - log_determinant


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) per sample (n,), nats (Kingma & Welling 2014, app.
    B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


def reconstruction(images: Tensor, target: Tensor, variance: Tensor, inside: Tensor) -> Tensor:
    """Gaussian negative log-likelihood per sample (n,), nats, without its constant. `variance`
    (n,); `inside` (n, 1, h, w) is 1 where the sample was seen (docs/method.md, "Likelihood", alpha
    = 0)."""
    return (inside * (images - target) ** 2).sum((1, 2, 3)) / (2 * variance)


def random_windows(n: int, size: int, share: float, draws: StepDraws) -> Tensor:
    """Windows (n, 1, size, size), 1 inside and 0 outside. In a `share` of them every other side, at
    random, is cut by up to 0.4 of the size, as the edge of a frame cuts a tile."""
    cut = 0.4 * size * draws.uniform(n, 4)
    cut *= draws.uniform(n, 4) < 0.5
    cut[draws.uniform(n) >= share] = 0
    place = torch.arange(size, device=draws.device) + 0.5
    top, bottom, left, right = (c[:, None] for c in cut.unbind(1))
    rows = (place > top) & (place < size - bottom)
    columns = (place > left) & (place < size - right)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def sample_noise(images: Tensor, dose: Tensor, scale: float, draws: StepDraws) -> Tensor:
    """Poisson counts of `images` (network units, x = 1 + scale t) at `dose` (n,) electrons per
    pixel, converted back to network units. Above 50 counts they are drawn from the normal law of
    equal variance: the skewness is then below the noise, and this is ten times faster."""
    x = (1 + scale * images).clamp_min(0.02)
    expected = x * dose[:, None, None, None]
    noise = draws.normal(*expected.shape)
    counts = torch.where(
        expected < 50,
        draws.poisson(expected.clamp_max(60)),
        expected + expected.sqrt() * noise,
    )
    return (counts / dose[:, None, None, None] - 1) / scale


def add_detector_noise(
    noisy: Tensor, images: Tensor, dose: Tensor, scale: float, share: float, draws: StepDraws
) -> Tensor:
    """`noisy` copies (n, 1, h, w) of `images`, in network units, at `dose` (n,); a `share` of them
    with what a real detector adds: half of these with noise that the camera has blurred, three
    tenths with scan lines too bright or too dark, two tenths with a gain pattern of 1 to 6 %
    (docs/simulation.md, "Any crystal"). A practically clean image stays clean."""
    n, _, h, w = noisy.shape
    size, kind = draws.uniform(n), draws.uniform(n) / share
    kind[dose > NEARLY_CLEAN] = 1.0
    camera = blur_as_camera(noisy - images, 0.3 + size, draws.uniform(n) < 0.5)
    lines = ((0.02 + 0.38 * size) * dose.rsqrt() / scale)[:, None, None, None]
    lines = lines * draws.normal(n, 1, h, 1)
    pattern = (0.01 + 0.05 * size)[:, None, None, None] * draws.normal(n, 1, h, w)
    noisy = torch.where(_below(kind, 0.5), images + camera, noisy)
    noisy = torch.where(_below(kind, 0.8) & ~_below(kind, 0.5), noisy + lines, noisy)
    gained = noisy + (1 / scale + images) * pattern
    return torch.where(_below(kind, 1.0) & ~_below(kind, 0.8), gained, noisy)


def _below(kind: Tensor, bound: float) -> Tensor:
    """Where `kind` (n,) is below a bound, (n, 1, 1, 1)."""
    return (kind < bound)[:, None, None, None]

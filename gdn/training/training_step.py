"""One training step of each kind of recipe (`gan`, `range`, `unet`): the losses, and the updates of
the networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn.generator.networks import Encoder, Generator
from gdn.recipes import Recipe
from gdn.training import distributed, losses
from gdn.training.shared_randomness import StepDraws
from gdn.training.state import State

Row = dict[str, Tensor]


def learning_rate_factor(recipe: Recipe, images: int) -> float:
    """Linear warm-up, constant, cosine fall to 1 % over the last part of the run (Loshchilov &
    Hutter 2017, eq. 5)."""
    o = recipe.optimiser
    share = images / o.images
    warm = min(1.0, (images + o.batch) / o.warmup_images) if o.warmup_images else 1.0
    if share <= o.decay_from:
        return warm
    through = min(1.0, (share - o.decay_from) / (1 - o.decay_from))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * through)))


def autocast(recipe: Recipe, device: str) -> torch.autocast:
    """Half precision for the networks where the recipe wants it."""
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.optimiser.bf16)


def random_dose(recipe: Recipe, n: int, draws: StepDraws) -> Tensor:
    """Random doses (n,), electrons per generated pixel, uniform in the logarithm."""
    low, high = recipe.loss.log10_dose
    return 10 ** (low + (high - low) * draws.uniform(n))


def _gan_losses(
    state: State, recipe: Recipe, real: Tensor, labels: Tensor, device: str, draws: StepDraws
) -> Row:
    """The study's adversarial step: first the discriminator, then the generator on the same
    latents."""
    assert isinstance(state.generator, Generator)
    z = draws.normal(len(real), recipe.network.latent)
    with autocast(recipe, device):
        fake = state.generator(z)
    row = _discriminator_step(state, recipe, real, fake, device)
    state.opt_g.zero_grad(set_to_none=True)
    row["g_loss"] = _generator_loss(state, recipe, real, fake, device)
    row["g_loss"].backward()
    return row


def _generator_loss(
    state: State, recipe: Recipe, real: Tensor, fake: Tensor, device: str
) -> Tensor:
    with autocast(recipe, device):
        on_fake = state.discriminator(fake).float()
        if recipe.loss.adversary == "bce":
            return losses.generator_loss(on_fake)
        with torch.no_grad():
            on_real = state.discriminator(real).float()
    return losses.relativistic_loss(on_fake, on_real)


def _discriminator_step(
    state: State, recipe: Recipe, real: Tensor, fake: Tensor, device: str
) -> Row:
    state.opt_d.zero_grad(set_to_none=True)
    penalised = recipe.loss.adversary == "relativistic" and recipe.loss.gradient_penalty > 0
    a, b = (
        real.float().detach().requires_grad_(penalised),
        fake.float().detach().requires_grad_(penalised),
    )
    with autocast(recipe, device):
        on_real, on_fake = state.discriminator(a).float(), state.discriminator(b).float()
    if recipe.loss.adversary == "bce":
        loss = losses.discriminator_loss(on_real, on_fake, recipe.loss.label_smoothing)
    else:
        loss = losses.relativistic_loss(on_real, on_fake)
    if penalised:
        penalty = losses.gradient_penalty(on_real, a) + losses.gradient_penalty(on_fake, b)
        loss = loss + 0.5 * recipe.loss.gradient_penalty * penalty
    loss.backward()
    distributed.average_gradients(state.discriminator)
    state.opt_d.step()
    return {"d_loss": loss, "d_real": on_real.sigmoid().mean(), "d_fake": on_fake.sigmoid().mean()}


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The encoder's output for a batch.

    - `mean`, `log_variance`: of the latents.
    - `z` (n, d): a draw from them.
    - `dose` (n,): electrons per pixel.
    - `inside` (n, 1, h, w): 1 where the encoder saw the image.
    """

    dose: Tensor
    mean: Tensor
    log_variance: Tensor
    z: Tensor
    inside: Tensor


def encode(
    encoder: Encoder, recipe: Recipe, real: Tensor, device: str, draws: StepDraws
) -> Encoded:
    """Latents of `real`. A part of the images is seen with noise, a part clean; a part is cut as a
    frame's edge cuts a tile."""
    n, loss, scale = len(real), recipe.loss, recipe.network.intensity_scale
    dose = random_dose(recipe, n, draws)
    dose[~draws.first(n, loss.noisy_share)] = 1e6  # practically clean
    noisy = losses.sample_noise(real, dose, scale, draws)
    if loss.detector_share:
        noisy = losses.add_detector_noise(noisy, real, dose, scale, loss.detector_share, draws)
    inside = (
        losses.random_windows(n, real.shape[-1], loss.cut_share, draws)
        if loss.cut_share
        else real.new_ones(n, 1, 1, 1)
    )
    # Zero is the vacuum: what the encoder is shown beyond a frame's edge.
    noisy = noisy * inside
    with autocast(recipe, device):
        mean, log_variance = encoder(noisy, dose.rsqrt() / scale)
    mean, log_variance = mean.float(), log_variance.float()
    z = mean + (0.5 * log_variance).exp() * draws.normal(*mean.shape)
    return Encoded(dose=dose, mean=mean, log_variance=log_variance, z=z, inside=inside)


def with_prior(state: State, recipe: Recipe, e: Tensor, draws: StepDraws) -> Tensor:
    """Encoded latents and random ones in one batch, so that they have the same batch-norm
    statistics."""
    n_prior = int(len(e) * recipe.loss.prior_share) if recipe.loss.adversarial_weight else 0
    u = draws.normal(n_prior, e.shape[1])
    assert isinstance(state.generator, Generator)
    return torch.cat([e, state.generator.to_latents(u)])


def _range_losses(
    state: State, recipe: Recipe, real: Tensor, labels: Tensor, device: str, draws: StepDraws
) -> Row:
    """Evidence lower bound (Kingma & Welling 2014) on clean images, which the encoder sees clean or
    with noise, and a small adversarial term."""
    n, loss, scale = len(real), recipe.loss, recipe.network.intensity_scale
    assert state.encoder is not None
    assert isinstance(state.generator, Generator)
    seen = encode(state.encoder, recipe, real, device, draws)
    latents = with_prior(state, recipe, seen.z, draws)
    with autocast(recipe, device):
        images = state.generator.decode(latents).float()
    # What d latents fitted to counts cannot know (docs/method.md, "The price of a latent") is not
    # asked of the noisy half.
    unknown = loss.unknown_share * recipe.network.latent / (seen.dose * recipe.network.patch**2)
    variance = (loss.sigma**2 + unknown) / scale**2
    fit = losses.reconstruction(images[:n], real, variance, seen.inside)
    if state.generator.flow is None:
        kl = losses.kl_to_prior(seen.mean, seen.log_variance)
    else:
        kl = losses.kl_to_flow(seen.log_variance, *state.generator.to_normal(seen.z))
    pixels = real[0].numel()
    total = (fit + loss.kl_weight * kl).mean() / pixels
    row = {"fit": fit.mean() / pixels, "kl": kl.mean()}
    if loss.condition_weight:
        row["condition"] = ((seen.mean[:, : labels.shape[1]] - labels) ** 2).mean()
        total = total + loss.condition_weight * row["condition"] / pixels
    if len(latents) > n:
        fake = images[n:]
        some = real[draws.first(n, loss.prior_share)][: len(fake)]
        row |= _discriminator_step(state, recipe, some, fake, device)
        row["g_loss"] = _generator_loss(state, recipe, some, fake, device)
        total = total + loss.adversarial_weight * row["g_loss"]
    state.opt_g.zero_grad(set_to_none=True)
    total.backward()
    return row


def _unet_losses(
    state: State, recipe: Recipe, real: Tensor, labels: Tensor, device: str, draws: StepDraws
) -> Row:
    """Squared error of the clean patch from its noisy copy, vacuum units."""
    dose = random_dose(recipe, len(real), draws)
    noisy = losses.sample_noise(real, dose, recipe.network.intensity_scale, draws)
    with autocast(recipe, device):
        restored = state.generator(noisy)
    loss = ((restored.float() - real) ** 2).mean() * recipe.network.intensity_scale**2
    state.opt_g.zero_grad(set_to_none=True)
    # Of order one: squared errors of 1e-3 lie near Adam's epsilon otherwise.
    (1e3 * loss).backward()
    return {"squared_error": loss}


LOSSES = {"gan": _gan_losses, "range": _range_losses, "unet": _unet_losses}


def step(
    state: State, recipe: Recipe, real: Tensor, labels: Tensor, device: str, draws: StepDraws
) -> dict[str, float]:
    """Make one update of all networks on one batch. Returns the scalars worth recording.

    `labels` (n, 2) are standardised defocus and thickness of each patch, zeros if unknown.
    """
    factor = learning_rate_factor(recipe, state.images)
    rates = [recipe.optimiser.lr_generator, recipe.optimiser.lr_encoder]
    for group, rate in zip(state.opt_g.param_groups, rates, strict=False):
        group["lr"] = rate * factor
    state.opt_d.param_groups[0]["lr"] = recipe.optimiser.lr_discriminator * factor
    row = LOSSES[recipe.loss.kind](state, recipe, real, labels, device, draws)
    distributed.average_gradients(state.generator, state.encoder)
    state.opt_g.step()
    _update_average(state, recipe, len(real) * distributed.world_size())
    return {name: float(value.detach()) for name, value in row.items()}


@torch.no_grad()
def _update_average(state: State, recipe: Recipe, images: int) -> None:
    """Exponential average of the generator, with a half-life in images (Polyak & Juditsky 1992;
    exponential: Karras et al. 2024, section 3). Buffers are copied."""
    half_life = recipe.optimiser.ema_images
    # Short at first, so that the start is forgotten (Karras et al. 2024, section 3).
    decay = 0.5 ** (images / min(half_life, 0.05 * state.images + 1)) if half_life else 0.0
    for ours, theirs in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)
    for mine, its in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        mine.copy_(its)

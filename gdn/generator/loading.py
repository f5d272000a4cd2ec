"""Load a generator and its encoder, or a restorer, from stored weights; and store their weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gdn.generator.networks import Encoder, Generator
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.generator.torch_globals import own_random_numbers
from gdn.models import ModelError, SpecimenCard, load_model
from gdn.recipes import Recipe
from gdn.storage import writing


def write_weights(path: Path, generator: nn.Module, encoder: nn.Module | None) -> None:
    """Write both networks in the format of a model folder: float16, vectors float32 (batch norm's
    variances underflow in half precision). The name appears once the file is complete."""
    from safetensors.torch import save_file

    tensors = {
        f"{prefix}.{name}": (value.half() if _is_halved(value) else value).cpu().contiguous()
        for prefix, module in _named(generator, encoder)
        for name, value in module.state_dict().items()
    }
    with writing(path) as temporary:
        save_file(tensors, str(temporary))
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # the library writes it for its owner's eyes only


@torch.no_grad()
def round_weights(generator: nn.Module, encoder: nn.Module | None) -> None:
    """Round both networks to what `write_weights` stores, so that the exported graphs agree with
    the stored weights."""
    for _, module in _named(generator, encoder):
        for value in module.state_dict().values():
            if _is_halved(value):
                value.copy_(value.half())


def _is_halved(value: Tensor) -> bool:
    return value.is_floating_point() and value.ndim >= 2


def read_weights(path: Path, generator: nn.Module, encoder: nn.Module | None) -> None:
    """Load into both networks what `write_weights` wrote. Raises RuntimeError if names or shapes
    differ."""
    from safetensors.torch import load_file

    tensors = load_file(str(path))
    for prefix, module in _named(generator, encoder):
        own = {
            k.removeprefix(prefix + "."): v
            for k, v in tensors.items()
            if k.startswith(prefix + ".")
        }
        module.load_state_dict(own)


def _named(generator: nn.Module, encoder: nn.Module | None) -> Iterator[tuple[str, nn.Module]]:
    yield "generator", generator
    if encoder is not None:
        yield "encoder", encoder


def networks_of_weights(
    path: Path, settings: dict[str, Any]
) -> tuple[Generator, Encoder | None, Recipe]:
    """Networks with the weights of `path`, for the recipe of those `settings`. Raises ModelError,
    and ValueError for a recipe of another kind of network."""
    from safetensors import SafetensorError

    try:
        recipe = Recipe.model_validate(settings)
        if recipe.loss.kind == "unet":
            raise ValueError("the recipe is for a U-Net, not for a generator")
        with own_random_numbers():  # torch fills new weights, though none of them stays
            generator = Generator(recipe.network)
            encoder = Encoder(recipe.network) if recipe.loss.kind == "range" else None
        read_weights(path, generator, encoder)
    except (ValueError, RuntimeError, OSError, SafetensorError) as error:
        words = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{path}: not the weights of this model's recipe ({words}); export it again"
        ) from None
    return generator.eval(), None if encoder is None else encoder.eval(), recipe


def networks_of_model(folder: Path) -> tuple[Generator, Encoder | None, Recipe]:
    """Networks with the stored training weights of a model folder. Raises ModelError."""
    card = load_model(folder).card
    settings = {"specimen": _specimen_of(card.specimen)} | card.recipe
    return networks_of_weights(folder / "weights.safetensors", settings)


def _specimen_of(known: SpecimenCard) -> dict[str, Any]:
    """The specimen of a model whose recipe is older than the recipes' section for it."""
    voltage = {} if known.voltage_kv is None else {"energies_kv": (known.voltage_kv,)}
    return {"description": known.material} | voltage


def read_restorer(weights: Path, description: Mapping[str, Any], where: str) -> Restorer:
    """The network of a restorer with the `shape` that `description` names and its `weights`, in
    single precision. Raises ValueError if the weights do not belong to such a network; the message
    says `where` the shape is stated."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        shape = RestorerShape(
            **{name: tuple(value) for name, value in description["shape"].items()}
        )
        network = Restorer(shape)
        network.load_state_dict(load_file(str(weights)))
    except (KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        words = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{weights}: not the weights of a restorer of the shape in {where} ({words})"
        ) from None
    return network


def write_restorer(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a restorer's weights in the format of a model folder: float16."""
    from safetensors.torch import save

    half = {name: value.detach().half().contiguous() for name, value in weights.items()}
    path.write_bytes(save(half))

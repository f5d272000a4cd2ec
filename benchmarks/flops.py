"""Arithmetic operations of a model's graphs, counted by torch: two for a multiplication and
addition."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gdn.models import Model


def graphs_of(model: Model) -> dict[Any, torch.nn.Module]:
    """A model's graphs as torch's modules, single precision."""
    from gdn.engines.torch import _graphs
    from gdn.generator.loading import networks_of_model
    from gdn.recipes import Recipe

    generator, encoder = networks_of_model(model.folder)[:2]
    scale = Recipe.model_validate(model.card.recipe).network.intensity_scale
    return dict(_graphs(generator, encoder, scale, model.card.vacuum))


@torch.no_grad()
def operations(graph: torch.nn.Module, *inputs: torch.Tensor) -> float:
    """Operations of one run."""
    with FlopCounterMode(display=False) as count:
        graph(*inputs)
    return float(count.get_total_flops())

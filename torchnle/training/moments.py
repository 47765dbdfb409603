"""The moments with which a network standardises its features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.training.dropout import pool
from torchnle.training.supply import Supply
from torchnle.translators.prefix_network import PrefixNetwork

_BATCH = 64


def fit_moments(network: PrefixNetwork, supply: Supply, count: int) -> None:
    """Set the moments by which a network standardises features, from pooled features of the data.

    Args:
        network: The network; nothing is done if it does not standardise.
        supply: The source of features.
        count: The largest number of images, spread over the data.
    """
    if not network.standardise:
        return
    means = pooled_sample(supply, count)
    for layer in network.layers:
        x = means[layer].double()
        network.set_moments(layer, x.mean(dim=0).float(), x.std(dim=0, correction=0).float())


def pooled_sample(supply: Supply, count: int) -> dict[str, Float[Tensor, "n _"]]:
    """Compute the pooled features of each layer for images spread over the data, on the CPU.

    Args:
        supply: The source of features.
        count: The largest number of images.
    """
    step = max(1, len(supply) // count)
    numbers = list(range(0, len(supply), step))[:count]
    batches = supply.batches([numbers[i : i + _BATCH] for i in range(0, len(numbers), _BATCH)])
    means = [pool(batch.tokens) for batch in batches]
    return {layer: torch.cat([mean[layer][:, 0] for mean in means]).cpu() for layer in supply.widths}

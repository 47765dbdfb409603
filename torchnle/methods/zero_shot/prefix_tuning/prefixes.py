"""Learnable key-value prefixes in every attention block of a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.language.model import LanguageModel

if TYPE_CHECKING:
    from transformers import DynamicCache


class Prefixes(nn.Module):
    """Key-value prefixes (Li and Liang, 2021; "evolving pseudo-tokens", Tewel et al., 2023).

    They are initialised at the keys and values of the language model's first token with a little noise, so
    that the first sentence is fluent.

    Args:
        lm: The language model, which stays frozen.
        count: The number of prefixes per block; the paper uses 5.
        seed: The seed of the noise.
    """

    def __init__(self, lm: LanguageModel, count: int = 5, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        read = _first_token(lm)
        self.keys = nn.ParameterList(_noisy(layer.keys, count, generator) for layer in read.layers)
        self.values = nn.ParameterList(_noisy(layer.values, count, generator) for layer in read.layers)
        self.new_cache = lm.new_cache

    def cache(self) -> DynamicCache:
        """Build a key-value cache with the prefixes only; gradients flow to them."""
        cache = self.new_cache()
        for index, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys, values, index)
        return cache


@torch.no_grad()
def _first_token(lm: LanguageModel) -> DynamicCache:
    cache = lm.new_cache()
    first = lm.bos_id if lm.bos_id is not None else (lm.eos_id or 0)
    lm.hidden(lm.embed(torch.tensor([[first]], device=lm.device)), cache=cache)
    return cache


def _noisy(states: Float[Tensor, "1 heads 1 d"], count: int, generator: torch.Generator) -> nn.Parameter:
    repeated = states.detach().float().expand(-1, -1, count, -1)
    noise = torch.randn(repeated.shape, generator=generator).to(repeated)
    return nn.Parameter((repeated + 0.01 * states.detach().float().std() * noise).to(states.dtype).clone())

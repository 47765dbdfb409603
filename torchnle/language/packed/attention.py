"""Replace a model's attention for one new token per row by a faster one while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchnle import ops

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "torchnle"

#: The most keys that `ops.short_decode_attention` takes.
_KEYS = 64


@contextmanager
def short_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use `ops.short_decode_attention` for single new tokens of a model while the block runs.

    Args:
        model: The model; one that does not use PyTorch's attention is not changed.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before == "sdpa":
        _register()
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        if before == "sdpa":
            config._attn_implementation = before


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers calls an attention: (B, H, L, dh) in, (B, L, H, dh) out."""
    if not _fits(query, key, value, attention_mask, options):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    width = query.shape[3]
    scaled = query[:, :, 0] if scaling in (None, width**-0.5) else query[:, :, 0] * (scaling * width**0.5)
    lengths = torch.full((len(query),), key.shape[2], device=query.device)
    return ops.short_decode_attention(scaled, key, value, lengths)[:, None], None


def _fits(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> bool:
    plain = mask is None and options.get("position_bias") is None and not torch.is_grad_enabled()
    return plain and query.shape[2] == 1 and key.shape[2] <= _KEYS and key.shape == value.shape

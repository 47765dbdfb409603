"""Training loss of captions: one text per row, without logits in memory or gradients of the frozen head."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchnle import ops
from torchnle.language.model import LanguageModel

if TYPE_CHECKING:
    from transformers import Cache

#: A bucket of at least so many rows is closed before a text that is so many tokens longer than its shortest.
_BUCKET_ROWS, _BUCKET_TOKENS = 8, 4


def caption_log_probs(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    texts: Sequence[str],
    *,
    prompt: str = "",
    end: bool = False,
) -> Float[Tensor, "R"]:
    """Score each row's own text, all rows in one pass: ``log p(text_r | prefix_r, prompt)``.

    Minus their sum is the loss of DeViL's equation 1. The head is computed at the texts' tokens only, and
    its gradient in the forward pass (`ops.linear_lse_mu`). Texts of similar length are batched together, to
    keep padding small.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E); gradients flow to them.
        texts: R texts, none blank.
        prompt: Words between the prefix and the text, the same for all rows.
        end: Whether the token that ends a text is part of it, so that a translator learns to end.

    Returns:
        Log-probabilities in nats, (R,), float32 (float64 for a float64 model).

    Raises:
        TypeError: If `texts` is one string, or holds something else than strings.
        ValueError: If there is not one text per row, a text is blank or too long, or there is no token to
            end with.
    """
    ids = lm.tokenize(texts, prompt)
    if len(ids) != len(prefixes):
        raise ValueError(f"{len(ids)} texts were given for {len(prefixes)} prefixes; pass one text a row.")
    if end:
        if lm.eos_id is None:
            raise ValueError("the language model has no token that ends a text; pass end=False.")
        ids = [[*row, lm.eos_id] for row in ids]
    return ids_log_probs(lm, prefixes, ids, prompt=prompt)


def ids_log_probs(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    ids: Sequence[Sequence[int]],
    *,
    prompt: str = "",
) -> Float[Tensor, "R"]:
    """Score token ids as `caption_log_probs` scores texts: one list per row, none empty."""
    context = lm.context(prefixes, prompt)
    longest = max(map(len, ids))
    lm.require_positions(context.shape[1] + longest - 1, f"the longest text, of {longest} tokens,")
    buckets = _buckets([len(text) for text in ids])
    order = torch.tensor([row for bucket in buckets for row in bucket], device=lm.device)
    cache, rest = lm.begin_once(context)
    hidden = torch.cat(
        [_read(lm, rest[bucket], [list(ids[row]) for row in bucket], cache) for bucket in buckets]
    )
    owners = torch.tensor([row for row in order.tolist() for _ in ids[row]], device=lm.device)
    targets = torch.tensor([token for row in order.tolist() for token in ids[row]], device=lm.device)
    tokens = _log_probs(lm, hidden, targets)
    return tokens.new_zeros(len(ids)).index_add(0, owners, tokens)


def _buckets(lengths: list[int]) -> list[list[int]]:
    """Rows whose texts are of like length together, shortest first: little is read that is no text."""
    buckets: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if not buckets or (
            len(buckets[-1]) >= _BUCKET_ROWS and lengths[row] - lengths[buckets[-1][0]] >= _BUCKET_TOKENS
        ):
            buckets.append([])
        buckets[-1].append(row)
    return buckets


def _read(
    lm: LanguageModel, context: Float[Tensor, "R C E"], ids: list[list[int]], cache: Cache | None
) -> Float[Tensor, "K W"]:
    """Hidden states that predict the K tokens of the texts; the padding after a text is not seen."""
    longest = max(map(len, ids))
    words = torch.tensor([row[:-1] + [0] * (longest - len(row)) for row in ids], dtype=torch.long)
    embeds = torch.cat([context, lm.embed(words.to(lm.device))], dim=1)
    rows = torch.tensor([row for row, text in enumerate(ids) for _ in text], device=lm.device)
    steps = torch.tensor([step for text in ids for step in range(len(text))], device=lm.device)
    with _attention(embeds):
        return lm.hidden(embeds, cache=cache)[rows, context.shape[1] - 1 + steps]


def _attention(embeds: Tensor) -> AbstractContextManager[None]:
    """Plain products where PyTorch's fused attention is slow: its backward on a CPU in half precision.

    A training step of 64 texts through SmolLM2-135M in bfloat16 takes 2.2 s so, and 2.8 s otherwise.
    """
    slow = embeds.device.type == "cpu" and embeds.dtype != torch.float32 and torch.is_grad_enabled()
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def _log_probs(lm: LanguageModel, hidden: Float[Tensor, "K W"], targets: Tensor) -> Float[Tensor, "K"]:
    weight, bias = lm.head
    lse, _ = ops.linear_lse_mu(hidden, weight, bias)
    logits = (hidden.to(lse.dtype) * weight[targets].to(lse.dtype)).sum(dim=1)
    return logits - lse if bias is None else logits + bias[targets].to(lse.dtype) - lse

"""Sampling with shared computation: samples with equal tokens so far are one row of the batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.language.packed.step_decoding import Ends, Row

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Draws the next tokens: from hidden states (B, W), the node (S,) and the number (S,) of each sample, and the
#: step, to tokens (S,) and their log-probabilities (S,).
Draw: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass
class _Level:
    """The nodes at one depth that are read together.

    Args:
        hidden: What the head sees at each node, (B, W).
        cache: The keys and values of each node's path.
        node: The node of each sample, (S,).
        samples: The number of each sample, (S,).
        step: How many tokens have been drawn.
    """

    hidden: Float[Tensor, "B W"]
    cache: DynamicCache
    node: Int[Tensor, "S"]
    samples: Int[Tensor, "S"]
    step: int


def grow_samples(
    lm: LanguageModel,
    hidden: Float[Tensor, "B W"],
    cache: DynamicCache,
    owners: Int[Tensor, "S"],
    draw: Draw,
    *,
    ends: Ends,
    max_new_tokens: int,
    limit: int,
) -> list[Row]:
    """Sample texts until they end; samples with the same tokens so far share a row of the batch.

    The result is the same as with one row per sample.

    Args:
        lm: The language model.
        hidden: The hidden state after each context.
        cache: The keys and values of the contexts; it is changed.
        owners: The context of each sample.
        draw: Draws the next tokens.
        ends: The criterion for the end of a text.
        max_new_tokens: The largest number of tokens of a text.
        limit: The largest number of rows in the model at once.

    Returns:
        One finished row per sample, in order.
    """
    rows = [Row() for _ in range(len(owners))]
    waiting = [_Level(hidden, cache, owners, torch.arange(len(owners), device=owners.device), 0)]
    while waiting:
        level = waiting.pop()
        tokens, log_probs = draw(level.hidden, level.node, level.samples, level.step)
        _write(rows, level.samples.tolist(), tokens.tolist(), log_probs.tolist(), ends)
        if level.step + 1 < max_new_tokens:
            waiting += _next(lm, level, tokens, rows, limit)
    return rows


def _write(
    rows: list[Row], samples: list[int], tokens: list[int], log_probs: list[float], ends: Ends
) -> None:
    finished: dict[tuple[int, ...], bool] = {}
    for sample, token, log_prob in zip(samples, tokens, log_probs, strict=True):
        row = rows[sample]
        row.ids.append(token)
        row.log_probs.append(log_prob)
        key = tuple(row.ids)
        if key not in finished:
            finished[key] = ends.reached(row.ids)
        row.finished = finished[key]


def _next(lm: LanguageModel, level: _Level, tokens: Tensor, rows: list[Row], limit: int) -> list[_Level]:
    """The levels below one: its unfinished nodes, in groups of at most `limit`, first group last."""
    going = [i for i, sample in enumerate(level.samples.tolist()) if not rows[sample].finished]
    if not going:
        return []
    kept = torch.tensor(going, device=tokens.device)
    samples = level.samples[kept]
    pairs = torch.stack([level.node[kept], tokens[kept]], dim=1)
    edges, node = torch.unique(pairs, dim=0, return_inverse=True)
    found = []
    for start in range(0, len(edges), limit):
        part = edges[start : start + limit]
        last = start + limit >= len(edges)
        cache = level.cache if last else copy.deepcopy(level.cache)
        cache.batch_select_indices(part[:, 0])
        hidden = lm.hidden(lm.embed(part[:, 1:]), cache=cache)[:, 0]
        inside = (node >= start) & (node < start + limit)
        found.append(_Level(hidden, cache, node[inside] - start, samples[inside], level.step + 1))
    return found[::-1]

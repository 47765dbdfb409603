"""Greedy captions: all rows together, against transformers' `generate` in its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import Contender, Job, same_ids
from benchmarks.jobs import language_model, prefixes
from torchnle.language import decoding
from torchnle.language.model import LanguageModel

Ids = list[list[int]]


def jobs() -> Iterator[Job]:
    """Captions of 49 and 196 rows, 20 tokens."""
    lm = language_model()
    yield _captions(lm, 49, tokens=20, alone=2)
    yield _captions(lm, 196, tokens=20, alone=2)


def _captions(lm: LanguageModel, rows: int, *, tokens: int, alone: int) -> Job:
    context = lm.context(prefixes(lm, rows))
    peers = [
        Contender("generate, row by row", lambda: _one_by_one(lm, context[:alone], tokens), alone / rows),
        Contender("generate, batched", lambda: _generate(lm, context, tokens)),
        Contender("generate, batched, contiguous head", lambda: _generate_contiguous(lm, context, tokens)),
    ]
    if rows < 100:
        static = _static(lm, context, tokens)
        peers.append(Contender("generate, batched, static cache, contiguous head", static))
    return Job(
        name=f"greedy captions, {rows} rows, {tokens} tokens, float32",
        ours=Contender(
            "torchnle", lambda: decoding.greedy(lm, prefixes(lm, rows), max_new_tokens=tokens).ids
        ),
        peers=peers,
        agree=same_ids,
        targets={"generate, row by row": 18, "generate, batched, contiguous head": 1.4} if rows > 100 else {},
        note=f"row by row: {alone} rows were run, and the time is multiplied by {rows // alone}.",
    )


@torch.no_grad()
def _generate(lm: LanguageModel, context: Tensor, tokens: int, **options: Any) -> Ids:
    out = lm.model.generate(
        inputs_embeds=context,
        attention_mask=torch.ones(context.shape[:2], dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=lm.eos_ids[0],
        **options,
    )
    return [_before_end(lm, row) for row in out.tolist()]


def _before_end(lm: LanguageModel, row: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(row) if token in lm.eos_ids]
    return row[: ends[0]] if ends else row


def _one_by_one(lm: LanguageModel, context: Tensor, tokens: int) -> Ids:
    return [ids for row in context for ids in _generate(lm, row[None], tokens)]


def _generate_contiguous(lm: LanguageModel, context: Tensor, tokens: int, **options: Any) -> Ids:
    with contiguous_head(lm):
        return _generate(lm, context, tokens, **options)


def _static(lm: LanguageModel, context: Tensor, tokens: int) -> Callable[[], Ids]:
    return lambda: _generate_contiguous(lm, context, tokens, cache_implementation="static")


class _Contiguous(nn.Module):
    """A head whose input is made contiguous: a slice would be multiplied row by row."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1]).contiguous()
        return F.linear(flat, self.layer.weight, self.layer.bias).view(*hidden.shape[:-1], -1)


@contextmanager
def contiguous_head(lm: LanguageModel) -> Iterator[None]:
    """Give transformers its best setting for a while."""
    head = lm.model.lm_head
    lm.model.lm_head = _Contiguous(head)
    try:
        yield
    finally:
        lm.model.lm_head = head

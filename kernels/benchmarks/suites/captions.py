"""Greedy captions: all rows together, against transformers' `generate` in its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import Contender, Job, dtype_name, same_ids
from benchmarks.jobs import CLASS_NAMES, language_model, prefixes
from torchnle.language import decoding
from torchnle.language.agreement import agreement
from torchnle.language.device import best_dtype, multiplies_int8
from torchnle.language.model import LanguageModel

Ids = list[list[int]]

_TOKENS = 20
_SAMPLE = 2  #: Rows that are run one by one: the time is linear in their number.
_ALONE, _BEST = "generate, row by row", "generate, batched, contiguous head"


def jobs() -> Iterator[Job]:
    """20 tokens for 49 and for 196 rows, in float32; for 196 in bfloat16 where the machine multiplies it."""
    lm = language_model()
    yield captions(lm, 49)
    yield captions(lm, 196, targets={_ALONE: 18, _BEST: 1.4})
    if best_dtype(lm.device) == torch.bfloat16:
        yield _low_precision(lm, language_model(torch.bfloat16), 196)
    if multiplies_int8():
        yield _int8(lm, language_model("int8"), 196)


def captions(
    lm: LanguageModel,
    rows: int,
    tokens: int = _TOKENS,
    *,
    agree: float = 0.98,
    targets: Mapping[str, float] | None = None,
) -> Job:
    """Captions of some rows; `agree` is the share of texts that must be the same."""
    context = lm.context(prefixes(lm, rows))
    peers = [
        _alone(lm, context, tokens),
        Contender(_BEST, lambda: _generate_contiguous(lm, context, tokens)),
    ]
    if rows < 100:
        peers += [
            Contender("generate, batched", lambda: _generate(lm, context, tokens)),
            Contender(
                "generate, batched, contiguous head, static cache",
                lambda: _generate_contiguous(lm, context, tokens, cache_implementation="static"),
            ),
        ]
    return Job(
        name=f"greedy captions, {rows} rows, {tokens} tokens, {dtype_name(lm.dtype)}",
        ours=Contender("torchnle", lambda: _ours(lm, prefixes(lm, rows), tokens)),
        peers=peers,
        agree=same_ids(agree),
        targets=targets or {},
        note=f"row by row: {_SAMPLE} rows were run, and the time is multiplied by {rows / _SAMPLE:g}."
        if rows > _SAMPLE
        else "",
    )


def _low_precision(lm: LanguageModel, low: LanguageModel, rows: int) -> Job:
    context = low.context(prefixes(low, rows))
    expected = _ours(lm, prefixes(lm, rows))
    equal = sum(a == b for a, b in zip(_ours(low, prefixes(low, rows)), expected, strict=True))
    return Job(
        name=f"greedy captions, {rows} rows, {_TOKENS} tokens, bfloat16",
        ours=Contender("torchnle", lambda: _ours(low, prefixes(low, rows))),
        peers=[
            _alone(lm, lm.context(prefixes(lm, rows))),
            Contender(_BEST, lambda: _generate_contiguous(low, context)),
        ],
        agree=same_ids(0.0),
        targets={_BEST: 1.4},
        note=f"row by row in float32, {_SAMPLE} rows run. torchnle writes {equal} of {rows} texts as in "
        "float32; rounding makes texts differ, so here nothing is demanded of the agreement.",
    )


def _int8(lm: LanguageModel, small: LanguageModel, rows: int) -> Job:
    soft = prefixes(lm, rows)
    context = lm.context(soft)
    found = agreement(small, lm, soft, [" " + name for name in CLASS_NAMES[:20]], max_new_tokens=_TOKENS)
    return Job(
        name=f"greedy captions, {rows} rows, {_TOKENS} tokens, int8",
        ours=Contender("torchnle", lambda: _ours(small, soft)),
        peers=[
            _alone(lm, context),
            Contender(f"{_BEST}, float32", lambda: _generate_contiguous(lm, context)),
            Contender("torchnle, float32", lambda: _ours(lm, soft)),
        ],
        agree=same_ids(0.0),
        note=f"against float32 everywhere. {found} (20 class names). Nothing is demanded of the agreement.",
    )


def _alone(lm: LanguageModel, context: Tensor, tokens: int = _TOKENS) -> Contender:
    sample = context[:_SAMPLE]
    return Contender(_ALONE, lambda: _one_by_one(lm, sample, tokens), len(sample) / len(context))


def _ours(lm: LanguageModel, soft: Tensor, tokens: int = _TOKENS) -> Ids:
    return decoding.greedy(lm, soft, max_new_tokens=tokens).ids


@torch.no_grad()
def _generate(lm: LanguageModel, context: Tensor, tokens: int = _TOKENS, **options: Any) -> Ids:
    out = lm.model.generate(
        inputs_embeds=context,
        attention_mask=torch.ones(context.shape[:2], dtype=torch.long, device=context.device),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=next(iter(lm.eos_ids), 0),
        **options,
    )
    return [_before_end(lm, row) for row in out.tolist()]


def _before_end(lm: LanguageModel, row: list[int]) -> list[int]:
    ends = [index for index, token in enumerate(row) if token in lm.eos_ids]
    return row[: ends[0]] if ends else row


def _one_by_one(lm: LanguageModel, context: Tensor, tokens: int) -> Ids:
    return [ids for row in context for ids in _generate(lm, row[None], tokens)]


def _generate_contiguous(lm: LanguageModel, context: Tensor, tokens: int = _TOKENS, **options: Any) -> Ids:
    with contiguous_head(lm):
        return _generate(lm, context, tokens, **options)


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

"""A check that a language model gives the same hidden states for packed and cached as for plain sequences.

Models differ in their attention implementation, their positions and their recurrent states, and no list of
families can be complete. So a few tokens are read in every way that torchnle uses, once, when a model is
wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.head import UNABLE
from torchnle.language.packed.attention import short_attention
from torchnle.language.packed.shared_token import one_row_cache
from torchnle.language.packed.tree import paths_of, read_at_once, read_on
from torchnle.language.packed.trie import Trie

if TYPE_CHECKING:
    from torchnle.language.model import LanguageModel

_Read: TypeAlias = "Callable[[LanguageModel, Tensor, Tensor], float]"

#: How far hidden states may lie apart, relative to their norm. Two ways of reading SmolLM2-135M differ by
#: 3e-6 in float32 and 0.05 in bfloat16; a mask or position that is not respected by 0.02 to 1.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 5e-4, torch.float16: 0.03, torch.bfloat16: 0.15}
#: The first three rows read one context, so that their words make a tree; the fourth reads another.
_TREE, _CONTEXT, _WORDS = 3, 3, 3
_UNABLE = (*UNABLE, ValueError)


@torch.no_grad()
def check_plain_reading(lm: LanguageModel) -> None:
    """Refuse a model that does not read embeddings from left to right.

    Raises:
        ValueError: If embeddings give other hidden states than their tokens, or a hidden state depends on
            later tokens or on other rows of the batch.
    """
    ids = _ids(lm)
    try:
        hidden = lm.hidden(lm.embed(ids))
        alone = lm.hidden(lm.embed(ids[3:, :_CONTEXT]))
        by_token = lm.hidden_of_tokens(ids[:1])
    except _UNABLE as error:
        raise ValueError(f"{lm.name} cannot read embeddings: {type(error).__name__}: {error}") from error
    if _distance(by_token, hidden[:1]) > _limit(lm):
        raise ValueError(
            f"{lm.name} reads tokens otherwise than their embeddings, so it cannot be given a prefix. Use a "
            "GPT-2, OPT, Llama, Qwen, Gemma 3 or SmolLM model."
        )
    beginnings = hidden[:_TREE, :_CONTEXT]
    if max(_distance(beginnings, beginnings[:1]), _distance(alone, hidden[3:, :_CONTEXT])) > _limit(lm):
        raise ValueError(
            f"a hidden state of {lm.name} depends on the tokens after it, or on other rows: it is no causal "
            "language model. Use one that is trained to continue texts."
        )


@torch.no_grad()
def difference_of_reading(lm: LanguageModel) -> str | None:
    """Find an optimised way of reading that gives other hidden states than plain sequences.

    If the model's attention cannot be replaced for single tokens, `lm.short_attention` is set to False.

    Returns:
        Its name and its error; None if all agree.
    """
    ids = _ids(lm)
    expected = lm.hidden(lm.embed(ids))
    if _failure(_with_short_attention, lm, ids, expected):
        lm.short_attention = False  # it names its attention, or looks at how it is named
        if failure := _failure(_cached, lm, ids, expected):
            return f"a cache ({failure})"
    failure = _failure(_packed, lm, ids, expected)
    return failure and f"texts packed as a tree ({failure})"


def _failure(read: _Read, lm: LanguageModel, ids: Tensor, expected: Tensor) -> str | None:
    try:
        apart = read(lm, ids, expected)
    except _UNABLE as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if apart <= _limit(lm):
        return None
    return f"hidden states are off by {apart:.1%} of their length"


def _with_short_attention(
    lm: LanguageModel, ids: Int[Tensor, "4 L"], expected: Float[Tensor, "4 L W"]
) -> float:
    with short_attention(lm.model):
        return _cached(lm, ids, expected)


def _ids(lm: LanguageModel) -> Int[Tensor, "4 L"]:
    """Four sequences of different words; the first three begin alike."""
    length = _CONTEXT + _WORDS
    steps = torch.arange(4 * length, device=lm.device).view(4, length)
    ids = (steps * 7919 + 1) % min(lm.vocab_size, lm.embedding_count)
    ids[:_TREE, :_CONTEXT] = ids[0, :_CONTEXT]
    return ids


def _cached(lm: LanguageModel, ids: Int[Tensor, "4 L"], expected: Float[Tensor, "4 L W"]) -> float:
    """Read what all begin with once, then the contexts, then word by word, with rows that leave."""
    ids = ids.clone()
    ids[:, 0] = ids[0, 0]
    expected = torch.cat([expected[:_TREE], lm.hidden(lm.embed(ids[_TREE:]))])
    cache = lm.new_cache()
    lm.hidden(lm.embed(ids[:1, :1]), cache=cache)
    cache.batch_repeat_interleave(len(ids))
    worst = _distance(lm.hidden(lm.embed(ids[:, 1:_CONTEXT]), cache=cache), expected[:, 1:_CONTEXT])
    for step, selection in enumerate(([3, 1, 0], [0, 2], [1])):
        rows = torch.tensor(selection, device=lm.device)
        cache.batch_select_indices(rows)
        ids, expected, position = ids[rows], expected[rows], _CONTEXT + step
        hidden = lm.hidden(lm.embed(ids[:, position : position + 1]), cache=cache)
        worst = max(worst, _distance(hidden, expected[:, position : position + 1]))
    return worst


def _packed(lm: LanguageModel, ids: Int[Tensor, "4 L"], expected: Float[Tensor, "4 L W"]) -> float:
    """Read three texts as a tree: with their context in one pass, and after a context in a cache."""
    texts = [[*words, 0] for words in ids[:_TREE, _CONTEXT:].tolist()]  # the last token is not read
    trie, context = Trie.build(texts), lm.embed(ids[:1, :_CONTEXT])
    beginning, cache = one_row_cache(), lm.new_cache()
    lm.hidden(context[:, :1], cache=beginning)
    lm.hidden(context, cache=cache)
    numbers = {tuple(trie.tokens[node] for node in path): path for path in paths_of(trie)}
    nodes = torch.tensor([numbers[tuple(text[:-1])] for text in texts])
    wanted = expected[:_TREE, _CONTEXT:]
    once = read_at_once(lm, trie, context[:, 1:].expand(2, -1, -1), _CONTEXT, beginning)[1, 1:]
    again = read_on(lm, trie, 1, cache)[0]
    return max(_distance(read[nodes], wanted) for read in (once, again))


def _distance(some: Float[Tensor, "*rows W"], other: Float[Tensor, "*others W"]) -> float:
    """The largest distance of two hidden states, relative to the length of the second."""
    apart = (some.float() - other.float()).norm(dim=-1) / other.float().norm(dim=-1).clamp_min(1e-30)
    return float(apart.max()) if apart.isfinite().all() else float("inf")


def _limit(lm: LanguageModel) -> float:
    return _TOLERANCE.get(lm.dtype, 0.15)

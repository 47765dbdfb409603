"""Scoring given texts: all of them as one tree after a prefix read once, against one pass a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.common import Contender, Job, close, dtype_name
from benchmarks.jobs import CLASS_NAMES, language_model, prefixes
from torchnle import ops
from torchnle.language import scoring
from torchnle.language.model import LanguageModel


def jobs() -> Iterator[Job]:
    """Names of classes, one-token texts, and one text alone."""
    lm = language_model()
    yield names(lm, rows=16, targets={"naive": 38, "careful, a text at a time": 30})
    yield _one_token(lm, queries=1000, rows=16, sample=3)
    yield _alone(lm, " a small red bird on grass", rows=16)


def names(
    lm: LanguageModel, *, rows: int, sample: int = 5, agree: float = 1e-4, targets: Mapping[str, float]
) -> Job:
    """All class names on some rows; the peers score a sample of them."""
    texts = _spread(lm, [" " + name for name in CLASS_NAMES])
    soft, tokens = prefixes(lm, rows), sum(map(len, lm.tokenize(texts)))
    return Job(
        name=f"scores of {len(texts)} class names at {rows} locations, {dtype_name(lm.dtype)}",
        ours=Contender("torchnle, one tree", lambda: scoring.log_prob(lm, soft, texts)),
        peers=[
            Contender(name, lambda score=score: score(lm, soft, texts[:sample]), sample / len(texts))
            for name, score in (
                ("naive", naive_scores),
                ("naive, logits_to_keep", kept_logits),
                ("careful, a text at a time", careful_scores),
            )
        ],
        agree=lambda ours, theirs: close(agree)(ours[:, : theirs.shape[1]], theirs),
        targets=targets,
        note=f"{tokens / len(texts):.2f} tokens a name; the peers scored {sample} names of "
        f"{sum(map(len, lm.tokenize(texts[:sample]))) / sample:.2f} tokens.",
    )


def _one_token(lm: LanguageModel, *, queries: int, rows: int, sample: int) -> Job:
    soft, texts = prefixes(lm, rows), _one_token_texts(lm, queries)
    return Job(
        name=f"scores of {queries} texts of one token at {rows} locations, float32",
        ours=Contender("torchnle, prefix included", lambda: scoring.log_prob(lm, soft, texts)),
        peers=[
            Contender("naive", lambda: naive_scores(lm, soft, texts[:sample]), sample / queries),
            Contender(
                "careful, a text at a time",
                lambda: careful_scores(lm, soft, texts[:sample]),
                sample / queries,
            ),
        ],
        agree=lambda ours, theirs: close(1e-4)(ours[:, : theirs.shape[1]], theirs),
        targets={"naive": 1000},
        note=f"the peers scored {sample} texts.",
    )


def _alone(lm: LanguageModel, text: str, *, rows: int) -> Job:
    soft = prefixes(lm, rows)
    return Job(
        name=f"the score of one text at {rows} locations, float32 (nothing to share)",
        ours=Contender("torchnle", lambda: scoring.log_prob(lm, soft, [text])),
        peers=[
            Contender("naive", lambda: naive_scores(lm, soft, [text])),
            Contender("careful, a text at a time", lambda: careful_scores(lm, soft, [text])),
        ],
        agree=close(1e-4),
    )


def _spread(lm: LanguageModel, texts: list[str]) -> list[str]:
    """The texts in an order in which a sample from the start has about the tokens of the whole."""
    by_length = sorted(texts, key=lambda text: len(lm.tokenize([text])[0]))
    return [text for start in range(20) for text in by_length[(start + 10) % 20 :: 20]]


def _one_token_texts(lm: LanguageModel, count: int) -> list[str]:
    """Words that are one token each, in the order of the vocabulary."""
    words = [lm.detokenize([token]) for token in range(lm.vocab_size)]
    words = [word for word in words if word[:1] == " " and word[1:].isalpha()]
    return [word for word, ids in zip(words, lm.tokenize(words), strict=True) if len(ids) == 1][:count]


@torch.no_grad()
def naive_scores(lm: LanguageModel, soft: Tensor, texts: Sequence[str], *, keep: bool = False) -> Tensor:
    """One pass a text over the prefix and the text, all logits, log-softmax (as the paper's code does)."""
    context, scores = lm.context(soft), []
    for ids in lm.tokenize(texts):
        words = lm.embed(torch.tensor(ids, device=lm.device)).expand(len(soft), -1, -1)
        logits = lm.model(
            inputs_embeds=torch.cat([context, words], dim=1),
            use_cache=False,
            logits_to_keep=len(ids) + 1 if keep else 0,
        ).logits
        steps = logits[:, -len(ids) - 1 : -1].float().log_softmax(dim=-1)
        scores.append(steps[:, range(len(ids)), ids].sum(dim=1))
    return torch.stack(scores, dim=1)


def kept_logits(lm: LanguageModel, soft: Tensor, texts: Sequence[str]) -> Tensor:
    """The same, with logits only where a token of the text is predicted."""
    return naive_scores(lm, soft, texts, keep=True)


@torch.no_grad()
def careful_scores(lm: LanguageModel, soft: Tensor, texts: Sequence[str]) -> Tensor:
    """One pass a text, without the last token, and with the head where a token is predicted only."""
    (weight, _), context, scores = lm.head, lm.context(soft), []
    for ids in lm.tokenize(texts):
        words = lm.embed(torch.tensor(ids[:-1], dtype=torch.long, device=lm.device)).expand(len(soft), -1, -1)
        hidden = lm.hidden(torch.cat([context, words], dim=1))[:, -len(ids) :]
        lse, _, _ = ops.linear_lse(hidden.flatten(0, 1), weight)
        logits = (hidden.float() * weight[ids].float()).sum(dim=-1)
        scores.append((logits - lse.view(logits.shape)).sum(dim=1))
    return torch.stack(scores, dim=1)

"""How the ratios move with the numbers of rows, texts and tokens, and with the size of the head."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.common import SEED, Contender, Job, close
from benchmarks.jobs import language_model, prefixes
from benchmarks.suites.captions import captions
from benchmarks.suites.head import backward, forward
from benchmarks.suites.scoring import careful_scores
from torchnle.language import scoring
from torchnle.language.model import LanguageModel

#: More rows than these: `captions`, and the GPU.
_ROWS = (1, 7, 49)
_LENGTHS = (5, 50)
_TEXTS = (1, 4, 16, 64, 256, 1000)
_TOKENS = (1, 2, 3, 5, 12)
_VOCABULARIES, _WIDTHS = (8_000, 50_000, 128_000), (576, 768, 2048)


def jobs() -> Iterator[Job]:
    """Each from small, where we lose, to large."""
    lm = language_model()
    for rows in _ROWS:
        yield captions(lm, rows)
    for tokens in _LENGTHS:
        yield captions(lm, 49, tokens)
    for count in _TEXTS:
        yield _scores(lm, count, tokens=3)
    for tokens in _TOKENS:
        yield _scores(lm, 16, tokens=tokens)
    for vocabulary in _VOCABULARIES:
        yield from _heads(vocabulary, _WIDTHS[0])
    for width in _WIDTHS[1:]:
        yield from _heads(_VOCABULARIES[1], width)


def _scores(lm: LanguageModel, count: int, *, tokens: int, rows: int = 4) -> Job:
    """Texts of random words, which share no beginnings: the tree's worst case."""
    soft, texts = prefixes(lm, rows), _random_texts(lm, count, tokens)
    sample = min(count, 2)
    return Job(
        name=f"scores of {count} texts of {tokens} random tokens at {rows} locations, float32",
        ours=Contender("torchnle, one tree", lambda: scoring.log_prob(lm, soft, texts)),
        peers=[
            Contender(
                "careful, a text at a time", lambda: careful_scores(lm, soft, texts[:sample]), sample / count
            )
        ],
        agree=lambda ours, theirs: close(1e-3)(ours[:, : theirs.shape[1]], theirs),
        note=f"the peer scored {sample}.",
    )


def _random_texts(lm: LanguageModel, count: int, tokens: int) -> list[str]:
    """Words that the tokenizer takes apart as they were put together."""
    generator = torch.Generator().manual_seed(SEED)
    words = [word for token in range(1000, 9000) if (word := lm.detokenize([token]))[1:].isalpha()]
    words = [word for word in words if word[0] == " "]
    drawn = torch.randint(len(words), (2 * count, tokens), generator=generator).tolist()
    texts = dict.fromkeys("".join(words[number] for number in row) for row in drawn)
    return [text for text in texts if len(lm.tokenize([text])[0]) == tokens][:count]


def _heads(vocabulary: int, width: int, rows: int = 256) -> Iterator[Job]:
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden, weight = normal(rows, width), normal(vocabulary, width) * 4 / width**0.5
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    for job in (forward(hidden, weight, targets), backward(hidden, weight, targets)):
        yield Job(f"{job.name}, {vocabulary:,} x {width}", job.ours, job.peers[:1], job.agree)

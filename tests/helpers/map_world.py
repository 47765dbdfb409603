"""Small fitted maps on random features: one of captions, one of class names, one of both."""

from __future__ import annotations

import torch
from letter_encoder import LetterEncoder

from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums, Prototypes
from torchnle.methods.aligned.text_features.statistics import Domain
from torchnle.methods.aligned.text_features.text_map import Classes, TextMap

WIDTH = 7
PHRASES = ("a cat", "a dog", "grass", "a red door")
CLASSES = ("a boat", "a fern", "a dog")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def captioned(count: int = 60, seed: int = 0):
    """Features (count, WIDTH), each the sum of its phrases' vectors, correlated noise and an offset."""
    source = torch.Generator().manual_seed(seed)
    named = torch.rand(count, len(PHRASES), generator=source) < 0.4
    vectors = 3 * torch.randn(len(PHRASES), WIDTH, generator=source)
    mixing = torch.randn(WIDTH, WIDTH, generator=source)
    noise = torch.randn(count, WIDTH, generator=source) @ mixing
    listed = [[p for p, on in zip(PHRASES, row, strict=True) if on] for row in named.tolist()]
    return named.float() @ vectors + 0.3 * noise + 2.0, listed


def prototypes(**options) -> Prototypes:
    sums = PhraseSums(WIDTH)
    sums.add(*captioned(**options))
    return sums.solve()


def head(texts=CLASSES, seed: int = 5) -> Classes:
    return Classes(drawn(len(texts), WIDTH, seed=seed), drawn(len(texts), seed=seed + 1), tuple(texts))


def fitted(*, captions: bool = True, classes: bool = True, **options) -> TextMap:
    found = TextMap.fit(
        LetterEncoder().encode,
        prototypes=prototypes() if captions else None,
        classes=head() if classes else None,
        **options,
    )
    found.set_statistics(Domain(drawn(WIDTH, seed=8), 3.0, 5.0), drawn(2, WIDTH, seed=9))
    found.temperature.fill_(6.0)
    return found

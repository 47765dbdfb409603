"""Small real models and a small real translator that tests and doctests share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnle.description import Description
from torchnle.translators.base import Translator


def conv_net(width: int = 6, classes: int = 5) -> nn.Module:
    """A seeded classifier: two strided convolutions (8x8 -> 4x4 at 'layer'), mean pooling, a linear head."""
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 4, 3, stride=1, padding=1))
    net.add_module("act", nn.Tanh())
    net.add_module("layer", nn.Conv2d(4, width, 3, stride=2, padding=1))
    net.add_module("norm", nn.BatchNorm2d(width))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(width, classes))
    return net.eval()


class LetterTranslator(Translator):
    """A text's vector is a fixed random mixture of its letters; the score is the cosine to the feature."""

    score_kind = "cosine"
    vocabulary = ("a cat", "a dog", "grass", "sky", "a red door")

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("letters", torch.randn(128, width, generator=generator))
        self.calls: list[tuple[int, int | None]] = []

    @property
    def config(self):
        return {"width": self.letters.shape[1]}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def embed(self, texts: Sequence[str]) -> Tensor:
        sums = [self.letters[[ord(c) % 128 for c in text]].sum(0) for text in texts]
        return F.normalize(torch.stack(sums), dim=-1)

    def score(self, rows, texts, *, prior=False, internal_batch_size=None):
        parts = []
        for group in rows:
            pooled = torch.stack([x.squeeze(1) for x in group.tokens.values()]).mean(0)
            parts.append(F.normalize(pooled, dim=-1) @ self.embed(texts).T.to(pooled))
        self.calls.append((sum(map(len, rows)), internal_batch_size))
        return torch.cat(parts) - float(prior)

    def describe(self, rows, *, internal_batch_size=None):
        scores = self.score(rows, self.vocabulary).max(dim=1)
        pairs = zip(scores.values.tolist(), scores.indices.tolist(), strict=True)
        return [Description(self.vocabulary[index], score) for score, index in pairs]

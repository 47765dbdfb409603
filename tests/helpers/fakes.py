"""Small real models and a small real translator that tests and doctests share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnle.description import Description
from torchnle.translators.base import Translator
from torchnle.vision.features import Features


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

    def score(self, features, texts, *, joint=False, prior=False, internal_batch_size=None):
        listed = [features] if isinstance(features, Features) else list(features)
        stacked = (
            torch.stack([f.rows for f in listed]).mean(0) if joint else torch.cat([f.rows for f in listed])
        )
        self.calls.append((stacked.shape[0], internal_batch_size))
        return F.normalize(stacked, dim=-1) @ self.embed(texts).T.to(stacked) - float(prior)

    def describe(self, features, *, joint=False, internal_batch_size=None):
        listed = [features] if isinstance(features, Features) else list(features)
        scores = self.score(listed, self.vocabulary, joint=joint).max(dim=1)
        name = "+".join(f.layer for f in listed)
        places = [
            (name if joint else f.layer, image, place)
            for f in (listed[:1] if joint else listed)
            for image in range(f.batch_size)
            for place in f.locations
        ]
        return [
            Description(self.vocabulary[i], s, "cosine", layer, image, place)
            for (layer, image, place), s, i in zip(
                places, scores.values.tolist(), scores.indices.tolist(), strict=True
            )
        ]

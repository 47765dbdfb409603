"""A tiny classifier, its map and a tiny language model, for the tests of Zero-shot NLE."""

from __future__ import annotations

import torch
from fakes import conv_net
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution

NAMES = ["cat", "mug", "boat", "fern", "cliff"]


def classifier() -> LanguageAttribution:
    torch.manual_seed(0)
    example = torch.rand(2, 3, 8, 8)
    return LanguageAttribution.from_classifier(conv_net(), NAMES, example=example, encoder=LetterEncoder())


def pictures(count: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

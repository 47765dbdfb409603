"""The tiny classifier of the fuzz, its map, and an encoder of letters: all built once."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnle import LanguageAttribution
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts

SIZE, WIDTH = 16, 6
NAMES = ("cat", "mug", "boat", "fern", "cliff")
VOCABULARY = ("grass", "the sky", "a lake")
PHRASES = ("a wheel", "fur", "a leaf", "water", "red", "stone", "a beak", "wood", "metal")


class LetterEncoder(TextEncoder):
    """Texts are alike that share letters."""

    reference, width, device = "letters", 26, torch.device("cpu")

    def __init__(self) -> None: ...

    def encode(self, texts: Any, batch_size: int = 64) -> Tensor:
        """Count the letters of every text."""
        counts = [[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in check_texts(texts)]
        return F.normalize(torch.tensor(counts, dtype=torch.float32, device="cpu"), dim=1)


@cache
def model() -> nn.Module:
    """A classifier of six channels at 4x4 locations, in training mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, WIDTH, 4, 4), nn.BatchNorm2d(WIDTH), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTH, len(NAMES))).train()


def options() -> dict[str, Any]:
    """What every fit of it is given."""
    return {"encoder": LetterEncoder(), "example": pictures(random.Random(0), 2)}


@cache
def classifier() -> LanguageAttribution:
    """The classifier with its map."""
    return LanguageAttribution.from_classifier(model(), NAMES, vocabulary=VOCABULARY, **options())


@cache
def with_files() -> LanguageAttribution[Any]:
    """The classifier with a preprocessing, that reads files."""

    def prepare(picture: Any) -> Tensor:
        raw = torch.frombuffer(bytearray(picture.resize((SIZE, SIZE)).tobytes()), dtype=torch.uint8)
        return raw.view(SIZE, SIZE, 3).permute(2, 0, 1).float() / 255

    lang = LanguageAttribution(
        model(), classifier().taps, classifier().translator, reading=classifier().reading
    )
    lang.preprocess = prepare
    return lang


def pictures(draw: random.Random, count: int) -> Tensor:
    """So many pictures, sometimes extreme."""
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    return torch.rand(count, 3, SIZE, SIZE, generator=generator) * draw.choice([1.0, 1.0, 1.0, 1e-6, 100.0])

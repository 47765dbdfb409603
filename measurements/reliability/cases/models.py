"""The small models of the cases, and the encoder, tokenizers and attributions around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from measurements.fuzz.world import LetterEncoder
from measurements.reading.tiny_models import build, tokenizer
from torchnle import LanguageAttribution
from torchnle.language.model import LanguageModel
from torchnle.methods.devil import devil_translator
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve

NAMES = ("cat", "dog", "car", "tree")
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SIZES: dict[str, Any] = {"prefix_length": 2, "width": 16, "depth": 1, "heads": 2, "feedforward": 16}


def body(channels: int = 3, width: int = 32) -> list[nn.Module]:
    """Layers from an image to one row of features."""
    return [nn.Conv2d(channels, width, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def classifier(*more: nn.Module, channels: int = 3, classes: int = 4) -> nn.Sequential:
    """A classifier in evaluation mode, with layers after its head."""
    torch.manual_seed(0)
    return nn.Sequential(*body(channels), nn.Linear(32, classes), *more).eval()


class Outputs(nn.Module):
    """A classifier whose outputs are put together by a function of features, logits and other logits."""

    def __init__(self, shape: Callable[[Tensor, Tensor, Tensor], Any], head: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.shape = nn.Sequential(*body()), shape
        self.head, self.other = head or nn.Linear(32, 4), nn.Linear(32, 7)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Run it."""
        features = self.body(x)
        return self.shape(features, self.head(features), self.other(features))


class Tokens(nn.Module):
    """Patches of 16 pixels as tokens, laid together with tokens that have no location."""

    def __init__(self, lay: Callable[[Tensor, Tensor], Tensor], others: int = 4, patch: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.p = nn.Conv2d(3, 32, patch, patch)
        self.r, self.lay, self.out = nn.Parameter(torch.randn(1, others, 32)), lay, nn.Identity()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        patches = self.p(x).flatten(2).transpose(1, 2)
        laid: Tensor = self.out(self.lay(patches, self.r.expand(len(x), -1, -1)))
        return laid


@torch.no_grad()
def location_that_changes(
    model: nn.Module, layer: str, x: Tensor, patch: tuple[slice, slice], reading: Reading | None = None
) -> tuple[int, ...] | None:
    """Find the location of a layer that answers most to one patch of the image; None without a grid."""
    other = x.clone()
    other[..., patch[0], patch[1]] = 0
    (before,), (after,) = (read(model, resolve(model, layer), each, None, reading) for each in (x, other))
    change = (before.tokens - after.tokens).abs().sum(-1)[0]
    return None if before.grid is None else divmod(int(change.argmax()), before.grid[1])


def attached(model: nn.Module, x: Tensor | None, names: Any = NAMES, **more: Any) -> LanguageAttribution:
    """Attach to a classifier, with an encoder that counts letters."""
    options: dict[str, Any] = {"encoder": LetterEncoder(), "vocabulary": ("grass",), "example": x, **more}
    return LanguageAttribution.from_classifier(model, names, **options)


def language_model(kind: str = "gpt2", words: Any = None) -> LanguageModel:
    """A tiny language model of an architecture, with 48 words "w0" to "w47"."""
    return LanguageModel(build(kind), words or tokenizer(), reference="x")


@cache
def translator(layer: str, width: int) -> Any:
    """A tiny DeViL translator of one layer, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return devil_translator({layer: width}, language_model(), max_new_tokens=4, **SIZES).eval()

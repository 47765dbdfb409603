"""The colours of what a classifier looked at, told by its own features of rendered surfaces.

A map that was fitted to class names hardly knows colours. Surfaces of known colours are therefore rendered
and read by the classifier, and a ridge regression from whitened features to colours is fitted to them: no
images are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from torchnle.data.palette import COLOURS
from torchnle.data.surfaces import Surface, rendered_surfaces
from torchnle.language.english.phrases import with_right_articles
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.concepts import best_texts
from torchnle.methods.zero_shot.evidence import weighted_mean
from torchnle.translators import concept_bank
from torchnle.vision.features import Features

#: The ridge penalty, on unit features; chosen on cut-outs that are not reported, as the number of surfaces.
_PENALTY = 1.0
#: A colour is said if it is more probable than all others together.
_SURE = 0.5
#: Of a location's area, the share that a surface must cover to be read there.
_COVERED = 0.6
#: How sharply the regression's outputs become probabilities is chosen of these.
_SHARPNESS = tuple(10 ** (step / 10) for step in range(21))
_BATCH = 16


@dataclass(frozen=True)
class Colours:
    """A regression from whitened features to colours.

    Args:
        names: The colours.
        mean: The mean of the unit features it was fitted to, (D,).
        weights: (D, K).
        sharpness: What the outputs are multiplied with before the softmax.
    """

    names: tuple[str, ...]
    mean: Float[Tensor, "D"]
    weights: Float[Tensor, "D K"]
    sharpness: float

    @classmethod
    def fit(cls, names: Sequence[str], white: Float[Tensor, "N D"], labels: Int[Tensor, "N"]) -> Colours:
        """Fit the regression; its sharpness is the most probable one for features that are left out.

        Args:
            names: The colours.
            white: Whitened features of surfaces.
            labels: The colour of each.

        Example:
            >>> white = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
            >>> labels = torch.arange(40) % 2
            >>> white[labels == 1, 0] += 4
            >>> reader = Colours.fit(["red", "blue"], white, labels)
            >>> float((reader(white).argmax(dim=1) == labels).float().mean()) > 0.9
            True
        """
        unit, labels = F.normalize(white.cpu().double(), dim=1), labels.cpu()  # not every device has float64
        mean = unit.mean(dim=0)
        x, targets = unit - mean, F.one_hot(labels, len(names)).double() - 1 / len(names)
        inverse = torch.linalg.inv(x @ x.T + _PENALTY * torch.eye(len(x)).to(x))
        coefficients = inverse @ targets
        left_out = targets - coefficients / inverse.diagonal()[:, None]  # as in `KernelRidge.left_out`
        sharpness = min(_SHARPNESS, key=lambda k: float(F.cross_entropy(k * left_out, labels)))
        weights = x.T @ coefficients
        return cls(tuple(names), mean.to(white), weights.to(white), sharpness)

    def __call__(self, white: Float[Tensor, "R D"]) -> Float[Tensor, "R K"]:
        """Compute the probability of each colour for whitened features."""
        moved = F.normalize(white, dim=1) - self.mean.to(white)
        return (self.sharpness * moved @ self.weights.to(white)).softmax(dim=1)

    def ranked(self, white: Float[Tensor, "R D"], count: int = 3) -> list[tuple[tuple[str, float], ...]]:
        """List the most probable colours of each feature with their probabilities."""
        return best_texts(self.names, self(white), count)

    def sure(self, white: Float[Tensor, "R D"]) -> list[str]:
        """Name the colour of each feature where one is more probable than all others together, else ""."""
        return [name if probability > _SURE else "" for ((name, probability),) in self.ranked(white, 1)]


@torch.no_grad()
def read_colours(
    fitted: TextMap,
    preprocess: Callable[[Image], Tensor],
    read: Callable[[list[Any]], tuple[Features, Features | None]],
    surfaces: Sequence[Surface] | None = None,
) -> Colours:
    """Render surfaces, read them, and fit `Colours` to them.

    Args:
        fitted: The map of the head's layer.
        preprocess: Prepares a picture for the model, here the masks.
        read: Reads pictures: what the head reads, and the features of every location, None where there are
            none.
        surfaces: The surfaces; None = `rendered_surfaces`, 264 of them.
    """
    listed, rows = list(surfaces or rendered_surfaces()), []
    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        whole, parts = read([each.image for each in batch])
        if parts is None or parts.grid is None:
            rows.append(whole.rows)
            continue
        masks = torch.stack([preprocess(each.mask) for each in batch])
        rows.append(weighted_mean(whole.rows, parts.tokens, _covered(masks, parts.grid).to(parts.tokens)))
    names = list(COLOURS)
    labels = torch.tensor([names.index(each.colour) for each in listed])
    white = fitted.whiten(torch.cat(rows).float())
    return Colours.fit(names, white, labels)


def _covered(masks: Float[Tensor, "N C H W"], grid: tuple[int, int]) -> Float[Tensor, "N L"]:
    """Mark the locations that a surface covers: all those covered enough, else the one covered most."""
    gray = masks.mean(dim=1, keepdim=True)
    low, high = gray.amin(), gray.amax()
    share = F.adaptive_avg_pool2d((gray - low) / (high - low).clamp(min=1e-6), grid).flatten(1)
    return (share >= share.amax(dim=1, keepdim=True).clamp(max=_COVERED)).float()


@lru_cache(maxsize=1)
def colour_words() -> frozenset[str]:
    """Load the palette's and the concept bank's words for colours: a sentence with one has its colour."""
    return frozenset(COLOURS).union(concept_bank.categories()["colours"])


def with_colour(text: str, colour: str, nouns: Collection[str]) -> str:
    """Put a colour before the first noun of a text; a text without one stays as it is.

    Example:
        >>> with_colour("a large owl on the grass", "white", {"owl", "grass"})
        'a large white owl on the grass'
        >>> with_colour("an owl", "white", {"owl"}), with_colour("the tower", "orange", {"tower"})
        ('a white owl', 'the orange tower')
        >>> with_colour("sleeping on an owl", "white", {"owl"}), with_colour("a large", "white", {"owl"})
        ('sleeping on a white owl', 'a large')
    """
    words = text.split()
    first = next((i for i, word in enumerate(words) if word in nouns), None)
    if first is None:
        return text
    return with_right_articles(" ".join([*words[:first], colour, *words[first:]]))

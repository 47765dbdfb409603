"""Concepts: the phrases of a bank that are present in the evidence of a prediction (section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.reliability import reliability


@dataclass(frozen=True)
class Concepts:
    """The concepts of one image, class or location.

    Args:
        prediction: The class whose evidence was read.
        found: The concepts with the cosines of their directions and the evidence, best first; cosines of
            concepts unlike all fitted texts are reduced (`reliability`).
        contribution: The contribution of the image or location to the logit of that class.
        image: The index of the image in the batch; None for a class without an image.
        location: The (row, column) on the layer's grid; None for the whole image.

    Example:
        >>> print(Concepts("king penguin", (("a beak", 0.31), ("snow", 0.2)), contribution=4.2))
        king penguin (4.20): a beak, snow
    """

    prediction: str
    found: tuple[tuple[str, float], ...]
    contribution: float = 0.0
    image: int | None = 0
    location: tuple[int, int] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The concepts alone."""
        return tuple(text for text, _ in self.found)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values that `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        location = "" if self.location is None else f" {self.location}"
        return f"{self.prediction}{location} ({self.contribution:.2f}): {', '.join(self.texts)}"


@dataclass(frozen=True)
class BankDirections:
    """A concept bank as directions in a layer's map.

    Args:
        texts: The phrases.
        directions: Their unit directions.
        weights: The reliability of each direction, 0 to 1.
    """

    texts: tuple[str, ...]
    directions: Float[Tensor, "Z D"]
    weights: Float[Tensor, "Z"]

    @classmethod
    def of(cls, translator: MapTranslator, fitted: TextMap, texts: Sequence[str]) -> BankDirections:
        """Encode a bank, block by block, and map it to directions."""
        vectors = embed_cached(translator.encoder, texts).to(fitted.texts)
        return cls(tuple(texts), fitted.directions(vectors), reliability(fitted, vectors))

    def cosines(self, vectors: Float[Tensor, "R D"]) -> Float[Tensor, "R Z"]:
        """Compute the reliability-weighted cosine of every phrase with whitened features or evidence."""
        return F.normalize(vectors, dim=1) @ self.directions.T * self.weights


def top_concepts(
    bank: BankDirections, vectors: Float[Tensor, "R D"], count: int
) -> list[tuple[tuple[str, float], ...]]:
    """List the best phrases of each row with their cosines.

    Raises:
        ValueError: If `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"count={count}; pass a positive number of concepts to list.")
    return best_texts(bank.texts, bank.cosines(vectors), count)


def best_texts(
    texts: Sequence[str], scores: Float[Tensor, "R Z"], count: int
) -> list[tuple[tuple[str, float], ...]]:
    """List the texts of the largest scores of each row with these, best first.

    Example:
        >>> best_texts(["fur", "wings", "wheels"], torch.tensor([[0.5, 0.25, 0.75]]), 2)
        [(('wheels', 0.75), ('fur', 0.5))]
    """
    best = scores.topk(min(count, len(texts)), dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [tuple((texts[i], s) for i, s in zip(row, values, strict=True)) for row, values in rows]


@torch.no_grad()
def concepts(
    fitted: TextMap,
    bank: BankDirections,
    names: Sequence[str],
    rows: Float[Tensor, "R D"],
    classes: Int[Tensor, "R"],
    spots: Sequence[tuple[int | None, tuple[int, int] | None]],
    *,
    rather_than: Int[Tensor, "R"] | None = None,
    locations: Float[Tensor, "R L D"] | None = None,
    whole: bool = False,
    count: int = 15,
) -> list[Concepts]:
    """List the concepts that are present in every row's evidence (section 4.3).

    Args:
        fitted: The map of the head's layer.
        bank: The concepts.
        names: The class names.
        rows: What the head reads.
        classes: The class of each row.
        spots: The image and location of each row.
        rather_than: As `evidence`.
        locations: As `evidence`.
        whole: Whether all channels are read instead, as at a location that shows one object alone.
        count: The number of concepts; the paper uses 15, and finds 10 as good.

    Raises:
        ValueError: If `count` is not positive.
    """
    found = evidence(fitted, rows, classes, rather_than, locations=locations)
    listed = top_concepts(bank, fitted.whiten(rows) if whole else found.vector, count)
    each = zip(listed, classes.tolist(), found.decision.tolist(), spots, strict=True)
    return [Concepts(names[c], top, moved, image, location) for top, c, moved, (image, location) in each]


def class_concepts(
    fitted: TextMap, bank: BankDirections, names: Sequence[str], classes: Int[Tensor, "R"], count: int = 15
) -> list[Concepts]:
    """List the concepts of classes by their weight rows, without an image.

    Args:
        fitted: The map of the head's layer.
        bank: The concepts.
        names: The class names.
        classes: The classes.
        count: The number of concepts.

    Raises:
        ValueError: If `count` is not positive.
    """
    rows = fitted.targets[fitted.phrases :][classes]
    listed = zip(top_concepts(bank, rows, count), classes.tolist(), strict=True)
    return [Concepts(names[c], top, float(fitted.class_norms[c]), None) for top, c in listed]

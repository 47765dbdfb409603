"""A concept bottleneck of a trained classifier: its logits as a sum over named concepts (TextUnlock)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.zero_shot.banks import Bank, as_bank, general_words, without_names
from torchnle.methods.zero_shot.classifier import FittedClassifier, HeadReader, fit_classifier, own_bias
from torchnle.public_calls import checked

#: Penalties that are tried, the largest first: the larger, the fewer concepts that cancel each other.
_PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)
#: The share of the squares of the classes' rows that the concepts may leave out.
_ERROR = 0.01


class ConceptBottleneck(HeadReader):
    """A classifier whose logits are sums of the contributions of named concepts.

    The activation of a concept is the projection of the whitened feature on its direction; each class's
    weight row is approximated by a weighted sum of these directions. The mean of all rows, which is the same
    for every class, is kept.

    Args:
        source: The classifier, fitted.
        concepts: The concepts.
        directions: Their unit directions, (Z, D).
        coefficients: The weight of each concept for each class, (C, Z).
        penalty: The penalty of their ridge regression.
    """

    directions: Tensor
    coefficients: Tensor
    kept: Tensor
    center: Tensor
    common: Tensor
    bias: Tensor

    def __init__(
        self,
        source: FittedClassifier,
        concepts: Sequence[str],
        directions: Float[Tensor, "Z D"],
        coefficients: Float[Tensor, "C Z"],
        penalty: float,
    ) -> None:
        super().__init__(source.model, source.head)
        self.concepts, self.class_names, self.penalty = tuple(concepts), source.names, penalty
        weight, center = source.head.weight.detach().float(), source.fitted.center
        self.register_buffer("directions", directions)
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("kept", torch.ones(len(directions), device=directions.device))
        self.register_buffer("center", center)
        self.register_buffer("common", weight.mean(dim=0))
        self.register_buffer("bias", own_bias(source.head) + (weight - weight.mean(dim=0)) @ center)

    def activations(self, images: Float[Tensor, "N channels H W"]) -> Float[Tensor, "N Z"]:
        """Compute the projection of each image's feature on every concept's direction."""
        return self._activations(super().forward(images))

    def _activations(self, rows: Float[Tensor, "N L D"]) -> Float[Tensor, "N Z"]:
        return (rows.mean(dim=1) - self.center) @ self.directions.T * self.kept

    def forward(self, images: Float[Tensor, "N channels H W"]) -> Float[Tensor, "N C"]:
        """Compute the logits as sums over concepts."""
        rows = super().forward(images)
        shared = rows.mean(dim=1) @ self.common
        return self._activations(rows) @ self.coefficients.T + self.bias + shared[:, None]

    def contributions(self, images: Float[Tensor, "N channels H W"], target: int) -> Float[Tensor, "N Z"]:
        """Compute the contribution of each concept to a class's logit.

        Args:
            images: As the model takes them.
            target: The index of the class.

        Raises:
            ValueError: If it lies outside.
        """
        if not 0 <= target < len(self.class_names):
            raise ValueError(f"target={target} lies outside the {len(self.class_names)} classes.")
        return self.activations(images) * self.coefficients[target]

    def without(self, *concepts: str) -> ConceptBottleneck:
        """Return a copy with some concepts, by name, set to inactive; it shares the model.

        Raises:
            ValueError: If one is not among the concepts.
        """
        unknown = [each for each in concepts if each not in self.concepts]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of the {len(self.concepts)} concepts.")
        taken = copy.copy(self)
        taken._buffers = dict(self._buffers)
        taken.kept = self.kept.clone()
        taken.kept[[self.concepts.index(each) for each in concepts]] = 0.0
        return taken

    @torch.no_grad()
    def agreement(self, batches: Iterable[Float[Tensor, "N channels H W"]]) -> float:
        """Compute the share of images for which bottleneck and model predict the same class.

        Args:
            batches: Images as the model takes them, batch by batch.

        Raises:
            ValueError: If there are none.
        """
        same = count = 0
        for images in batches:
            rows = super().forward(images)
            own = self.logits(rows, self.head.weight.float(), own_bias(self.head))
            same += int((own.argmax(dim=1) == self(images).argmax(dim=1)).sum())
            count += len(images)
        if not count:
            raise ValueError("there were no images to compare on; pass at least one batch.")
        return same / count


@checked
def concept_bottleneck(
    model: nn.Module,
    concepts: Bank = None,
    *,
    class_names: Iterable[object] | Mapping[Any, Any] | None = None,
    example: Tensor | None = None,
    images: Iterable[Tensor] | None = None,
    encoder: TextEncoder | str | None = None,
) -> ConceptBottleneck:
    """Convert a trained classifier to a concept bottleneck, without training or data (TextUnlock).

    Args:
        model: The classifier, unmodified; the result runs it and shares its parameters.
        concepts: The bank; None = the most frequent nouns for visible objects. Class names are removed.
        class_names: One per row of the model's head; None = as its configuration states.
        example: A few inputs for the dry run that finds the head.
        images: Unlabelled pictures, batch by batch, for their feature statistics; None = without.
        encoder: The sentence encoder, or its reference.

    Raises:
        ValueError: If the bank holds nothing but class names, the model sets scores to zero before it takes
            their mean, no linear head gives its output, or the names do not fit.

    Example:
        >>> bottleneck = concept_bottleneck(model, class_names=names)  # doctest: +SKIP
        >>> bottleneck.without("wings")(images)[:, 12] - bottleneck(images)[:, 12]  # doctest: +SKIP
        tensor([-0.83])
    """
    source = fit_classifier(model, class_names, example=example, images=images, encoder=encoder)
    if source.head.clipped:
        raise ValueError(
            "this model sets negative scores to zero at every location before their mean is taken, so that "
            "its logits are no sum over concepts."
        )
    bank = general_words(source.encoder) if concepts is None else as_bank(concepts)
    kept = without_names(bank, source.names)
    if not kept:
        raise ValueError("the bank holds nothing but class names; pass concepts that explain them.")
    directions = source.fitted.directions(embed_cached(source.encoder, kept))
    coefficients, penalty = solve(source, directions)
    return ConceptBottleneck(source, kept, directions, coefficients, penalty)


@torch.no_grad()
def solve(source: FittedClassifier, directions: Float[Tensor, "Z D"]) -> tuple[Float[Tensor, "C Z"], float]:
    """Approximate each class's row by a sum of directions, by ridge regression.

    The largest allowed penalty is used. A penalty is allowed if the residual is at most `_ERROR` of the rows'
    squared norm; if none is, since the bank is too small, the smallest penalty is used.
    """
    rows = (source.fitted.targets * source.fitted.class_norms[:, None]).double()
    known = directions.double()
    values, vectors = torch.linalg.eigh(known.T @ known)
    rotated = rows @ vectors
    for penalty in _PENALTIES:
        factors = values.clamp_min(0) / (values.clamp_min(0) + penalty)
        left = (rotated * (1 - factors)).square().sum() + rows.square().sum() - rotated.square().sum()
        if left <= _ERROR * rows.square().sum():
            break
    coefficients = (rotated / (values.clamp_min(0) + penalty)) @ (vectors.T @ known.T)
    return coefficients.float(), penalty

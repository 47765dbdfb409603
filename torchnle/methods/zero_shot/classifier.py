"""A classifier with the map fitted to its class names, and the features that its head reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.backbones import stated_names
from torchnle.heads.class_names import as_class_names
from torchnle.heads.classifier_head import ClassifierHead, example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.fit import fit_class_names
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.vision.reading import read_with_output


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """A classifier with its head and the map fitted to its class names.

    Args:
        model: The classifier.
        head: Its head.
        names: Its class names.
        fitted: The map of the layer that the head reads.
        encoder: The sentence encoder of the map.
        sample: Pooled features of unlabelled pictures, (N, D); None if none were given.
    """

    model: nn.Module
    head: ClassifierHead
    names: tuple[str, ...]
    fitted: TextMap
    encoder: TextEncoder
    sample: Float[Tensor, "N D"] | None = None

    @property
    def distance(self) -> float:
        """The mean distance of pooled features from their center."""
        return float(self.fitted.temperature / self.fitted.class_norms.mean())


def fit_classifier(
    model: nn.Module,
    class_names: Iterable[object] | Mapping[Any, Any] | None,
    *,
    example: Tensor | None = None,
    images: Iterable[Tensor] | None = None,
    encoder: TextEncoder | str | None = None,
) -> FittedClassifier:
    """Find a classifier's head, and fit the map from text into features to its weights.

    Args:
        model: The classifier.
        class_names: One per row of its head, or a mapping; None = those that its configuration states.
        example: A few inputs for the dry run; None = noise of the size that the model states, else 224 x 224.
        images: Unlabelled pictures, batch by batch, for their feature statistics.
        encoder: The sentence encoder, or its reference; None = the embedded default.

    Raises:
        ValueError: If no linear head gives the model's output, or the names do not fit its rows.
    """
    names = as_class_names(_stated(model) if class_names is None else class_names)
    shown = example_for(model) if example is None else example
    head = find_head(model, shown, len(names))
    chosen = encoder if isinstance(encoder, TextEncoder) else _loaded(encoder)
    reader = Reader(model, [head.tap], head.reading)
    rows: list[Tensor] = []
    shown_images = None if images is None else _noting(images, reader, rows)
    translator = fit_class_names(
        reader, head, names, chosen, example=shown, images=shown_images, vocabulary=()
    )
    sample = torch.cat(rows) if rows else None
    return FittedClassifier(model, head, names, translator.by_layer[head.tap.name], chosen, sample)


def _noting(images: Iterable[Tensor], reader: Reader, rows: list[Tensor]) -> Iterator[Tensor]:
    """Pass batches of images on, and append their pooled features to `rows`."""
    for batch in images:
        ((pooled, _),) = reader.rows(batch).values()
        rows.append(pooled.detach().float())
        yield batch


def _loaded(reference: str | None) -> TextEncoder:
    return TextEncoder.from_pretrained() if reference is None else TextEncoder.from_pretrained(reference)


def _stated(model: nn.Module) -> tuple[str, ...]:
    names, _ = stated_names(model)
    if not names:
        raise ValueError(
            f"{type(model).__name__} does not state the names of its classes; pass class_names=[...], one a "
            "row of its head."
        )
    return names


class HeadReader(nn.Module):
    """Runs a classifier up to its head, and returns the head's input.

    Args:
        model: The classifier; its parameters are this module's.
        head: Its head.
    """

    def __init__(self, model: nn.Module, head: ClassifierHead) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, images: Float[Tensor, "N channels H W"]) -> Float[Tensor, "N L D"]:
        """Compute the head's input: one row per image, or one per location if the model clips there."""
        (features,), _ = read_with_output(self.model, [self.head.tap], images, None, self.head.reading)
        return self.head.read(features, "all" if self.head.clipped else None).tokens.float()

    def logits(
        self, rows: Float[Tensor, "N L D"], weight: Float[Tensor, "C D"], bias: Float[Tensor, "C"]
    ) -> Float[Tensor, "N C"]:
        """Compute logits with the weight and bias of another head, applied as the model applies its own."""
        scores = nn.functional.linear(rows, weight, bias)
        return (scores.relu() if self.head.clipped else scores).mean(dim=1)


def own_bias(head: ClassifierHead) -> Float[Tensor, "C"]:
    """Return the head's bias in float32; zeros if it has none."""
    if head.bias is None:
        return torch.zeros(len(head.weight), device=head.weight.device)
    return head.bias.detach().float()

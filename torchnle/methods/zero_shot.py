"""Zero-Shot Natural Language Explanations: a classifier's own weights teach what words mean in its space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from torchnle.features import Features
from torchnle.language.text_encoder import TextEncoder
from torchnle.translators.class_names import as_class_names
from torchnle.translators.class_space import ClassSpaceTranslator
from torchnle.translators.classifier_head import ClassifierHead, find_head


@dataclass(frozen=True)
class ZeroShot:
    """A classifier put into words.

    Args:
        translator: Scores and describes the features that the classifier's head reads.
        head: Where these features are and how the head reads them: tap the model at `head.tap`, and give the
            translator what `head.read` makes of the features.
    """

    translator: ClassSpaceTranslator
    head: ClassifierHead


def fit_zero_shot(
    model: nn.Module,
    class_names: Iterable[object],
    example: Tensor,
    text_encoder: TextEncoder | None = None,
    *,
    method: Literal["ridge", "mlp"] = "ridge",
    bank: Sequence[str] | None = None,
    **options: Any,
) -> ZeroShot:
    """Find a classifier's head and learn the map from text into its space (section 3.1).

    Args:
        model: The classifier.
        class_names: One a class, in the order of the model's outputs, or as `as_class_names` takes them.
        example: A few images as the model takes them, for one dry run that finds the head.
        text_encoder: The sentence encoder; None = the embedded default.
        method: "ridge" = closed form; "mlp" = the paper's network.
        bank: The phrases that `describe` chooses from; None = class names and shipped concepts.
        options: For `ClassSpaceTranslator.fit`.

    Raises:
        TypeError: If the class names have no order or are no strings.
        ValueError: If no linear head is found, or the class names do not fit it.

    Example:
        >>> from torchnle import backbones  # doctest: +SKIP
        >>> backbone = backbones.load()  # doctest: +SKIP
        >>> fitted = fit_zero_shot(backbone.model, backbone.class_names, images)  # doctest: +SKIP
        >>> fitted.head.summary  # doctest: +SKIP
        "The head is '_fc' (1000 classes on 1280 features). ..."
    """
    names = as_class_names(class_names)
    head = find_head(model, example, len(names))
    translator = ClassSpaceTranslator.fit(
        head.weight, names, text_encoder, method=method, bank=bank, layer=head.tap.name, **options
    )
    return ZeroShot(translator, head)


def concepts(
    translator: ClassSpaceTranslator, features: Features, texts: Sequence[str], count: int = 15
) -> list[list[tuple[str, float]]]:
    """The texts with the highest cosine on every row, best first (section 4.3; the paper takes 15).

    With the names of classes, new or known, it is the paper's zero-shot classification (section 4.1); each
    name then stands in the prompt that was used for fitting.

    Args:
        translator: A fitted translator.
        features: The features that the head reads.
        texts: The concepts, or the prompted names of classes.
        count: How many to list.

    Raises:
        ValueError: If `count` is not positive, or as `ClassSpaceTranslator.score`.

    Example:
        >>> concepts(translator, features, ["four legs", "wings"], count=1)  # doctest: +SKIP
        [[('wings', 0.21...)]]
    """
    if count < 1:
        raise ValueError(f"count={count}; pass a positive number of concepts to list.")
    scores, order = translator.score(features, texts).topk(min(count, len(texts)), dim=1)
    listed = zip(scores.tolist(), order.tolist(), strict=True)
    return [[(texts[i], score) for score, i in zip(values, row, strict=True)] for values, row in listed]

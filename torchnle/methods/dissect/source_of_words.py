"""Source of words: the translator whose texts are candidates in a dissection, and the layer it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.heads.class_names import as_class_names
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.fit import fit_class_names
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.probing.probe import EvidenceLayer
from torchnle.translators.base import Translator
from torchnle.vision import taps
from torchnle.vision.reading import Reading

_SHOWN = 3


def words_for(
    model: Any,
    translator: Translator | str | None,
    class_names: Iterable[object] | None,
    *,
    evidence_layer: str | None = None,
    reading: Reading | None = None,
    encoder: TextEncoder | None = None,
    images: Sequence[Tensor] | None = None,
) -> tuple[Translator | None, EvidenceLayer | None]:
    """Find the translator that describes exemplars, and the layer whose features it reads.

    Args:
        model: The vision model.
        translator: A translator or its reference; None = one is fitted to the classifier's own head.
        class_names: One per row of the head; None with no translator = no words at all.
        evidence_layer: Which of the translator's layers; None = the last.
        reading: How the layer is read.
        encoder: For a fit; None = the embedded default.
        images: A few images for the fit's statistics.

    Raises:
        ValueError: If the translator names no layer and none is given, or the head is not found.
    """
    if translator is None and class_names is None:
        return None, None
    if translator is not None and class_names is not None:
        raise ValueError("translator and class_names were both given; pass one of the two.")
    if translator is None:
        return _fitted(model, class_names or (), encoder, images)
    loaded = Translator.from_pretrained(translator) if isinstance(translator, str) else translator
    name = evidence_layer or (loaded.layers[-1] if loaded.layers else None)
    if name is None:
        raise ValueError(f"the translator '{loaded.name}' names no layer; pass evidence_layer=.")
    (tap,) = taps.resolve(model, name)
    return loaded, EvidenceLayer(tap, reading or Reading())


def name_of(translator: Translator | None) -> str:
    """Name a translator for people; a map without a name by what it was fitted to.

    Example:
        >>> name_of(None)
        ''
    """
    if translator is None:
        return ""
    if not isinstance(translator, MapTranslator) or translator.name != type(translator).__name__:
        return translator.name
    texts = [*translator.class_texts, *translator.phrases]
    return f"a map fitted to {len(texts)} texts ({', '.join(texts[:_SHOWN])}, ...)"


def _fitted(
    model: nn.Module,
    class_names: Iterable[object],
    encoder: TextEncoder | None,
    images: Sequence[Tensor] | None,
) -> tuple[Translator, EvidenceLayer]:
    names = as_class_names(class_names)
    example = example_for(model) if not images else images[0][None]
    head = find_head(model, example, len(names))
    translator = fit_class_names(
        Reader(model, [head.tap], head.reading),
        head,
        names,
        TextEncoder.from_pretrained() if encoder is None else encoder,
        example=example,
        images=[torch.stack(list(images))] if images and len(images) > 1 else None,
    )
    return translator, EvidenceLayer(head.tap, head.reading)

"""Sentences for any backbone in seconds: fit an aligned translator from captions, class names or images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchnle import taps
from torchnle.reading import Reading
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.alignment_fit import fit_captions, fit_class_names, fit_lens
from torchnle.translators.base import Translator
from torchnle.translators.class_names import as_class_names
from torchnle.translators.classifier_head import example_for, find_head
from torchnle.translators.joining import CLASS_WEIGHT, join
from torchnle.translators.text_decoder import DECODER, TextDecoder

_SOURCES = (("captions",), ("class_names",), ("captions", "class_names"), ("images",))


@dataclass(frozen=True)
class Aligned:
    """A model whose layers speak sentences.

    Args:
        translator: The fitted translator.
        layers: What to tap.
        reading: How to read what is tapped.
        summary: A sentence on what was chosen.
        plain: Whether the layer's features are mapped as they are, and not as a classifier's head has them.
    """

    translator: AlignedTranslator
    layers: taps.LayerChoice
    reading: Reading
    summary: str = ""
    plain: bool = True


def as_aligned(
    translator: Translator, layers: taps.LayerChoice, reading: Reading, summary: str = ""
) -> Aligned:
    """What is attached already, for a fit of further layers through it.

    Raises:
        TypeError: If the translator is no aligned one.
    """
    if not isinstance(translator, AlignedTranslator):
        raise TypeError(f"a {translator.name} cannot pass words on; fit an aligned translator.")
    return Aligned(translator, layers, reading, summary)


def fit_aligned(
    model: nn.Module,
    layers: taps.LayerChoice | None = None,
    *,
    captions: Iterable[tuple[Tensor, Sequence[str]]] | None = None,
    class_names: Iterable[object] | None = None,
    images: Iterable[Tensor] | None = None,
    through: Aligned | None = None,
    decoder: TextDecoder | str | None = DECODER,
    example: Tensor | None = None,
    reading: Reading | None = None,
    class_weight: float = CLASS_WEIGHT,
    **options: Any,
) -> Aligned:
    """Fit from captioned images, a classifier's class names, both together, or unlabelled images.

    Args:
        model: The vision model.
        layers: The layers to map. With class names alone they are found: what the classifier's head reads.
        captions: Batches (images, captions), as `fit_captions` takes them.
        class_names: One a row of the classifier's head, or as `as_class_names` takes them. Together
            with captions they are added on the layer that the head reads (`join`), so that what is in no
            caption can still be named.
        images: Batches of images; they are read together with `through`.
        through: What is mapped already, with ``images=``.
        decoder: Speaks; a reference or a `TextDecoder`; None = descriptions are nearest phrases.
        example: With class names: a few inputs for the dry run that finds the head.
        reading: How to read a layer whose layout is ambiguous.
        class_weight: With captions and class names: how much the classes count (`join`).
        options: For `fit_captions`, `fit_class_names` or `fit_lens`.

    Raises:
        ValueError: If none of these sources is given, or what it needs is missing.
    """
    sources = {"captions": captions, "class_names": class_names, "images": images}
    given = tuple(name for name, source in sources.items() if source is not None)
    if given not in _SOURCES:
        raise ValueError(
            f"{list(given) or 'no source'} given; pass exactly one of captions=, class_names= and images=, "
            "or captions= with class_names=."
        )
    class_names = None if class_names is None else as_class_names(class_names)
    speaker = TextDecoder.from_pretrained(decoder) if isinstance(decoder, str) else decoder
    if class_names is not None and captions is None:
        if layers is not None:
            raise ValueError("class_names= alone finds the layer that the head reads; leave layers out.")
        return _from_class_names(model, class_names, speaker, example, options)
    if layers is None:
        raise ValueError(f"{given[0]}= needs the layers to map; `suggest_layers` lists what is worth it.")
    if captions is not None:
        translator = fit_captions(model, layers, captions, decoder=speaker, reading=reading, **options)
        if class_names is not None:
            classes = _classes(model, class_names, translator, example)
            translator = join(translator, classes, weight=class_weight)
    elif through is None or images is None:
        raise ValueError("images= needs through=, a fit of another layer whose words are passed on.")
    else:
        known = (through.translator, through.layers, through.reading)
        translator = fit_lens(model, layers, images, *known, reading=reading, **options)
    return Aligned(translator, layers, reading or Reading())


def _classes(
    model: nn.Module, class_names: Sequence[str], beside: AlignedTranslator, example: Tensor | None
) -> AlignedTranslator:
    """What the head knows, for a join; it must read the very features that the captions were fitted to."""
    fitted = _from_class_names(model, class_names, beside.decoder, example, {"encoder": beside.encoder})
    if not fitted.plain:
        raise ValueError(
            "class names cannot be added to captions here: more than a mean stands between the layer and "
            f"the head. {fitted.summary} Fit from one of the two."
        )
    return fitted.translator


def _from_class_names(
    model: nn.Module,
    class_names: Sequence[str],
    decoder: TextDecoder | None,
    example: Tensor | None,
    options: dict[str, Any],
) -> Aligned:
    head = find_head(model, example_for(model) if example is None else example, len(class_names))
    translator = fit_class_names(
        head.weight, class_names, layer=head.tap.name, bias=head.bias, decoder=decoder, **options
    )
    return Aligned(translator, head.tap, head.reading, head.summary, head.plain)

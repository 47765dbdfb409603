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
from torchnle.translators.classifier_head import example_for, find_head
from torchnle.translators.text_decoder import DECODER, TextDecoder


@dataclass(frozen=True)
class Aligned:
    """A model whose layers speak sentences.

    Args:
        translator: The fitted translator.
        layers: What to tap.
        reading: How to read what is tapped.
        summary: A sentence on what was chosen.
    """

    translator: AlignedTranslator
    layers: taps.LayerChoice
    reading: Reading
    summary: str = ""


def fit_aligned(
    model: nn.Module,
    layers: taps.LayerChoice | None = None,
    *,
    captions: Iterable[tuple[Tensor, Sequence[str]]] | None = None,
    class_names: Sequence[str] | None = None,
    images: Iterable[Tensor] | None = None,
    through: Aligned | None = None,
    decoder: TextDecoder | str | None = DECODER,
    example: Tensor | None = None,
    reading: Reading | None = None,
    **options: Any,
) -> Aligned:
    """Fit from exactly one source: captioned images, a classifier's class names, or unlabelled images.

    Args:
        model: The vision model.
        layers: The layers to map. With class names they are found: what the classifier's head reads.
        captions: Batches (images, captions), as `fit_captions` takes them.
        class_names: One a row of the classifier's head.
        images: Batches of images; they are read together with `through`.
        through: What is mapped already, with ``images=``.
        decoder: Speaks; a reference or a `TextDecoder`; None = descriptions are nearest phrases.
        example: With class names: a few inputs for the dry run that finds the head.
        reading: How to read a layer whose layout is ambiguous.
        options: For `fit_captions`, `fit_class_names` or `fit_lens`.

    Raises:
        ValueError: If not exactly one source is given, or what it needs is missing.
    """
    sources = {"captions": captions, "class_names": class_names, "images": images}
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1:
        raise ValueError(
            f"{given or 'no source'} given; pass exactly one of captions=, class_names= and images=."
        )
    speaker = TextDecoder.from_pretrained(decoder) if isinstance(decoder, str) else decoder
    if class_names is not None:
        return _from_class_names(model, layers, class_names, speaker, example, options)
    if layers is None:
        raise ValueError(f"{given[0]}= needs the layers to map; `suggest_layers` lists what is worth it.")
    if captions is not None:
        translator = fit_captions(model, layers, captions, decoder=speaker, reading=reading, **options)
    elif through is None or images is None:
        raise ValueError("images= needs through=, a fit of another layer whose words are passed on.")
    else:
        known = (through.translator, through.layers, through.reading)
        translator = fit_lens(model, layers, images, *known, reading=reading, **options)
    return Aligned(translator, layers, reading or Reading())


def _from_class_names(
    model: nn.Module,
    layers: taps.LayerChoice | None,
    class_names: Sequence[str],
    decoder: TextDecoder | None,
    example: Tensor | None,
    options: dict[str, Any],
) -> Aligned:
    if layers is not None:
        raise ValueError("class_names= finds the layer that the head reads by itself; leave layers out.")
    head = find_head(model, example_for(model) if example is None else example, len(class_names))
    translator = fit_class_names(
        head.weight, class_names, layer=head.tap.name, bias=head.bias, decoder=decoder, **options
    )
    reading = Reading(layout=head.layout, num_prefix_tokens=head.num_prefix_tokens, pool=head.read)
    return Aligned(translator, head.tap, reading, head.summary)

"""Attach to a classifier: its class names, a map fitted to its head's layer, lenses from other layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from torchnle.attr.construction.frozen import as_decoder, as_encoder
from torchnle.backbones import stated_names
from torchnle.heads.class_names import as_class_names
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.translators.base import Translator
from torchnle.vision import taps
from torchnle.vision.lens import read_through
from torchnle.vision.reading import Reading
from torchnle.vision.running import unwrap
from torchnle.vision.taps import LayerChoice

if TYPE_CHECKING:
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder

#: How layers below the head's are read: by the model's own upper part, or by a linear map fitted to it.
LensKind = Literal["model", "fitted"]
_NO_NAMES = (
    "{model} states no class names, so there are no words for its layers. Either name its classes, "
    "class_names=[...]: a list with a name a class in the order of its outputs, a mapping such as id2label, "
    'or a known list such as "imagenet-1k"; or pass a translator: '
    "LanguageAttribution(model, layers, translator)."
)


@dataclass(frozen=True)
class Attached:
    """A model, the layers that are read and their reading, and the translator.

    Args:
        forward_func: The model.
        layers: The layers.
        reading: Their reading: the head's own, and of other layers through lenses.
        translator: Reads them all.
        summary: Sentences on the choices and their checks.
    """

    forward_func: Callable[..., Any]
    layers: Sequence[taps.Tap] | Sequence[str]
    reading: Reading | None
    translator: Translator
    summary: str = ""


def attach_classifier(
    model: Callable[..., Any],
    class_names: Iterable[object] | None,
    layers: LayerChoice | None,
    *,
    example: Tensor | None = None,
    images: Iterable[Tensor] | None = None,
    encoder: TextEncoder | str | None = None,
    vocabulary: Sequence[str] | None = None,
    decoder: TextDecoder | str | None = None,
    regression: Literal["ridge", "mlp"] = "ridge",
    reading: Reading | None = None,
    lens: LensKind = "model",
) -> Attached:
    """Fit the map of the layer that a classifier's head reads, and read other layers through it.

    The arguments are those of `LanguageAttribution.from_classifier`.
    """
    from torchnle.methods.aligned.fit import fit_class_names
    from torchnle.methods.aligned.reader import Reader

    if lens not in ("model", "fitted"):
        raise ValueError(f"lens={lens!r}; pass 'model' or 'fitted'.")
    root = _classifier(model)
    names, source = names_of(root, class_names)
    shown = example_for(root) if example is None else example
    head = find_head(root, shown, len(names))
    pictures = list(images) if images is not None and lens == "fitted" else images
    through = read_through(
        model,
        head.tap if layers is None else layers,
        head.tap,
        example=shown,
        reading=reading,
        end_reading=head.reading,
        images=_to_fit(pictures) if lens == "fitted" else None,
    )
    translator = fit_class_names(
        Reader(model, [head.tap], head.reading),
        head,
        names,
        as_encoder(encoder),
        example=shown,
        images=pictures,
        decoder=as_decoder(decoder),
        vocabulary=vocabulary,
        regression=regression,
    )
    summary = " ".join(filter(None, [head.summary, source, through.summary]))
    return Attached(model, through.taps, through.reading, translator, summary)


def names_of(model: nn.Module, class_names: Iterable[object] | None) -> tuple[tuple[str, ...], str]:
    """Return the class names as given, or those that the model states with a sentence on their source.

    Raises:
        ValueError: If none are given and the model states none.

    Example:
        >>> names_of(nn.Linear(2, 2), ["cat", "dog"])
        (('cat', 'dog'), '')
    """
    if class_names is not None:
        return as_class_names(class_names), ""
    names, source = stated_names(model)
    if not names:
        raise ValueError(_NO_NAMES.format(model=type(model).__name__))
    return names, f"The class names are {source}."


def _classifier(model: Callable[..., Any]) -> nn.Module:
    root = unwrap(model)
    if root is None:
        raise TypeError(
            f"the model is a {type(model).__name__}, in which no classifier's head can be found. Pass the "
            "nn.Module itself, or a translator: LanguageAttribution(model, layers, translator)."
        )
    return root


def _to_fit(images: Iterable[Tensor] | None) -> Iterable[Tensor]:
    if images is None:
        raise ValueError("lens='fitted' is fitted to a few unlabelled images; pass images=, batch by batch.")
    return images


def check_read(head: ClassifierHead, layers: Sequence[str]) -> None:
    """Refuse a head whose layer is not among those fitted to captions."""
    if head.tap.name not in layers:
        raise ValueError(
            f"the classifier's head reads '{head.tap.name}', which is not among the layers {list(layers)}. "
            "Add it, or leave class_names out."
        )
    if not head.plain:
        raise ValueError(
            "class names cannot be added to captions here: the head reads its layer by more than a mean. "
            f"{head.summary} Fit from one of the two."
        )

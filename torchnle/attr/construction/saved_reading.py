"""The reading of layers as plain values, saved with a translator and restored when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from torchnle.attr.construction.classifier import Attached
from torchnle.heads.classifier_head import ClassifierHead, example_for, find_head
from torchnle.heads.readout import Readout
from torchnle.methods.clip.read import read_clip
from torchnle.methods.clip.translator import ClipTranslator
from torchnle.translators.base import Translator
from torchnle.vision.features import Features
from torchnle.vision.lens import Lens, read_through
from torchnle.vision.lens.fitted import FittedLens
from torchnle.vision.lens.through import read_through_fitted
from torchnle.vision.reading import Reading
from torchnle.vision.taps import Tap

_PLAIN = ("layout", "grid", "num_prefix_tokens")


def plain_reading(taps: Sequence[Tap], reading: Reading, summary: str = "") -> dict[str, Any]:
    """Convert the reading of layers to plain values; the tensors of fitted lenses are `lens_tensors`.

    Raises:
        ValueError: If a function of the caller's own reads them, which cannot be saved.

    Example:
        >>> plain_reading([Tap("pool", nn.Identity(), at="input")], Reading(layout="NHWC"))
        {'layers': ['pool:input'], 'readout': None, 'layout': 'NHWC'}
    """
    saved: dict[str, Any] = {"layers": [tap.reference for tap in taps], "readout": _readout(reading)}
    saved |= {"summary": summary} if summary else {}
    fitted = _fitted_lenses(taps, reading)
    if fitted:
        facts = {name: {"smooth": lens.smooth, "summary": lens.summary} for name, lens in fitted.items()}
        saved["lenses"] = facts
    given = {name: getattr(reading, name) for name in _PLAIN}
    return saved | {name: value for name, value in given.items() if value not in (None, "auto")}


def lens_tensors(taps: Sequence[Tap], reading: Reading) -> dict[str, Tensor]:
    """Collect the tensors of fitted lenses, to be saved beside `plain_reading`.

    Example:
        >>> lens_tensors([Tap("pool", nn.Identity())], Reading())
        {}
    """
    return {
        f"{layer}/{name}": tensor
        for layer, lens in _fitted_lenses(taps, reading).items()
        for name, tensor in (("weight", lens.weight), ("bias", lens.bias))
    }


def _fitted_lenses(taps: Sequence[Tap], reading: Reading) -> dict[str, FittedLens]:
    lenses = {tap.reference: _reader(reading.layers.get(tap.name)) for tap in taps}
    return {name: lens for name, lens in lenses.items() if isinstance(lens, FittedLens)}


def _reader(reading: Reading | None) -> object:
    """Return the object whose method pools the locations of a layer; None if a function does."""
    return None if reading is None else getattr(reading.pool, "__self__", None)


def _readout(reading: Reading) -> str | None:
    readers = [_reader(each) for each in reading.layers.values()]
    for kind, name in ((Lens, "lens"), (FittedLens, "fitted lens")):
        if readers and all(isinstance(reader, kind) for reader in readers):
            return name
    reader = _reader(reading)
    if reading.select is not None or not (reading.pool is Features.select or isinstance(reader, Readout)):
        raise ValueError(
            "this reading holds a function (select= or pool=) and cannot be saved. Save the "
            "translator alone (lang.translator.save_pretrained) and give from_pretrained the same reading=."
        )
    return None if reader is None else "head" if isinstance(reader, ClassifierHead) else "clip"


def attach(
    model: nn.Module, translator: Translator, saved: Mapping[str, Any], example: Tensor | None
) -> Attached:
    """Find in a model the layers that a translator was saved for, and their reading.

    Args:
        model: The vision model.
        translator: The translator.
        saved: The values from `plain_reading`.
        example: A few inputs for the dry run that finds a head; None = noise of the size the model states.

    Raises:
        ValueError: If the head is another layer's than when it was saved, or the values are unknown.
    """
    given = dict(saved)
    layers, readout, summary = given.pop("layers", []), given.pop("readout", None), given.pop("summary", "")
    rest: dict[str, Any] = {"translator": translator, "summary": str(summary)}
    lenses = given.pop("lenses", {})
    if readout not in (None, "head", "clip", "lens", "fitted lens") or not set(given) <= set(_PLAIN):
        raise ValueError(f"the saved reading {dict(saved)} is not known; save the translator again.")
    if given.get("grid") is not None:
        given["grid"] = tuple(given["grid"])
    own, names = Reading(**given), list(layers)
    if readout is None:
        return Attached(model, layers, own, **rest)
    if readout == "clip" and isinstance(translator, ClipTranslator):
        clip = read_clip(model, translator.text_encoder.tokenizer, example)
        found = Attached(clip.encode_image, [clip.readout.tap], clip.readout.reading, **rest)
        return _checked(found, layers, clip.readout)
    shown = example_for(model) if example is None else example
    head = find_head(model, shown)
    if readout == "head":
        return _checked(Attached(model, [head.tap], head.reading, **rest), layers, head)
    if readout == "fitted lens":
        fitted = _restored(lenses, translator.reading_tensors)
        through = read_through_fitted(
            model, list(layers), head.tap, fitted, reading=own, end_reading=head.reading
        )
    else:
        through = read_through(model, names, head.tap, example=shown, reading=own, end_reading=head.reading)
    return Attached(model, through.taps, through.reading, **rest)


def _restored(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, FittedLens]:
    """Build the fitted lenses of layers from their saved values and tensors."""
    wanted = {f"{layer}/{name}" for layer in facts for name in ("weight", "bias")}
    if wanted != set(tensors):
        raise ValueError(
            f"the saved reading has lenses of {list(facts)}, and tensors {sorted(tensors)}; these belong to "
            "another save. Save the translator again."
        )
    return {
        layer: FittedLens(
            tensors[f"{layer}/weight"].float(),
            tensors[f"{layer}/bias"].float(),
            smooth=bool(fact["smooth"]),
            summary=str(fact["summary"]),
        )
        for layer, fact in facts.items()
    }


def _checked(found: Attached, layers: Sequence[str], readout: Readout) -> Attached:
    if [readout.tap.reference] != list(layers):
        raise ValueError(
            f"the translator was saved for the layer {list(layers)} that the model's head reads; this "
            f"model's head reads '{readout.tap.reference}'. Pass the model that it was made for, or layers=."
        )
    return found

"""Saved translators: refused where they are damaged, moved whole, named with what they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    folder,
    images,
    refused,
)
from measurements.reliability.cases.encoders import encoder
from measurements.reliability.cases.models import attached, classifier, language_model, translator
from measurements.reliability.cases.saved_models import edit
from torchnle.language.model import LanguageModel
from torchnle.translators.base import Translator

TOPIC = Topic("saved translators")
case = TOPIC.case


def _reload(directory: Path) -> Any:
    with patch.object(LanguageModel, "from_pretrained", lambda *_, **__: language_model()):
        return Translator.from_pretrained(directory)


@case("a translator with NaN, infinite, float64 and integer tensors", "ValueErrors; float64 becomes float32")
def translator_numbers() -> Found:
    """A translator whose tensors are no numbers."""
    tried = []
    for value in (float("nan"), float("inf")):
        with folder() as directory:
            translator("1", 6).save_pretrained(directory / "t")
            edit(directory / "t" / "model.safetensors", lambda w, v=value: _first_is(w, lambda t: t.fill_(v)))
            tried.append((str(value), refused(lambda: _reload(directory / "t"), "NaN or infinite")))
    for dtype in (torch.int64, torch.complex64):
        with folder() as directory:
            translator("1", 6).save_pretrained(directory / "t")
            edit(directory / "t" / "model.safetensors", lambda w, d=dtype: _first_is(w, lambda t: t.to(d)))
            tried.append((str(dtype), refused(lambda: _reload(directory / "t"), "instead of")))
    with folder() as directory:
        translator("1", 6).save_pretrained(directory / "t")
        edit(directory / "t" / "model.safetensors", lambda w: {k: v.double() for k, v in w.items()})
        dtypes = {p.dtype for p in _reload(directory / "t").parameters()}
        tried.append(("float64", equal(dtypes, {torch.float32})))
    return first_wrong(tried)


def _first_is(weights: dict[str, Any], change: Any) -> dict[str, Any]:
    name = next(name for name, value in weights.items() if value.is_floating_point())
    return weights | {name: change(weights[name])}


@case(
    "config.json cut, of another kind, with unknown keys and wrong values", "a ValueError that names the file"
)
def translator_configs() -> Found:
    """A translator with a damaged configuration."""
    tried: list[tuple[str, Found]] = []
    with folder() as directory:
        translator("1", 6).save_pretrained(directory / "t")
        file = directory / "t" / "config.json"
        whole = json.loads(file.read_text())
        key = (
            next(name for name, value in whole.items() if isinstance(value, dict))
            if any(isinstance(value, dict) for value in whole.values())
            else None
        )
        changes: list[Any] = [
            "",
            "{",
            "[]",
            "null",
            '{"kind": "os.system"}',
            json.dumps({**whole, "evil": 1}),
        ]
        wrongs: list[Any] = [[{}], [[]], -1.5, "../x"]
        for name in whole:
            changes += [json.dumps({**whole, name: wrong}) for wrong in wrongs]
        if key:
            for name in whole[key]:
                changes += [json.dumps({**whole, key: {**whole[key], name: wrong}}) for wrong in wrongs]
        for change in changes:
            file.write_text(change)
            try:
                _reload(directory / "t")
            except ValueError:
                tried.append(
                    (change[:30], refused(lambda: _reload(directory / "t"), r"config\.json|translator|model"))
                )
            except Exception:  # noqa: BLE001
                tried.append((change[-60:], refused(lambda: _reload(directory / "t"))))
    return first_wrong(tried)


@case(
    "a map and a DeViL translator, to another device", "every tensor moved, of encoder and language model too"
)
def moved_translator() -> Found:
    """A translator moved to another device."""
    lang = attached(
        classifier(), images(2, 64, 64), encoder=encoder(), vocabulary=("w5",), names=["w3", "w4", "w6", "w7"]
    )
    moved = lang.translator.to("meta")
    left = [name for name, tensor in moved.state_dict().items() if tensor.device.type != "meta"]
    devices = {moved.encoder.device.type, translator("1", 6).to("meta").language_model.device.type}
    translator.cache_clear()
    return f"left behind: {left}, frozen models on {devices}", not left and devices == {"meta"}


@case("a DeViL translator's card", "it names the language model that it needs")
def base_models() -> Found:
    """The models that a translator needs."""
    from torchnle.translators.model_card import model_card

    found = translator("1", 6).base_models
    return f"{found}", "x" in found and "`x`" in model_card(translator("1", 6))

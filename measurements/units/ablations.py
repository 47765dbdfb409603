"""Ablations of Describe-and-Dissect on units of the last map: captioners, summarisers, crops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from measurements.units.cost import pictures
from measurements.units.intervals import interval
from torchnle.backbones import Backbone
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.captioners import BankCaptioner, TranslatorCaptioner
from torchnle.methods.dissect.candidates.local_chat import LocalChat
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise
from torchnle.methods.dissect.candidates.summarisers import ChatSummariser
from torchnle.methods.dissect.labels import Dissection
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.run import DissectSettings, dissect
from torchnle.metrics.units import clarity, image_label_similarity, redundancy
from torchnle.translators.base import Translator

#: Another captioner of the same layer.
DEVIL = "devil-efficientnet-lite0-scenes"


def measure(
    backbone: Backbone,
    translator: MapTranslator,
    stamps: Path,
    folder: Path,
    *,
    count: int,
    units: int,
    progress: bool = False,
) -> dict[str, Any]:
    """Label the same units in several ways, and compare the labels with the default ones.

    Args:
        backbone: The model; units of its last map are labelled.
        translator: Its map.
        stamps: The cut-outs that the images are made of.
        folder: Where images and states are kept; those of the cost are used again.
        count: Images.
        units: Units of the ablations; the similarity of images and labels takes all of the layer.
        progress: Whether bars show.
    """
    layer = translator.layers[-1]
    images = ProbingSet(pictures(stamps, folder, count), backbone.preprocess)
    common: dict[str, Any] = {"translator": translator, "cache": folder / "cache", "progress": progress}
    everything = dissect(backbone.model, layer, images, **common)
    own = TranslatorCaptioner(translator, layer)
    ways: dict[str, dict[str, Any]] = {
        "candidates of captions alone": {"settings": DissectSettings(correlated=0)},
        "captions by DeViL (A.4.3)": {
            "captioner": TranslatorCaptioner(Translator.from_pretrained(DEVIL), layer),
            "settings": DissectSettings(correlated=0),
        },
        "captions from a fixed bank (4.4.1)": {
            "captioner": BankCaptioner(translator, layer, translator.vocabulary.phrases),
            "settings": DissectSettings(correlated=0),
        },
        "summarised by SmolLM2 (A.4.5)": {
            "summariser": ChatSummariser(LocalChat()),
            "settings": DissectSettings(correlated=0),
        },
        "without summary (A.4.6)": {
            "proposer": CaptionAndSummarise(own, None),
            "settings": DissectSettings(correlated=0),
        },
        "with attention crops (A.1.1, A.4.1)": {"settings": DissectSettings(crops=True)},
    }
    default = list(everything)[:units]
    rows = {"default": _row(default, default, translator, 0.0)}
    for name, options in ways.items():
        began = time.process_time()
        found = dissect(backbone.model, layer, images, only=range(units), **common, **options)
        rows[name] = _row(list(found), default, translator, (time.process_time() - began) / units)
    return {"units": units, "images": count, "rows": rows, **_layer(everything, translator)}


def _row(found: list[Any], default: list[Any], translator: MapTranslator, seconds: float) -> dict[str, Any]:
    """The mean correlation of the labels, and their likeness to the default ones."""
    pairs = [(a, b) for a, b in zip(found, default, strict=True) if a.text and b.text]
    own, other = (translator.encoder.encode([pair[i].text for pair in pairs]) for i in range(2))
    return {
        "correlation": interval(torch.tensor([a.correlation for a, _ in pairs])),
        "agreement": interval(F.cosine_similarity(own, other, dim=1)),
        "same": sum(a.text == b.text for a, b in pairs) / max(1, len(pairs)),
        "processor_seconds_a_unit": seconds,
        "examples": [a.text for a, _ in pairs[:10]],
    }


def _layer(found: Dissection, translator: MapTranslator) -> dict[str, Any]:
    """Image against label similarity over the layer's units (A.8), and measures without labels."""
    labelled = [label for label in found if label.text]
    record = found.record
    if record is None or record.evidence is None:
        return {}
    chosen = record.evidence[[label.unit for label in labelled]]
    vectors = translator.encoder.encode([label.text for label in labelled])
    centred = chosen - record.mean_feature
    return {
        "image_against_label_similarity": image_label_similarity(chosen, vectors),
        "clarity": float(clarity(centred).mean()),
        "redundancy": float(redundancy(centred).mean()),
        "labelled": len(labelled),
        "reliable": len(found.reliable),
    }

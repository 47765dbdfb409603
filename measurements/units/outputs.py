"""Measure labellers on a classifier's output units, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.units.intervals import difference, interval, ratio
from measurements.units.labellers import DEFAULT, WITHOUT, label_all
from measurements.units.presence import presence, shown_classes
from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import Scene
from torchnle.evaluation.scenes.data import composed
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.labellers.linear import LinearLabel
from torchnle.methods.dissect.labellers.rank_texts import UnitReading, combinations
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import EvidenceLayer, probe
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.words import score_rows
from torchnle.metrics import units as measures
from torchnle.metrics.units import image_label_similarity
from torchnle.metrics.units.sanity import Measure
from torchnle.vision import taps

TEN, ONE = "ten words (LE)", "one word (LE)"


def measure(
    backbone: Backbone,
    other: Backbone,
    translator: MapTranslator,
    stamps: Path,
    *,
    layer: str = "_fc",
    count: int = 2000,
    held_out: int = 1000,
    photographs: Sequence[Path] = (),
    seed: int = 0,
    checked: Mapping[str, Measure] | None = None,
    cache: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Label output units from some scenes, and measure the labels on others.

    Args:
        backbone: The classifier.
        other: Another classifier; the map of its class names scores labels, and no labeller uses it.
        translator: The map that labellers read words by.
        stamps: The cut-outs.
        layer: The classifier's output.
        count: Scenes to probe with.
        held_out: Scenes to measure on.
        photographs: Added to the probing set.
        seed: Of the scenes.
        checked: More measures that sanity checks are run on, by name.
        cache: A folder for activations.
        progress: Whether bars show.
    """
    probing = composed(stamps, length=count, objects=(1, 3), seed=1000 + seed)
    scenes = composed(stamps, length=held_out, objects=(1, 3), seed=2000 + seed)
    source = [*probing[:], *photographs]
    images = ProbingSet(source, backbone.preprocess, fingerprint=f"{probing.fingerprint} {photographs}")
    evidence = EvidenceLayer(taps.resolve(backbone.model, translator.layers[-1])[0])
    common: dict[str, Any] = {"cache": cache, "progress": progress}
    settings = ProbeSettings(k=10, wide=100, table=True)
    record = probe(backbone.model, layer, images, settings=settings, evidence=evidence, **common).layers[
        layer
    ]
    listed = scenes[:]
    shown = ProbingSet(listed, backbone.preprocess, fingerprint=scenes.fingerprint)
    test = probe(backbone.model, layer, shown, settings=settings, **common).layers[layer]
    units = shown_classes(backbone, listed)
    truth = [backbone.class_names[unit] for unit in units]
    found = label_all(record, translator, evidence.tap.name, units, truth, seed=seed)
    activations = test.activations[:, units]
    neutral = _Neutral(other, listed, cache, progress)
    measured = {name: _measured(labels, activations, listed, neutral) for name, labels in found.items()}
    reading = UnitReading(record, translator, evidence.tap.name, units)
    for most, name in ((10, TEN), (1, ONE)):
        measured[name] = _combined(combinations(reading, most=most), activations, listed, neutral)
    vectors = translator.encoder.encode(truth)
    for name, labels in found.items():
        measured[name]["cosine to truth"] = (translator.encoder.encode(labels) * vectors).sum(dim=1)
    return {
        "units": len(units),
        "probing_images": len(images),
        "held_out_scenes": len(listed),
        "rows": {n: {m: interval(v) for m, v in row.items()} for n, row in measured.items()},
        "compared": _compared(measured),
        "sanity": _sanity(truth, activations, listed, checked or {}),
        "diversity": image_label_similarity(reading.evidence, translator.encoder.encode(found[DEFAULT])),
        "examples": {name: list(zip(truth[:20], labels[:20], strict=True)) for name, labels in found.items()},
    }


def _compared(measured: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, list[float]]]:
    """Compare the same units: selection with none, the default with random labels, ten words with one."""
    found: dict[str, dict[str, list[float]]] = {}
    for measure in ("presence", "neutral"):
        values = {name: row[measure] for name, row in measured.items()}
        found[measure] = {
            "selection minus none": difference(values["DnD"], values[WITHOUT]),
            "default minus without selection": difference(values[DEFAULT], values[WITHOUT]),
            "default minus random class": difference(values[DEFAULT], values["random class"]),
            "ten words over one word": ratio(values[TEN], values[ONE]),
            "ten words over the default label": ratio(values[TEN], values[DEFAULT]),
        }
    return found


class _Neutral:
    """Scores of labels on the held-out scenes by another backbone's map."""

    def __init__(self, other: Backbone, scenes: Sequence[Scene], cache: Path | None, progress: bool) -> None:
        self.lang: LanguageAttribution = LanguageAttribution.from_backbone(other)
        tap = self.lang.taps[0]
        layer = EvidenceLayer(tap, self.lang.reading)
        names = " ".join(scene.caption for scene in scenes)
        images = ProbingSet(list(scenes), other.preprocess, fingerprint=names)
        options: dict[str, Any] = {"evidence": layer, "cache": cache, "progress": progress}
        settings = ProbeSettings(table=True, batch_size=16)
        found = probe(other.model, tap, images, settings=settings, **options)
        self.vectors = found.layers[tap.name].vectors
        self.layer = tap.name

    def __call__(self, labels: Sequence[str]) -> Tensor:
        """Score labels, (N, labels); a blank one 0."""
        unique = list(dict.fromkeys(label for label in labels if label))
        scores = score_rows(self.lang.translator, self.layer, self.vectors, unique).cpu()
        column = {label: i for i, label in enumerate(unique)}
        blank = torch.zeros(len(scores))
        return torch.stack([scores[:, column[t]] if t in column else blank for t in labels], dim=1)


def _measured(
    labels: Sequence[str], activations: Tensor, scenes: Sequence[Scene], neutral: _Neutral
) -> dict[str, Tensor]:
    there, scored = presence(labels, scenes), neutral(labels)
    return {
        "presence": measures.correlation(there, activations),
        "neutral": measures.correlation(scored, activations),
        "auprc": measures.auprc(there, activations, 0.02),
        **_cosy(there, activations),
    }


def _cosy(there: Tensor, activations: Tensor) -> dict[str, Tensor]:
    """CoSy's two measures, with the held-out scenes that show a label instead of generated images."""
    aucs, mads = torch.full((there.shape[1],), 0.5), torch.zeros(there.shape[1])
    for unit in range(there.shape[1]):
        shown, own = there[:, unit] > 0, activations[:, unit : unit + 1]
        if shown.any() and not shown.all():
            aucs[unit] = measures.cosy_auc(own[shown], own[~shown])[0]
            mads[unit] = measures.cosy_mad(own[shown], own[~shown])[0]
    return {"cosy auc": aucs, "cosy mad": mads}


def _combined(
    combined: Sequence[LinearLabel], activations: Tensor, scenes: Sequence[Scene], neutral: _Neutral
) -> dict[str, Tensor]:
    words = list(dict.fromkeys(word for each in combined for word in each.words))
    column = {word: i for i, word in enumerate(words)}
    tables = {"presence": presence(words, scenes), "neutral": _standard(neutral(words))}
    found = {"words": torch.tensor([float(len(each.words)) for each in combined])}
    for name, table in tables.items():
        parts = [
            table[:, [column[w] for w in each.words]] @ torch.tensor(each.weights, dtype=table.dtype)
            for each in combined
        ]
        found[name] = measures.correlation(torch.stack(parts, dim=1), activations)
    return found


def _sanity(
    truth: Sequence[str], activations: Tensor, scenes: Sequence[Scene], more: Mapping[str, Measure]
) -> dict[str, Any]:
    there = presence(truth, scenes)
    checked: dict[str, Measure] = {
        "correlation": measures.correlation,
        "cosine": measures.cosine,
        "auprc": lambda p, a: measures.auprc(p, a, 0.02),
        "f1": lambda p, a: measures.f1_iou(p, a, 0.02)[0],
        "iou": lambda p, a: measures.f1_iou(p, a, 0.02)[1],
        "cosy auc": lambda p, a: _cosy(p, a)["cosy auc"],
        "cosy mad": lambda p, a: _cosy(p, a)["cosy mad"],
        **more,
    }
    checks = {name: measures.sanity_checks(measure, there, activations) for name, measure in checked.items()}
    return {name: {"missing": c.missing, "extra": c.extra, "passes": c.passes} for name, c in checks.items()}


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp_min(1e-12)

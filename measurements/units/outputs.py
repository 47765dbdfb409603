"""Measure labellers on a classifier's output units, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.units.labellers import label_all
from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import Scene
from torchnle.evaluation.scenes.data import composed
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.labellers.linear import linear_labels
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import EvidenceLayer, probe
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.words import score_rows
from torchnle.metrics import units as measures
from torchnle.vision import taps

#: The number of held-out scenes of a class that are needed to measure it.
LEAST = 5
_RESAMPLES = 1000


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
    rows = {name: _row(labels, activations, listed, neutral) for name, labels in found.items()}
    texts = list(translator.vocabulary.phrases)
    scores = score_rows(translator, evidence.tap.name, record.vectors, texts).cpu()
    for most, name in ((10, "ten words (LE)"), (1, "one word (LE)")):
        combined = linear_labels(scores, record.activations[:, units], texts, most=most, gain=0.0)
        rows[name] = _combined(combined, activations, listed, neutral)
    vectors = translator.encoder.encode(truth)
    for name, labels in found.items():
        cosines = (translator.encoder.encode(labels) * vectors).sum(dim=1)
        rows[name]["cosine to truth"] = _interval(cosines)
    return {
        "units": len(units),
        "rows": rows,
        "sanity": _sanity(truth, activations, listed),
        "examples": {name: list(zip(truth[:20], labels[:20], strict=True)) for name, labels in found.items()},
    }


def shown_classes(backbone: Backbone, scenes: Sequence[Scene]) -> list[int]:
    """The classes of which enough held-out scenes show a kind."""
    counts = presence(backbone.class_names, scenes).sum(dim=0)
    found: list[int] = (counts >= LEAST).nonzero().flatten().tolist()
    return found


def presence(labels: Sequence[str], scenes: Sequence[Scene]) -> Tensor:
    """Mark where each label is true: a scene shows what it names, or a kind of it by WordNet, (N, labels)."""
    nouns = Nouns.load()
    meant = [_classes(nouns).get(label, nouns.of_phrase(label) if label else None) for label in labels]
    rows = []
    for scene in scenes:
        phrases = {thing.phrase for thing in scene.objects} | {_bare(thing.phrase) for thing in scene.objects}
        above = {a for phrase in phrases for a in _above(nouns, phrase)}
        rows.append(
            [label in phrases or synset in above for label, synset in zip(labels, meant, strict=True)]
        )
    return torch.tensor(rows).float()


_known: dict[str, int] = {}


def _classes(nouns: Nouns) -> Mapping[str, int]:
    """Build ImageNet's class names, bare and with articles, as names of their own synsets."""
    if not _known:
        from torchnle.backbones import imagenet_class_names
        from torchnle.methods.aligned.fit import class_phrase

        for name, synset in zip(imagenet_class_names(), nouns.imagenet_1k(), strict=True):
            _known[name] = _known[class_phrase(name)] = synset
    return _known


def _bare(phrase: str) -> str:
    """A thing's phrase without its article, as class names are, whose sense may not be WordNet's first."""
    return phrase.removeprefix("a ").removeprefix("an ")


def _above(nouns: Nouns, phrase: str) -> frozenset[int]:
    synset = nouns.of_phrase(phrase)
    return frozenset() if synset is None else nouns.ancestors(synset)


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


def _row(
    labels: Sequence[str], activations: Tensor, scenes: Sequence[Scene], neutral: _Neutral
) -> dict[str, Any]:
    there, scored = presence(labels, scenes), neutral(labels)
    return {
        "presence": _interval(measures.correlation(there, activations)),
        "neutral": _interval(measures.correlation(scored, activations)),
        "auprc": _interval(measures.auprc(there, activations, 0.02)),
    }


def _combined(
    combined: Sequence[Any], activations: Tensor, scenes: Sequence[Scene], neutral: _Neutral
) -> dict[str, Any]:
    words = list(dict.fromkeys(word for each in combined for word in each.words))
    column = {word: i for i, word in enumerate(words)}
    tables = {"presence": presence(words, scenes), "neutral": _standard(neutral(words))}
    found: dict[str, Any] = {"words": sum(len(each.words) for each in combined) / len(combined)}
    for name, table in tables.items():
        parts = [
            table[:, [column[w] for w in each.words]] @ torch.tensor(each.weights, dtype=table.dtype)
            for each in combined
        ]
        found[name] = _interval(measures.correlation(torch.stack(parts, dim=1), activations))
    return found


def _sanity(truth: Sequence[str], activations: Tensor, scenes: Sequence[Scene]) -> dict[str, Any]:
    there = presence(truth, scenes)
    checked = {
        "correlation": measures.correlation,
        "cosine": measures.cosine,
        "auprc": lambda p, a: measures.auprc(p, a, 0.02),
        "f1": lambda p, a: measures.f1_iou(p, a, 0.02)[0],
        "iou": lambda p, a: measures.f1_iou(p, a, 0.02)[1],
    }
    checks = {name: measures.sanity_checks(measure, there, activations) for name, measure in checked.items()}
    return {name: {"missing": c.missing, "extra": c.extra, "passes": c.passes} for name, c in checks.items()}


def _interval(values: Tensor) -> list[float]:
    """Return the mean over units, and its 95 % bootstrap interval."""
    draws = torch.randint(len(values), (_RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    means = values[draws].mean(dim=1)
    low, high = means.quantile(0.025), means.quantile(0.975)
    return [round(float(x), 4) for x in (values.mean(), low, high)]


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp_min(1e-12)

"""Naming on composed scenes: each object's central location, through the lens, among phrases or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from measurements.class_objects import classes_of
from measurements.lens.subject import LENSES, Subject
from torchnle.data import Scene, load_cutouts
from torchnle.evaluation.scenes.data import composed, images_of
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.vision.features import Features
from torchnle.vision.lens.base import smoothed


def measure_scenes(
    subject: Subject, stamps: Path, translator: MapTranslator | None, *, count: int, seed: int
) -> dict[str, Any]:
    """Name the objects of scenes at lower layers and at the head's.

    Args:
        subject: The classifier.
        stamps: Captioned cut-outs.
        translator: A map of the head's layer that was fitted to scenes of the cut-outs' "train" part.
        count: The number of scenes of two objects.
        seed: The seed of the scenes.

    Returns:
        By translator ("class names", "class names, adapted", "scenes") and layer, the share of objects whose
        own phrase, or a class of theirs, is the first.
    """
    cutouts = load_cutouts(stamps)
    phrases = sorted(cutouts.phrases)
    held = sorted(set(cutouts.split("test").phrases) - set(cutouts.split("train").phrases))
    parts = {part: _rows(subject, stamps, part, count, seed) for part in ("train", "test")}
    unlabelled = composed(stamps, part="train", objects=(1, 3), seed=seed + 1, length=64)
    translators = {
        "class names": subject.class_names(),
        "class names, adapted": subject.class_names([images_of(subject.backbone, unlabelled[:])]),
        **({} if translator is None else {"scenes": translator}),
    }
    found: dict[str, Any] = {"count": count, "seed": seed, "phrases": len(phrases), "held": len(held)}
    for name, each in translators.items():
        found[name] = {
            layer: {
                "seen": named(each, rows, parts["train"][1], phrases),
                "held_out": named(each, parts["test"][0][layer], parts["test"][1], held),
                "class": classified(subject, each, rows, parts["train"][1]),
            }
            for layer, rows in parts["train"][0].items()
        }
    return found


def named(translator: MapTranslator, rows: Tensor, truth: Sequence[str], among: Sequence[str]) -> float:
    """Return the share of rows whose own phrase has the highest cosine."""
    scores = _cosines(translator, rows, list(among))
    return _share([among[i] == t for i, t in zip(scores.argmax(dim=1).tolist(), truth, strict=True)])


def classified(
    subject: Subject, translator: MapTranslator, rows: Tensor, truth: Sequence[str]
) -> dict[str, float]:
    """Return the share of rows for which a class with the object's head noun is first among all classes.

    Returns:
        "right"; "first_class", the same of the head's own logits; and the number of objects.
    """
    classes = classes_of(truth, subject.backbone.class_names)
    rows_of_classes = [i for i, phrase in enumerate(truth) if phrase in classes]
    scores = _cosines(translator, rows[rows_of_classes], list(translator.class_texts))
    logits = F.linear(rows[rows_of_classes], subject.head.weight, subject.head.bias)
    found = {"objects": float(len(rows_of_classes))}
    for name, each in (("right", scores), ("first_class", logits)):
        found[name] = _share(
            [int(each[n].argmax()) in classes[truth[i]] for n, i in enumerate(rows_of_classes)]
        )
    return found


@torch.no_grad()
def _rows(
    subject: Subject, stamps: Path, part: Any, count: int, seed: int
) -> tuple[Mapping[str, Tensor], list[str]]:
    """Return the head's features of each object's central location, by layer and lens."""
    scenes = composed(stamps, part=part, objects=(2, 2), seed=seed, length=count)[:]
    batches = [images_of(subject.backbone, scenes[i : i + 25]) for i in range(0, count, 25)]
    *lower, last = subject.read(torch.cat(batches))
    rows = {last.layer: _central(last, scenes)}
    for features in lower:
        for kind in LENSES:
            lens = subject.lens(features.layer, kind)
            shown = smoothed(features) if lens.smooth else features
            rows[f"{features.layer}, {kind}"] = lens.rows(_central(shown, scenes))
    return rows, [item.phrase for scene in scenes for item in scene.objects]


def _central(features: Features, scenes: Sequence[Scene]) -> Tensor:
    grid = features.grid or (1, 1)
    spots = [(i, item.location(grid)) for i, scene in enumerate(scenes) for item in scene.objects]
    maps = features.fold(features.tokens)
    return torch.stack([maps[i, row, column] for i, (row, column) in spots])


def _cosines(translator: MapTranslator, rows: Tensor, texts: list[str]) -> Tensor:
    (layer,) = translator.layers
    fitted = translator.by_layer[layer]
    directions = fitted.directions(embed_cached(translator.encoder, texts))
    return F.normalize(fitted.whiten(fitted.scaled(rows)), dim=1) @ directions.T


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / max(1, len(marks))

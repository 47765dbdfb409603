"""Measure lower layers on photographs through the lens: the main object's location, the whole, and maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from measurements.lens.subject import Subject
from torchnle.attr.inputs.input_maps import enlarge
from torchnle.backbones import Backbone
from torchnle.evaluation.photographs.answers import Answer, rates
from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.run import others_of
from torchnle.evaluation.photographs.truth import Photograph, location
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.metrics import box_masks, pointing_hits
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

#: The descriptions of each layer.
KINDS = ("location", "mean of locations", "mean of features")


@torch.no_grad()
def measure_photographs(
    subject: Subject, photographs: Sequence[Photograph], kinds: Sequence[str], *, seed: int = 1
) -> dict[str, Any]:
    """Describe photographs at lower layers by class names alone, and point at their queries.

    They are read in two folds, each by the statistics of the other's. All are squeezed whole into the model's
    input.

    Args:
        subject: The classifier.
        photographs: The photographs with their recorded content.
        kinds: The readings of lower layers, from `LENSES`.
        seed: The seed of the other queries that each query is ranked among.

    Returns:
        By layer: the rates of answers for the main object's location, for the mean of all mapped locations,
        and for the mean of the layer's features; the share of queries that are first among the others' by the
        map's mean; and the share of maps that peak in the box.
    """
    judge, found = Judge(), _Found()
    others = others_of(photographs, judge, seed)
    inputs = squeezed(subject.backbone, photographs)
    for fold in range(2):
        translator = subject.class_names([inputs[1 - fold :: 2]])
        for photograph, image in zip(photographs[fold::2], inputs[fold::2], strict=True):
            for name, local, whole in _readings(subject, image[None], kinds):
                found.add(name, translator, photograph, local, whole, others[photograph.name], judge)
    return found.summary()


def squeezed(backbone: Backbone, photographs: Sequence[Photograph]) -> Tensor:
    """Preprocess photographs, squeezed whole into the input."""
    preprocess = replace(backbone.preprocess, fit="squeeze")
    return torch.stack([preprocess(each.open()) for each in photographs])


def _readings(
    subject: Subject, image: Tensor, kinds: Sequence[str]
) -> Iterator[tuple[str, Features, Features]]:
    """Yield the head's features of every location, and of the layer's mean, by layer and lens."""
    *lower, last = subject.read(image)
    yield last.layer, last, last.select(None)
    for features in lower:
        for kind in kinds:
            lens = subject.lens(features.layer, kind)
            mean = features.select(None)
            mapped = replace(mean, tokens=lens.rows(mean.rows)[:, None])
            yield f"{features.layer}, {kind}", lens.read(features, "all"), mapped


class _Found:
    """The answers for every photograph, by layer, with their verdicts."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, list[tuple[Answer, Verdict]]]] = {}
        self.maps: dict[str, list[tuple[bool, bool | None]]] = {}

    def add(
        self,
        name: str,
        translator: MapTranslator,
        photograph: Photograph,
        local: Features,
        whole: Features,
        others: Sequence[str],
        judge: Judge,
    ) -> None:
        """Describe one photograph and map its query."""
        where = location(photograph.point, local.grid or (1, 1))
        shown = dict(zip(KINDS, (local.select(where), local.select(None), whole), strict=True))
        for kind, features in shown.items():
            answer = Answer.of(_describe(translator, features))
            verdict = judge(answer.text, photograph.exact, photograph.general)
            self.answers.setdefault(name, {}).setdefault(kind, []).append((answer, verdict))
        self.maps.setdefault(name, []).append(_maps(translator, local, photograph, others))

    def summary(self) -> dict[str, Any]:
        """Return all rates."""
        found: dict[str, Any] = {}
        for name, kinds in self.answers.items():
            found[name] = {kind: rates(*map(list, zip(*rows, strict=True))) for kind, rows in kinds.items()}
            first, peaks = zip(*self.maps[name], strict=True)
            pointed = [hit for hit in peaks if hit is not None]
            found[name] |= {
                "first": sum(first),
                "of": len(first),
                "in_box": sum(pointed),
                "pointed": len(pointed),
            }
        return found


def _describe(translator: MapTranslator, features: Features) -> Any:
    """Return one row's description."""
    return translator.describe(rows_of(features))[0]


def _scores(translator: MapTranslator, features: Features, texts: Sequence[str]) -> Tensor:
    (layer,) = translator.layers
    return translator.by_layer[layer].score(features.rows, translator.directions(layer, list(texts)))


def _maps(
    translator: MapTranslator, local: Features, photograph: Photograph, others: Sequence[str]
) -> tuple[bool, bool | None]:
    """Return whether the query is first by its map's mean, and whether its map peaks in the box."""
    scores = _scores(translator, local, [photograph.query, *others])
    means = scores.mean(dim=0)
    large = enlarge(local.fold(scores[:, :1]).permute(0, 3, 1, 2), (224, 224), "bicubic")[0]
    x0, y0, x1, y1 = (round(224 * side) for side in photograph.box)
    hit = bool(pointing_hits(large, box_masks([(x0, y0, x1, y1)], (224, 224)), tolerance=0).item())
    return bool(means[0] > means[1:].max()), hit if photograph.pointing else None


def rows(found: Mapping[str, Any]) -> list[list[Any]]:
    """Format a table's rows: by layer the shares of right answers and of hits."""
    return [
        [name, *(each[kind]["right"] for kind in KINDS), f"{each['first']}/{each['of']}",
         f"{each['in_box']}/{each['pointed']}"]
        for name, each in found.items()
    ]  # fmt: skip

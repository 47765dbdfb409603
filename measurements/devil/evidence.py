"""Weigh the map's evidence against DeViL's log-probabilities on composed scenes."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.cli.evaluate import add_scenes, add_subject, scenes_of, subject, write_results
from torchnle.data import Scene, Scenes
from torchnle.evaluation.record import table
from torchnle.evaluation.scenes.data import read
from torchnle.evaluation.subject import all_locations
from torchnle.metrics import box_masks, pointing_hits
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import Rows, rows_of

#: Weights of the evidence beside a weight of one for the log-probability; infinity = the evidence alone.
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, float("inf"))
#: The phrases of other scenes that an object's is ranked among.
_OTHERS = 11
#: The penalty on the squares of the regression's two weights, a trace.
_RIDGE = 1e-3


@dataclass(frozen=True)
class SceneScores:
    """The two scores of texts at all locations of a scene.

    Args:
        log_prob: DeViL's own, (locations, texts); the texts of the scene's own objects are the first.
        evidence: The map's.
        locations: The number of each object's central location.
        masks: Each object's box, (objects, height, width).
        grid: The rows and columns of the locations.
    """

    log_prob: Float[Tensor, "L T"]
    evidence: Float[Tensor, "L T"]
    locations: tuple[int, ...]
    masks: Bool[Tensor, "O H W"]
    grid: tuple[int, int]

    def blend(self, weight: float) -> Float[Tensor, "L T"]:
        """Add the evidence with a weight; with an infinite one, it alone counts."""
        return self.evidence if weight == float("inf") else self.log_prob + weight * self.evidence


def measure(backbone: Backbone, lang: LanguageAttribution, scenes: Scenes) -> dict[str, Any]:
    """Rank phrases at objects and point at objects, by the weight of the map's evidence.

    Returns:
        By weight: "first", the share of objects whose phrase is first among twelve at the object's central
        location, and "in_box", the share whose map peaks in the object's box. "regression": the weights of
        log-probability and evidence that make the true phrase likeliest by softmax (a logistic regression).

    Raises:
        ValueError: If the translator's network brings no evidence of its own.
    """
    translator = lang.translator
    if not isinstance(translator, PrefixTranslator) or not translator.network.evidence_weight:
        raise ValueError(f"translator '{translator.name}' adds no evidence; pass one that starts from a map.")
    scored = list(_scored_scenes(backbone, lang, translator, scenes))
    return {
        "objects": sum(len(each.locations) for each in scored),
        "by_weight": {f"{weight:g}": _hits(scored, weight) for weight in WEIGHTS},
        "regression": _regression(scored),
    }


@torch.no_grad()
def _scored_scenes(
    backbone: Backbone, lang: LanguageAttribution, translator: PrefixTranslator, scenes: Scenes
) -> Iterator[SceneScores]:
    draw = random.Random(scenes.seed)
    for batch, features in read(backbone, lang, scenes, batch_size=16):
        *_, located = all_locations(lang, features)
        for number, scene in enumerate(batch):
            own = [item.phrase for item in scene.objects]
            others = [phrase for phrase in scenes.phrases if phrase not in own]
            texts = [*own, *draw.sample(others, _OTHERS)]
            (rows,) = rows_of(replace(located, tokens=located.tokens[number : number + 1]))
            yield _scored(translator, rows, texts, scene, located.grid or (1, 1))


def _scored(
    translator: PrefixTranslator, rows: Rows, texts: Sequence[str], scene: Scene, grid: tuple[int, int]
) -> SceneScores:
    (named,) = translator._inputs([rows])
    own = [item.location(grid) for item in scene.objects]
    size = (scene.image.height, scene.image.width)
    return SceneScores(
        translator._log_probs([rows], translator.follow(texts), None),
        translator.network.evidence(named, texts),
        tuple(row * grid[1] + column for row, column in own),
        box_masks([item.box for item in scene.objects], size),
        grid,
    )


def _hits(scored: Sequence[SceneScores], weight: float) -> dict[str, float]:
    """Count first phrases and peaks inside boxes."""
    first, inside = [], []
    for each in scored:
        scores, objects = each.blend(weight), len(each.locations)
        for number, location in enumerate(each.locations):
            rivals = [number, *range(objects, scores.shape[1])]
            first.append(float(scores[location, rivals].argmax() == 0))
        maps = scores[:, :objects].T.reshape(objects, 1, *each.grid)
        large = LayerAttribution.interpolate(maps, tuple(each.masks.shape[1:]), "bicubic")[:, 0]
        inside += pointing_hits(large, each.masks, tolerance=0).tolist()
    return {"first": sum(first) / len(first), "in_box": sum(inside) / len(inside)}


def _regression(scored: Sequence[SceneScores]) -> dict[str, float]:
    """Fit both weights by the log-likelihood of the true phrase among its rivals."""
    rows = []
    for each in scored:
        objects = len(each.locations)
        for number, location in enumerate(each.locations):
            rivals = [number, *range(objects, each.log_prob.shape[1])]
            rows.append(torch.stack([each.log_prob[location, rivals], each.evidence[location, rivals]], -1))
    given, truth = torch.stack(rows).double(), torch.zeros(len(rows), dtype=torch.long)
    weights = torch.zeros(2, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(given @ weights, truth) + _RIDGE * weights.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    log_prob, evidence = weights.tolist()
    return {"log_prob": log_prob, "evidence": evidence}


def page(data: Mapping[str, Any]) -> str:
    """Format the figures as Markdown."""
    rows = [[weight, each["first"], each["in_box"]] for weight, each in data["by_weight"].items()]
    fitted = data["regression"]
    return "\n\n".join(
        [
            f"# DeViL's log-probability and the map's evidence, on {data['objects']} objects",
            table(["weight of the evidence", "phrase first of 12", "peak in the box"], rows),
            f"A logistic regression on both gives the log-probability {fitted['log_prob']:.3f} and the "
            f"evidence {fitted['evidence']:.3f}.",
        ]
    )


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("devil-evidence", help="weigh the map's evidence beside DeViL's log p")
    add_subject(parser, count=40)
    add_scenes(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    write_results(options, "devil_evidence", measure(*subject(options), scenes_of(options)), page)

"""Measure evidence on composed scenes of two objects: whose words it holds, and what locations name.

Run as ``python -m measurements.zero_shot.scenes OUTPUT --stamps FOLDER``: EfficientNet-Lite0 with the map of
its class names; the bank is the phrases of the scenes' own objects and the class names.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle import LanguageAttribution, backbones
from torchnle.data import Scene
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import composed, images_of
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.classes import class_map, predicted
from torchnle.methods.zero_shot.concepts import BankDirections
from torchnle.methods.zero_shot.evidence import KEPT, evidence, location_contributions
from torchnle.vision.features import Features

#: The number of nearest words of some evidence that are counted.
_WORDS = 5
_SHARES = (1.0, 0.2, 0.1, KEPT)


def measure(lang: LanguageAttribution, features: Features, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Measure all figures on the features of the head's layer.

    Args:
        lang: The classifier with its map.
        features: Of all scenes.
        scenes: Their objects.
    """
    translator, layer = class_map(lang.translator, list(lang.translator.layers))
    fitted, grid = translator.by_layer[layer], features.grid or (1, 1)
    cells = torch.tensor([[r * grid[1] + c for r, c in _at(scene, grid)] for scene in scenes])
    pooled = features.tokens.mean(dim=1)
    phrases = sorted({item.phrase for scene in scenes for item in scene.objects})
    names = BankDirections.of(translator, fitted, translator.class_texts)
    return {
        "scenes": len(scenes),
        "evidence": _whose(fitted, names, features.tokens, pooled, cells),
        "concepts": _where(
            fitted, BankDirections.of(translator, fitted, phrases), features.tokens, pooled, cells, scenes
        ),
    }


def _at(scene: Scene, grid: tuple[int, int]) -> list[tuple[int, int]]:
    return [item.location(grid) for item in scene.objects]


def _whose(
    fitted: TextMap,
    names: BankDirections,
    tokens: Float[Tensor, "N L D"],
    pooled: Float[Tensor, "N D"],
    cells: Int[Tensor, "N 2"],
) -> dict[str, Any]:
    """Compute how often both objects' classes are among the five nearest class names, by share kept.

    Only scenes are used whose predicted class is predicted at one object's location and not at the other's.
    """
    classes = predicted(fitted, pooled)
    local = torch.stack([predicted(fitted, fitted.scaled(t[p])) for t, p in zip(tokens, cells, strict=True)])
    shares = location_contributions(fitted, tokens, classes).gather(1, cells)
    first = shares.argmax(dim=1)
    own = local.gather(1, first[:, None])[:, 0]
    other = local.gather(1, 1 - first[:, None])[:, 0]
    taken = (own == classes) & (other != classes)
    found: dict[str, Any] = {"scenes": int(taken.sum())}
    for share in _SHARES:
        whole = share == 1.0
        vectors = fitted.whiten(pooled) if whole else evidence(fitted, pooled, classes, kept=share).vector
        found["whole feature" if whole else f"kept {share}"] = _rates(names, vectors, own, other, taken)
        vectors = evidence(fitted, pooled, classes, kept=share, locations=tokens).vector
        found[f"deciding locations, kept {share}"] = _rates(names, vectors, own, other, taken)
    rows = fitted.targets[fitted.phrases :][classes]
    found["the class's weights, no image"] = _rates(names, rows, own, other, taken)
    return found


def _rates(
    names: BankDirections, vectors: Tensor, own: Tensor, other: Tensor, taken: Tensor
) -> dict[str, float]:
    best = names.cosines(vectors).topk(_WORDS, dim=1).indices
    return {
        who: float((best == classes[:, None]).any(dim=1)[taken].float().mean())
        for who, classes in (("predicted", own), ("other", other))
    }


def _where(
    fitted: TextMap,
    bank: BankDirections,
    tokens: Float[Tensor, "N L D"],
    pooled: Float[Tensor, "N D"],
    cells: Int[Tensor, "N 2"],
    scenes: Sequence[Scene],
) -> dict[str, float]:
    """Compute how often an object's phrase is among the five best, for the whole image and its location."""
    rows = torch.cat([fitted.scaled(t[p]) for t, p in zip(tokens, cells, strict=True)])
    twice = pooled.repeat_interleave(2, dim=0)
    truth = torch.tensor([bank.texts.index(item.phrase) for scene in scenes for item in scene.objects])
    read = {
        "whole image, evidence": evidence(
            fitted, twice, predicted(fitted, twice), locations=tokens.repeat_interleave(2, dim=0)
        ).vector,
        "whole image, whole feature": fitted.whiten(twice),
        "location, evidence": evidence(fitted, rows, predicted(fitted, rows)).vector,
        "location, whole feature": fitted.whiten(rows),
    }
    hits = {
        name: bank.cosines(vectors).topk(_WORDS, dim=1).indices == truth[:, None]
        for name, vectors in read.items()
    }
    return {
        "phrases": len(bank.texts),
        **{name: float(hit.any(1).float().mean()) for name, hit in hits.items()},
    }


def main() -> None:
    """Measure and write zero_shot_scenes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--name", default="zero_shot_scenes", help="of the file (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = backbones.load()
    lang = LanguageAttribution.from_backbone(backbone)
    scenes = composed(options.stamps, objects=(2, 2), seed=options.seed, length=options.count)[:]
    with torch.no_grad():
        parts = [lang.read(images_of(backbone, scenes[i : i + 5]))[0] for i in range(0, len(scenes), 5)]
        joined = Features(torch.cat([part.tokens for part in parts]), parts[0].layer, parts[0].grid)
        found = {"setting": record.setting(), "seed": options.seed, **measure(lang, joined, scenes)}
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.plain(found), indent=1)
    (options.output / f"{options.name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

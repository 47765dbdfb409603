"""Measure a map from text into features on composed scenes of two objects: naming, held-out naming, pointing.

Run as ``python -m measurements.map_on_scenes FOLDER --translator REF [--train REF]``: REF was fitted to all
cut-outs, the second one (``python -m measurements scenes-map --part train``) to those that
`Cutouts.split` does not hold out. Both keep the statistics of the scenes that they were fitted to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchnle import LanguageAttribution, backbones
from torchnle.data import Scene, head_noun, load_cutouts
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import composed, images_of
from torchnle.evaluation.subject import at
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

STAMPS = Path("/usr/share/tuxpaint/stamps")
BACKBONE = "efficientnet-lite0"


def measure(
    translator: MapTranslator, scenes: Sequence[Scene], phrases: Sequence[str], among: Sequence[str]
) -> dict[str, Any]:
    """Measure every layer of a translator.

    Args:
        translator: The translator.
        scenes: The scenes.
        phrases: The phrases to choose from; the map's own offset is subtracted from fitted ones.
        among: A subset of them.
    """
    backbone = backbones.load(BACKBONE)
    lang = LanguageAttribution(backbone.model, list(translator.layers), translator)
    spots = [(i, item) for i, scene in enumerate(scenes) for item in scene.objects]
    with torch.no_grad():
        parted = [scenes[start : start + 25] for start in range(0, len(scenes), 25)]
        read = [lang.read(images_of(backbone, part)) for part in parted]
    found: dict[str, Any] = {}
    for number, layer in enumerate(translator.layers):
        parts = [batch[number] for batch in read]
        joined = torch.cat([part.tokens for part in parts])
        features = type(parts[0])(joined, layer, parts[0].grid)
        grid = features.grid or (1, 1)
        local = at(features, [i for i, _ in spots], [item.location(grid) for _, item in spots])
        found[layer] = {
            "objects": len(spots),
            **_named(translator, layer, local, [t.phrase for _, t in spots], phrases, among),
            "pointing": _pointing(translator, layer, features, scenes),
        }
        if layer == translator.layers[-1]:
            texts = [description.text for description in translator.describe(rows_of(local))]
            found[layer] |= _text_accuracy(translator, texts, [item.phrase for _, item in spots], phrases)
    return found


def _named(
    translator: MapTranslator,
    layer: str,
    local: Features,
    truth: Sequence[str],
    phrases: Sequence[str],
    among: Sequence[str],
) -> dict[str, float]:
    fitted = translator.by_layer[layer]
    white = F.normalize(fitted.whiten(fitted.scaled(local.rows)), dim=1)
    plain = white @ translator.directions(layer, list(phrases)).T
    level = translator.probabilities(rows_of(local), list(phrases))
    index = torch.tensor([list(phrases).index(text) for text in truth])
    few = torch.tensor([list(phrases).index(text) for text in among])
    return {
        "first_among_all": _share(plain.argmax(dim=1) == index),
        "first_among_all_with_offset": _share(level.argmax(dim=1) == index),
        "first_among": _share(few[plain[:, few].argmax(dim=1)] == index),
        "among": len(among),
        "of": len(phrases),
    }


def _text_accuracy(
    translator: MapTranslator, texts: Sequence[str], truth: Sequence[str], phrases: Sequence[str]
) -> dict[str, float]:
    vectors = translator.encoder.encode(list(phrases))
    pairs = list(zip(texts, truth, strict=True))
    nearest = (translator.encoder.encode(list(texts)) @ vectors.T).argmax(dim=1).tolist()
    return {
        "said_nearest_phrase": sum(phrases[i] == t for i, t in zip(nearest, truth, strict=True)) / len(truth),
        "said_head_noun": sum(head_noun(t) in s.split() for s, t in pairs) / len(pairs),
        "said_exactly": sum(s == t for s, t in pairs) / len(pairs),
    }


def _pointing(translator: MapTranslator, layer: str, features: Any, scenes: Sequence[Scene]) -> float:
    fitted, hits, count = translator.by_layer[layer], 0, 0
    rows, columns = features.grid
    for image, scene in enumerate(scenes):
        scores = fitted.score(
            features.tokens[image], translator.directions(layer, [t.phrase for t in scene.objects])
        )
        maps = scores.T.reshape(1, -1, rows, columns)
        width, height = scene.image.size
        large = F.interpolate(maps, size=(height, width), mode="bicubic")[0]
        for item, each in zip(scene.objects, large, strict=True):
            y, x = divmod(int(each.argmax()), width)
            left, top, right, bottom = item.box
            hits += left <= x < right and top <= y < bottom
            count += 1
    return hits / count


def _share(marks: Tensor) -> float:
    return float(marks.float().mean())


def main() -> None:
    """Measure and write map_on_scenes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--translator", required=True)
    parser.add_argument("--train")
    options = parser.parse_args()
    whole = MapTranslator.from_pretrained(options.translator)
    cutouts = load_cutouts(STAMPS)
    phrases = sorted(cutouts.phrases)
    scenes = composed(STAMPS, objects=(2, 2), seed=11, length=150)
    found = {"setting": record.setting(), "all": measure(whole, scenes[:], phrases, phrases)}
    if options.train:
        train = MapTranslator.from_pretrained(options.train)
        held = sorted(set(cutouts.split("test").phrases) - set(cutouts.split("train").phrases))
        for part in ("train", "test"):
            scenes = composed(STAMPS, part=part, objects=(2, 2), seed=11, length=100)
            among = held if part == "test" else phrases
            found[part] = measure(train, scenes[:], phrases, among)
        for layer in found["train"]:
            seen, unseen = (found[p][layer]["first_among_all_with_offset"] for p in ("train", "test"))
            mean = 2 * seen * unseen / max(seen + unseen, 1e-9)
            found["test"][layer]["harmonic_mean_with_offset"] = mean
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "map_on_scenes.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

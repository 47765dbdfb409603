"""Measure dominant words on composed scenes: how many of ten are in the scene, the first against the answer.

Run as ``python -m measurements.scene_words OUTPUT`` (section 4.2 of TExplain, with the scenes' truth in the
place of raters). A word is in a scene if it is a word of its caption or a noun above one of its objects. It
is set beside the words of another scene (chance) and beside the ten words without any image (the language
model, or the mean feature, alone). The first word matches the classifier's answer if it is one of its words,
or above it in WordNet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from torchnle import LanguageAttribution, backbones
from torchnle.data import Scenes, load_cutouts
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import evaluation_backgrounds, images_of
from torchnle.language.english.content_words import content_words
from torchnle.language.english.nouns import Nouns
from torchnle.methods.texplain.words.table import WordTable

STAMPS = Path("/usr/share/tuxpaint/stamps")
SHIPPED = "aligned-efficientnet-lite0-scenes"
SCENES, TEN, BATCH = 120, 10, 4


def measure() -> dict[str, Any]:
    """Both translators on the same scenes, whose cut-outs the shipped one has not seen."""
    backbone = backbones.load("efficientnet-lite0")
    cutouts = load_cutouts(STAMPS).split("test")
    scenes = list(
        Scenes(cutouts, evaluation_backgrounds(textures=False), length=SCENES, objects=(2, 2), seed=11)
    )
    x = torch.cat([images_of(backbone, scenes[i : i + BATCH]) for i in range(0, SCENES, BATCH)])
    with torch.no_grad():
        answers = torch.cat([backbone.model(part) for part in torch.split(x, BATCH)]).argmax(dim=1).tolist()
    named = [backbone.class_names[answer] for answer in answers]
    truths = [_true_words([thing.phrase for thing in scene.objects], scene.caption) for scene in scenes]
    answered = [_true_words([name], name) for name in named]
    found = {}
    for name in ("class names", SHIPPED):
        lang = (
            LanguageAttribution.from_backbone(backbone)
            if name == "class names"
            else LanguageAttribution.from_pretrained(backbone.model, SHIPPED)
        )
        tables = [lang.words(part) for part in torch.split(x, 20)]
        found[name] = _counted([t[-1] if isinstance(t, list) else t for t in tables], truths, answered)
    return found


def _true_words(phrases: list[str], caption: str) -> set[str]:
    nouns = Nouns.load()
    senses = [sense for sense in map(nouns.of_phrase, phrases) if sense is not None]
    above = {
        word.lower() for sense in senses for node in nouns.ancestors(sense) for word in nouns.words(node)
    }
    return set(content_words(caption)) | above


def _counted(tables: list[WordTable], truths: list[set[str]], answered: list[set[str]]) -> dict[str, float]:
    tops = [[word.text for word in table[[row]].top(TEN)] for table in tables for row in range(len(table))]
    order = tables[0].without_image.argsort(descending=True)[:TEN].tolist()
    alone = [tables[0].words[i] for i in order]
    moved = [*truths[1:], *truths[:1]]
    firsts = [top[0] for top in tops]
    return {
        "words in the scene, of ten": _mean(
            len(truth & set(top)) for truth, top in zip(truths, tops, strict=True)
        ),
        "of another scene": _mean(len(truth & set(top)) for truth, top in zip(moved, tops, strict=True)),
        "without image": _mean(len(truth & set(alone)) for truth in truths),
        "first word in the scene": _mean(first in truth for first, truth in zip(firsts, truths, strict=True)),
        "first word matches the answer": _mean(f in a for f, a in zip(firsts, answered, strict=True)),
        "first word matches another answer": _mean(
            f in a for f, a in zip(firsts, [*answered[1:], *answered[:1]], strict=True)
        ),
    }


def _mean(values: Any) -> float:
    return torch.tensor([float(value) for value in values]).mean().item()


def page(found: dict[str, Any]) -> str:
    """The results as a table."""
    rows = [[key, *(found[name][key] for name in found)] for key in next(iter(found.values()))]
    return (
        f"# Dominant words on {SCENES} composed scenes of two objects\n\n{record.table(['', *found], rows)}\n"
    )


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure()
    record.write(options.output, "scene_words", {"setting": record.setting(), **found}, page(found))
    print(page(found))


if __name__ == "__main__":
    main()

"""Measure dominant words on composed scenes: how many of ten are in the scene, the first against the answer.

Run as ``python -m measurements.scene_words OUTPUT --work FOLDER`` (section 4.2 of TExplain, with the scenes'
truth instead of raters). A word is in a scene if it is a word of its caption or a noun above one of its
objects. It is compared with the words of another scene (chance) and with the ten words without any image (the
language model, or the mean feature, alone). The first word matches the classifier's answer if it is one of
its words, or above it in WordNet.

Words are nouns as lemmas, or these and the more general nouns that people say (`words_and_kinds`); they are
ranked by how much more frequent they are than without an image, as a difference (`WordTable.top`) or as the
logarithm of the ratio weighed by the frequency. One way is chosen on scenes of another seed (``--seed 21``),
and all are reported.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchnle import LanguageAttribution, backbones
from torchnle.data import Scenes, load_cutouts
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import evaluation_backgrounds, images_of
from torchnle.language.english.content_words import content_words, words_and_kinds
from torchnle.language.english.nouns import Nouns
from torchnle.methods.texplain.words.table import WordTable
from torchnle.methods.texplain.words.word_counts import words_of
from torchnle.translators.rows import Rows

STAMPS = Path("/usr/share/tuxpaint/stamps")
SHIPPED = "aligned-efficientnet-lite0-scenes"
SCENES, TEN, BATCH = 120, 10, 4
#: Frequencies below this are one and the same in a ratio.
FLOOR = 1e-3
SPLITS = {"nouns": content_words, "nouns and kinds": words_and_kinds}


def measure(seed: int, work: Path) -> dict[str, Any]:
    """Measure both translators on the same scenes, whose cut-outs the shipped one has not seen."""
    backbone = backbones.load("efficientnet-lite0")
    data = _read(backbone, seed, work / f"scenes_{seed}.pt")
    found = {}
    for name in ("class names", SHIPPED):
        lang = (
            LanguageAttribution.from_backbone(backbone)
            if name == "class names"
            else LanguageAttribution.from_pretrained(backbone.model, SHIPPED)
        )
        rows = Rows({lang.taps[-1].name: data["features"][:, None]})
        for way, split in SPLITS.items():
            table = words_of(lang.translator, rows, split=split)
            for rank in RANKS:
                found[f"{name}, {way}, {rank}"] = _counted(table, rank, data["truths"], data["answered"])
    return found


@torch.no_grad()
def _read(backbone: Any, seed: int, file: Path) -> dict[str, Any]:
    """The pooled features in front of the head, kept in a file, and what is true of the scenes."""
    cutouts = load_cutouts(STAMPS).split("test")
    scenes = Scenes(cutouts, evaluation_backgrounds(textures=False), length=SCENES, objects=(2, 2), seed=seed)
    if not file.exists():
        lang, read = LanguageAttribution.from_pretrained(backbone.model, SHIPPED), []
        for start in range(0, SCENES, BATCH):
            x = images_of(backbone, scenes[start : start + BATCH])
            features = lang.read(x)
            pooled = lang.reading.pool(features[-1], None).rows
            read.append((pooled, backbone.model(x).argmax(dim=1)))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                name: torch.cat(x)
                for name, x in zip(("features", "answers"), zip(*read, strict=True), strict=True)
            },
            file,
        )
    saved = torch.load(file, weights_only=True)
    named = [backbone.class_names[answer] for answer in saved["answers"].tolist()]
    return {
        "features": saved["features"],
        "truths": [true_words([item.phrase for item in each.objects], each.caption) for each in scenes[:]],
        "answered": [true_words([name], name) for name in named],
    }


def true_words(phrases: list[str], caption: str) -> set[str]:
    """Return the words of a scene's caption, and the nouns above its objects."""
    nouns = Nouns.load()
    senses = [sense for sense in map(nouns.of_phrase, phrases) if sense is not None]
    above = {
        word.lower() for sense in senses for node in nouns.ancestors(sense) for word in nouns.words(node)
    }
    return set(content_words(caption)) | above


def _by_difference(table: WordTable) -> Tensor:
    return table.scores


def _by_ratio(table: WordTable) -> Tensor:
    ratio = (table.frequencies + FLOOR) / (table.without_image + FLOOR)
    return table.frequencies * ratio.log()


RANKS = {"difference": _by_difference, "weighed ratio": _by_ratio}


def _counted(
    table: WordTable, rank: str, truths: list[set[str]], answered: list[set[str]]
) -> dict[str, float]:
    best = RANKS[rank](table).topk(min(TEN, len(table.words)), dim=1).indices.tolist()
    tops = [[table.words[column] for column in row] for row in best]
    order = table.without_image.argsort(descending=True)[:TEN].tolist()
    alone = [table.words[i] for i in order]
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


def page(found: dict[str, Any], seed: int) -> str:
    """Return the results as a table."""
    measures = list(next(iter(found.values())))
    rows = [[name, *(found[name][key] for key in measures)] for name in found]
    return (
        f"# Dominant words on {SCENES} composed scenes of two objects, seed {seed}\n\n"
        f"{record.table(['translator, words, ranked by', *measures], rows)}\n"
    )


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/scene_words"), help="keeps features")
    parser.add_argument("--seed", type=int, default=11, help="of the scenes; 21 to choose a way on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.seed, options.work)
    name = "scene_words" if options.seed == 11 else f"scene_words_seed_{options.seed}"
    text = page(found, options.seed)
    record.write(options.output, name, {"setting": record.setting(), "seed": options.seed, **found}, text)
    print(text)


if __name__ == "__main__":
    main()

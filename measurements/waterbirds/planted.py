"""Measure planted co-occurrence: an object that stands beside one class of a classifier's training images.

Run as ``python -m measurements.waterbirds.planted WORK OUTPUT`` (TExplain, section 4: cats and dogs that
occur together, announced there without results). Land birds stand beside one object in most of their scenes
and aquatic birds beside another one, of the stamps of `tuxpaint-stamps-default`; at 50 % both stand beside
both alike. The last layer alone is fitted, on frozen features of EfficientNet-Lite0. The audit is told no
object: its contexts are the nouns of all stamps that are no animals. Several pairs of objects, chosen by the
order of the files, are planted in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.waterbirds.features import BIRDS, read
from measurements.waterbirds.run import CLASSES, finding
from torchnle import backbones
from torchnle.data import Scenes, load_cutouts, photo_backgrounds, plain_backgrounds
from torchnle.data.cutouts import Cutout, Cutouts
from torchnle.data.grouped_scenes import GroupedScenes, load_birds
from torchnle.evaluation import record
from torchnle.evaluation.subject import CLASS_NAMES, attach
from torchnle.language.english.content_words import content_words
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import with_article
from torchnle.methods.aligned.probability.vocabulary import MOST_KINDS
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.audit.run import Audit, audit_features
from torchnle.methods.texplain.repair.refit import refit_last_layer
from torchnle.translators.rows import Rows

STAMPS = Path("/usr/share/tuxpaint/stamps")
PAIRS, SEED = 3, 0
#: Scenes of a class beside its own object and the other one, of which training sets are drawn.
OWN, OTHER, BATCH = 114, 60, 4
BIASED, BALANCED = (114, 6), (60, 60)


def objects() -> Cutouts:
    """Return one stamp for each noun, animals and people left out."""
    found: dict[str, Cutout] = {}
    for cutout in load_cutouts(STAMPS):
        words = content_words(cutout.phrase)
        if words and not cutout.source.startswith(("animals", "people", "natural")):
            found.setdefault(words[-1], cutout)
    return Cutouts(list(found.values()))


def pairs() -> list[tuple[Cutout, Cutout]]:
    """Choose the pairs that are planted: spread evenly over the stamps, and as many halfway between these."""
    every = objects()
    step = len(every) // (2 * PAIRS)
    groups = [[every[i * step + start] for i in range(2 * PAIRS)] for start in (0, step // 2)]
    return [(chosen[i], chosen[i + PAIRS]) for chosen in groups for i in range(PAIRS)]


def scenes(pair: tuple[Cutout, Cutout], seed: int) -> GroupedScenes:
    """Compose birds on pictures of one object of the pair, or of the other."""
    contexts = {}
    for cutout in pair:
        shown = Scenes(
            [cutout], plain_backgrounds(), length=12, size=320, objects=(1, 1), scale=(0.6, 0.8), seed=seed
        )
        contexts[cutout.phrase] = photo_backgrounds([each.image for each in shown[:]])
    counts = [[OWN, OTHER], [OTHER, OWN]]
    return GroupedScenes(load_birds(BIRDS), contexts, counts, scale=(0.3, 0.45), seed=seed)


@torch.inference_mode()
def features(pair: tuple[Cutout, Cutout], seed: int, file: Path) -> dict[str, Tensor]:
    """Read the pool of a pair once, and keep it."""
    if not file.exists():
        pool, backbone = scenes(pair, seed), backbones.load("efficientnet-lite0")
        rows = [
            read(backbone, [each.image for each in pool[start : start + BATCH]]).mean(dim=(1, 2))
            for start in range(0, len(pool), BATCH)
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"x": torch.cat(rows), "labels": pool.labels, "contexts": pool.contexts}, file)
    saved: dict[str, Tensor] = torch.load(file, weights_only=True)
    return saved


def measure(work: Path, count: int, reference: str) -> dict[str, Any]:
    """Audit the first pairs at 95 % and at 50 %."""
    translator = attach(backbones.load("efficientnet-lite0"), reference, None).translator
    if not isinstance(translator, MapTranslator):
        raise TypeError(f"{reference} is no map.")
    nouns = [with_article(content_words(cutout.phrase)[-1]) for cutout in objects()]
    runs = []
    for number, pair in enumerate(pairs()[:count]):
        data = features(pair, SEED, work / f"planted_{number}.pt")
        run: dict[str, Any] = {"planted": [cutout.phrase for cutout in pair]}
        for name, counts in (("95 %", BIASED), ("50 %", BALANCED)):
            rows = _draw(data, counts)
            audit = _audited(translator, data["x"][rows], data["labels"][rows], nouns)
            run[name] = finding(audit, data["contexts"][rows])
            run[name]["planted word among the first three"] = [
                _is_named(cutout, run[name]["first three"][label])
                for cutout, label in zip(pair, CLASSES, strict=True)
            ]
        runs.append(run)
    return {"translator": reference, "contexts": len(nouns), "runs": runs}


def _audited(translator: MapTranslator, x: Tensor, labels: Tensor, nouns: Sequence[str]) -> Audit:
    layer = refit_last_layer(x, labels, 2).layer
    rows = Rows({translator.layers[-1]: x[:, None]})  # the last layer is kept
    return audit_features(translator, rows, labels, layer(x), CLASSES, contexts=nouns)


def _is_named(cutout: Cutout, words: Sequence[str]) -> bool:
    """Return whether a word is the object's noun, or one above it in WordNet that is no general one."""
    nouns = Nouns.load()
    own = nouns.common_senses(content_words(cutout.phrase)[-1])[:1]
    above = {
        each for sense in own for each in (sense, *nouns.ancestors(sense)) if nouns.kinds(each) <= MOST_KINDS
    }
    heads = (content_words(word)[-1:] for word in words)
    return any(set(nouns.common_senses(head)[:1]) & above for part in heads for head in part)


def _draw(data: dict[str, Tensor], counts: tuple[int, int]) -> Tensor:
    """The first scenes of every cell, up to the requested number."""
    rows = []
    for label in (0, 1):
        for context in (0, 1):
            cell = ((data["labels"] == label) & (data["contexts"] == context)).nonzero()[:, 0]
            rows.append(cell[: counts[label != context]])
    return torch.cat(rows)


def page(found: dict[str, Any]) -> str:
    """Return the results as a table."""
    rows = []
    for run in found["runs"]:
        for name in ("95 %", "50 %"):
            each = run[name]
            first = "; ".join(", ".join(words) for words in each["first three"].values())
            planted, hits = ", ".join(run["planted"]), sum(each["planted word among the first three"])
            rows.append([planted, name, each["auroc"], f"{hits} of 2", first, len(each["alarms"])])
    header = ["planted", "share", "AUROC", "planted word among three", "first three", "shortcuts found"]
    return (
        f"# Planted co-occurrence, {found['contexts']} objects as contexts, words by {found['translator']}"
        "\n\n"
        f"{record.table(header, rows)}\n\n"
        "A word counts if it is the object's noun or one above it in WordNet with at most "
        f"{MOST_KINDS:,} kinds. The order of words was chosen on the first {PAIRS} pairs.\n"
    )


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pairs", type=int, default=2 * PAIRS, help="the first of them (default: all)")
    parser.add_argument("--translator", default=CLASS_NAMES, metavar="REF", help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.work, options.pairs, options.translator)
    name = "waterbirds_planted" if options.translator == CLASS_NAMES else "waterbirds_planted_captions"
    record.write(options.output, name, {"setting": record.setting(), **found}, page(found))
    print(page(found))


if __name__ == "__main__":
    main()

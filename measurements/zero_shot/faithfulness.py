"""Measure how faithful explanations are, each against what it must beat.

Run as ``python -m measurements.zero_shot.faithfulness OUTPUT --stamps FOLDER --folder PHOTOS``, with ``--part
NAME`` for some of it. The model is EfficientNet-Lite0 with the map of its class names. Parts: ``concepts``,
the paper's test with three controls, on photographs and scenes; ``surrogate``, SURF with its sanity rows, on
scenes; ``own-image``, sentences matched to ten images of one predicted class; ``colours``, planted on
cut-outs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from measurements.zero_shot.photographs import JUDGE, WRITER, evidence_of
from torchnle import LanguageAttribution, backbones, images
from torchnle.data import Cutout, Scene, Scenes, load_cutouts
from torchnle.data.palette import COLOURS
from torchnle.data.tinting import tinted
from torchnle.evaluation import record
from torchnle.evaluation.concept_faithfulness import (
    PROMPT,
    concept_agreement,
    control_concepts,
    decision_lost,
)
from torchnle.evaluation.photographs.truth import picture_files
from torchnle.evaluation.scenes.data import composed, evaluation_backgrounds, images_of
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.banks import as_bank, without_names
from torchnle.methods.zero_shot.classes import class_map, predicted
from torchnle.methods.zero_shot.colours import read_colours
from torchnle.methods.zero_shot.concepts import BankDirections
from torchnle.methods.zero_shot.evidence import directions_for, evidence
from torchnle.metrics.surrogate import linear_surrogate
from torchnle.vision.features import Features

#: The concepts of an image, and how many of a scene's images are in a group of one class.
_CONCEPTS, _GROUP = 5, 10
#: The least number of scenes that are predicted as one class.
_SHARED = 4
_SIZES = (50, 200, 800)


class World:
    """A classifier, its map, and what is read of pictures.

    Args:
        name: As `backbones.load` takes it.
    """

    def __init__(self, name: str = WRITER) -> None:
        self.backbone, self._known = backbones.load(name), dict[str, Tensor]()
        self.lang = LanguageAttribution.from_backbone(self.backbone)
        self.translator: MapTranslator
        self.translator, self.layer = class_map(self.lang.translator, list(self.lang.translator.layers))

    @property
    def fitted(self) -> TextMap:
        """The map of the head's layer."""
        return self.translator.by_layer[self.layer]

    @torch.no_grad()
    def read(self, batch: Tensor) -> Float[Tensor, "N L D"]:
        """Read the locations of the head's layer, a few images at a time."""
        return torch.cat([self.lang.read(x)[0].tokens for x in torch.split(batch, 8)])

    def read_scenes(self, scenes: Sequence[Scene]) -> Float[Tensor, "N L D"]:
        """Read scenes, a few at a time."""
        starts = range(0, len(scenes), 8)
        return torch.cat([self.read(images_of(self.backbone, scenes[i : i + 8])) for i in starts])

    def read_surfaces(self, pictures: list[Any]) -> tuple[Features, Features]:
        """Read what the head reads, and every location."""
        (read,) = self.lang.read(pictures)
        return self.lang.reading.pool(read, None), self.lang.reading.pool(read, "all")

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts by the map's encoder, each once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            with torch.autocast("cpu", torch.bfloat16):
                vectors = embed_cached(self.translator.encoder, new)
            self._known.update(zip(new, vectors.float(), strict=True))
        return torch.stack([self._known[text] for text in texts])


def _scenes(stamps: Path, seed: int, count: int = 400) -> list[Scene]:
    """Compose scenes of one or two objects."""
    return composed(stamps, objects=(1, 2), seed=seed, length=count)[:]


@torch.no_grad()
def concepts(world: World, folder: Path, stamps: Path, seed: int) -> dict[str, Any]:
    """Run the paper's test on photographs, and on scenes of classes that several are predicted as.

    Hardly two of the photographs are predicted as one class, so that another image of the class is mostly the
    image itself; among the scenes there are always others.
    """
    photographs = torch.stack(
        [world.backbone.preprocess(images.open_image(f)) for f in picture_files(folder)]
    )
    locations = world.read_scenes(_scenes(stamps, seed))
    classes = predicted(world.fitted, locations.mean(dim=1))
    counts = torch.bincount(classes, minlength=len(world.translator.class_names))
    return {
        "photographs": _concept_test(world, world.read(photographs)),
        "scenes": _concept_test(world, locations[counts[classes] >= _SHARED]),
    }


def _concept_test(world: World, locations: Float[Tensor, "N L D"]) -> dict[str, Any]:
    """Regress class vectors of unseen classes with concepts, and with those of the controls.

    The classes that are predicted are taken from the fit, and are the candidates; concepts are found by the
    same regression, so that nothing of their own rows is in it. Texts are embedded in bfloat16.
    """
    fitted, names = world.fitted, list(world.translator.class_names)
    pooled = locations.mean(dim=1)
    classes = predicted(fitted, pooled).tolist()
    unseen = sorted(set(classes))
    seen = [c for c in range(len(names)) if c not in set(unseen)]
    texts = world.embed([PROMPT.replace("{}", name) for name in names])
    rows = fitted.targets[fitted.phrases :]
    regression = KernelRidge.fit(texts[seen], rows[seen])
    bank = without_names(as_bank(None), names)
    directions = F.normalize(regression(world.embed(bank)), dim=1)
    best = (evidence_of(fitted, locations) @ directions.T).topk(_CONCEPTS, dim=1).indices.tolist()
    listed = [tuple(bank[i] for i in row) for row in best]
    ask = partial(
        concept_agreement,
        regression,
        world.embed,
        fitted.whiten(pooled),
        torch.tensor([unseen.index(c) for c in classes]),
        [names[c] for c in unseen],
    )
    found = {"names alone": ask([()] * len(listed)), "own concepts": ask(listed)}
    for title, others in control_concepts(listed, classes, bank).items():
        found[title] = ask(others)
    lost = _lost(world, locations, classes, bank)
    return {
        "images": len(listed),
        "candidates": len(unseen),
        "concepts": _CONCEPTS,
        "agreement": found,
        "share_of_the_decision_lost": lost,
    }


def _lost(
    world: World, locations: Float[Tensor, "N L D"], classes: list[int], bank: Sequence[str]
) -> dict[str, float]:
    """Take concepts out of the features, and see how much of each decision goes with them."""
    fitted, pooled = world.fitted, locations.mean(dim=1)
    known = BankDirections.of(world.translator, fitted, bank)
    best = known.cosines(evidence_of(fitted, locations)).topk(_CONCEPTS, dim=1).indices.tolist()
    listed = [tuple(bank[i] for i in row) for row in best]
    column = {text: index for index, text in enumerate(bank)}
    along = directions_for(fitted, torch.tensor(classes))
    rows = {"own concepts": listed, **control_concepts(listed, classes, bank)}
    white = fitted.whiten(pooled)
    lost = {
        title: decision_lost(
            white, along, torch.stack([known.directions[[column[c] for c in each]] for each in listed])
        )
        for title, listed in rows.items()
    }
    more = lost["own concepts"] - lost["same class"]
    return {
        **{title: float(each.mean()) for title, each in lost.items()},
        "own more than same class": float(more.mean()),
        "standard error": float(more.std() / len(more) ** 0.5),
    }


@torch.no_grad()
def surrogate(world: World, stamps: Path, seed: int, count: int = 400) -> dict[str, Any]:
    """Read the model's logits off concept activations of scenes, beside rows that must be worse."""
    white = world.fitted.whiten(world.read_scenes(_scenes(stamps, seed, count)).mean(dim=1))
    logits, cut = world.fitted.head_logits(white), count * 3 // 4
    bank = without_names(as_bank(None), world.translator.class_names)
    directions = BankDirections.of(world.translator, world.fitted, bank).directions
    draw = torch.Generator().manual_seed(seed)

    def compare(x: Tensor) -> dict[str, float]:
        return asdict(linear_surrogate(x[:cut], logits[:cut], x[cut:], logits[cut:]))

    found: dict[str, Any] = {"the feature itself": compare(white)}
    for size in _SIZES:
        chosen = directions[torch.randperm(len(bank), generator=draw)[:size]]
        noise = F.normalize(torch.randn(len(chosen), white.shape[1], generator=draw), dim=1)
        activations = white @ chosen.T
        found[f"{len(chosen)} concepts"] = compare(activations)
        found[f"{len(chosen)} random directions"] = compare(white @ noise.T)
        found[f"{len(chosen)} concepts of shuffled images"] = compare(
            activations[torch.randperm(count, generator=draw)]
        )
    found["nothing: the mean logits"] = compare(torch.zeros(count, 1))
    return {"scenes": count, "held_out": count - cut, "rows": found}


@torch.no_grad()
def own_image(world: World, stamps: Path, seed: int, groups: int = 3, pool: int = 400) -> dict[str, Any]:
    """Match sentences to their own image among ten of one predicted class, by the map and by a judge's."""
    scenes = _scenes(stamps, seed, pool)
    locations, judge = world.read_scenes(scenes), World(JUDGE)
    classes = predicted(world.fitted, locations.mean(dim=1))
    counts = torch.bincount(classes, minlength=len(world.backbone.class_names))
    lm, found = LanguageModel.from_pretrained(dtype=torch.float32), []
    for c in counts.topk(groups).indices.tolist():
        members = (classes == c).nonzero().flatten()[:_GROUP].tolist()
        shown = [scenes[i] for i in members]
        features = world.lang.read(images_of(world.backbone, shown))
        whys = world.lang.explain(features, language_model=lm, colours=True)
        texts = [why.sentence.split("because it shows ")[1] for why in whys]
        views = {
            "by the map": (world, locations[members]),
            "by the judge": (judge, judge.read(images_of(judge.backbone, shown))),
        }
        found.append(
            {
                "class": world.backbone.class_names[c],
                "images": len(members),
                "different_sentences": len(set(texts)),
                **{title: _matches(*view, [c] * len(members), texts) for title, view in views.items()},
                "without resemblance, by the map": _matches(
                    world, locations[members], [c] * len(members), [why.text for why in whys]
                ),
                "texts": texts,
            }
        )
    total = sum(group["images"] for group in found)
    titles = ("by the map", "by the judge", "without resemblance, by the map")
    return {
        "groups": found,
        "chance": len(found) / total,
        **{title: sum(g[title] * g["images"] for g in found) / total for title in titles},
    }


def _matches(
    world: World, locations: Float[Tensor, "N L D"], classes: list[int], texts: Sequence[str]
) -> float:
    chosen = torch.tensor(classes)
    found = evidence(world.fitted, locations.mean(dim=1), chosen, locations=locations)
    return matched(world.fitted.directions(world.embed(texts)), F.normalize(found.vector, dim=1))


def matched(directions: Float[Tensor, "N D"], units: Float[Tensor, "N D"]) -> float:
    """Compute how often each sentence fits its own image best; ties, as of equal sentences, count in part."""
    scores = directions @ units.T
    best = scores >= scores.amax(dim=1, keepdim=True) - 1e-6
    return float((best.diagonal().float() / best.sum(dim=1)).mean())


@torch.no_grad()
def colours(world: World, stamps: Path, seed: int, count: int = 20) -> dict[str, Any]:
    """Tint cut-outs, and count how often the planted colour is said, and is among the most probable."""
    cutouts, draw = load_cutouts(stamps), torch.Generator().manual_seed(seed)
    chosen = [cutouts[i] for i in torch.randperm(len(cutouts), generator=draw)[:count].tolist()]
    names = list(COLOURS)
    bank = BankDirections.of(world.translator, world.fitted, [f"something {name}" for name in names])
    rows: dict[str, list[Tensor]] = {"evidence": [], "whole": []}
    for number, cutout in enumerate(chosen):
        variants = [Cutout(cutout.phrase, tinted(cutout.image, name)) for name in names]
        shown = [
            Scenes([v], evaluation_backgrounds(), length=1, objects=(1, 1), scale=(0.5, 0.5), seed=number)[0]
            for v in variants
        ]
        locations = world.read(images_of(world.backbone, shown))
        pooled = locations.mean(dim=1)
        read = evidence(world.fitted, pooled, predicted(world.fitted, pooled), locations=locations)
        rows["evidence"].append(read.vector)
        rows["whole"].append(read.whole)
    truth = torch.arange(len(names)).repeat(len(chosen))
    other = (truth + 1 + torch.randint(len(names) - 1, truth.shape, generator=draw)) % len(names)
    reader = read_colours(world.fitted, world.backbone.preprocess, world.read_surfaces)
    whole = torch.cat(rows["whole"])
    ranked = {
        "rendered surfaces": reader(whole),
        "text, evidence": bank.cosines(torch.cat(rows["evidence"])),
        "text, deciding locations": bank.cosines(whole),
    }
    told = torch.tensor([names.index(name) if name else -1 for name in reader.sure(whole)])
    return {
        "cut_outs": len(chosen),
        "colours": len(names),
        "in_sentences": {
            "a colour": float((told >= 0).float().mean()),
            "planted": float((told == truth).float().mean()),
            "control": float((told == other).float().mean()),
        },
        **{title: _among(scores, {"planted": truth, "control": other}) for title, scores in ranked.items()},
    }


def _among(scores: Float[Tensor, "N K"], wanted: dict[str, Int[Tensor, "N"]]) -> dict[str, float]:
    order = scores.argsort(dim=1, descending=True)
    return {
        f"{who} among the first {most}": float((order[:, :most] == c[:, None]).any(dim=1).float().mean())
        for most in (1, 3)
        for who, c in wanted.items()
    }


def main() -> None:
    """Measure and write zero_shot_faithfulness.json; parts that are not asked for are kept from before."""
    parts = ("concepts", "surrogate", "own-image", "colours")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--part", action="append", choices=parts, default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.output / "zero_shot_faithfulness.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    world = World()
    make = {
        "concepts": lambda: concepts(world, options.folder, options.stamps, options.seed),
        "surrogate": lambda: surrogate(world, options.stamps, options.seed),
        "own-image": lambda: own_image(world, options.stamps, options.seed),
        "colours": lambda: colours(world, options.stamps, options.seed),
    }
    for part in options.part or parts:
        found[part] = {"commit": record.setting()["commit"], "seed": options.seed, **make[part]()}
        print(part, json.dumps(record.plain(found[part]), indent=1), flush=True)
        options.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record.plain({"setting": record.setting(), **found}), indent=1)
        file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

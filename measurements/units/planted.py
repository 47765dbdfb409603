"""Planted units: detectors made of the known masks and colours of scenes, whose labels are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from torchnle.backbones import Backbone
from torchnle.data import Cutouts, Scene, Scenes, load_cutouts
from torchnle.data.cutouts import Cutout
from torchnle.data.palette import COLOURS
from torchnle.data.tinting import colour_in, tinted
from torchnle.evaluation.scenes.data import evaluation_backgrounds
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import head_noun
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.attributes import with_colour
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.run import DissectSettings, dissect
from torchnle.vision.reading import Reading

#: The colours of objects.
TINTS = ("red", "green", "blue", "yellow", "purple", "orange")
#: Pairs of concepts, and things beside them.
PAIRS, OTHERS = 10, 10
_GRID, _LARGEST = 14, 160


@dataclass(frozen=True)
class Concept:
    """The concept that a planted unit detects.

    Args:
        thing: Its phrase, "a car".
        colour: Of the thing; None = any.
    """

    thing: str
    colour: str | None

    @property
    def text(self) -> str:
        """The label that is right."""
        return self.thing if self.colour is None else with_colour(self.thing, self.colour)

    def fits(self, phrase: str) -> bool:
        """Return whether an object of a scene has the concept."""
        tint, bare = phrase.split(" ", 2)[1:]
        return bare == self.thing.split(" ", 1)[1] and self.colour in (None, tint)


class Planted(nn.Module):
    """A backbone with a layer whose units are the concepts' masks, looked up by an input's pixels."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.planted = backbone, _Lookup()

    def forward(self, images: Tensor) -> Tensor:
        """Run both parts."""
        self.planted(images)
        found: Tensor = self.backbone(images)
        return found


class _Lookup(nn.Module):
    """Activation maps by the hash of an input; unknown inputs have none."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[str, Tensor] = {}

    def remember(self, image: Tensor, maps: Tensor) -> None:
        """Keep the maps (units, rows, columns) of an input."""
        self.maps[_key(image)] = maps

    def forward(self, images: Tensor) -> Tensor:
        """Look every input's maps up, (N, units, rows, columns)."""
        empty = torch.zeros_like(next(iter(self.maps.values())))
        return torch.stack([self.maps.get(_key(image), empty) for image in images])


def measure(
    backbone: Backbone,
    translator: MapTranslator,
    stamps: Path,
    *,
    count: int = 2000,
    seed: int = 0,
    cache: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Label the planted units with and without colours by contrast, and count the right ones.

    Args:
        backbone: Whose features words are found in.
        translator: A map of it.
        stamps: The cut-outs.
        count: Scenes to probe with.
        seed: Chooses the things, their colours and the scenes.
        cache: A folder for activations.
        progress: Whether bars show.
    """
    concepts, cutouts = choose(load_cutouts(stamps), seed)
    scenes = Scenes(cutouts, evaluation_backgrounds(), length=count, objects=(1, 3), seed=seed + 1)
    listed = scenes[:]
    model = Planted(backbone.model).eval()
    tensors = [backbone.preprocess(scene.image) for scene in listed]
    for tensor, scene in zip(tensors, listed, strict=True):
        model.planted.remember(tensor, maps_of(scene, concepts))
    images = ProbingSet(listed, backbone.preprocess, fingerprint=f"planted {scenes.fingerprint}")
    found = {}
    for name, colours in (("with contrast", True), ("without", False)):
        labels = dissect(
            model,
            "planted",
            images,
            translator=translator,
            evidence_layer=f"backbone.{translator.layers[-1]}",
            reading=Reading(layout="NCHW"),  # looked-up maps do not follow inputs that nobody has seen
            probing=ProbeSettings(k=10, table=True),
            settings=DissectSettings(colours=colours),
            cache=cache,
            progress=progress,
        )
        texts = [label.text for label in labels]
        right = [is_right(text, concept) for text, concept in zip(texts, concepts, strict=True)]
        pairs = [a and b for a, b in zip(right[::2], right[1::2], strict=True)]
        things = [same_thing(text, concept.thing) for text, concept in zip(texts, concepts, strict=True)]
        found[name] = {
            "right": sum(right),
            "of": len(right),
            "pairs": sum(pairs),
            "of_pairs": len(pairs),
            "thing_right": sum(things),
            "each": right,
            "labels": [[concept.text, text] for concept, text in zip(concepts, texts, strict=True)],
        }
    return found


def choose(stamps: Cutouts, seed: int) -> tuple[list[Concept], list[Cutout]]:
    """Choose objects at random among those of two plain words, and colour every cut-out of them.

    Returns:
        Each object in any colour and in one; and the cut-outs in every colour.
    """
    nouns = Nouns.load()
    plain = [p for p in stamps.phrases if len(p.split()) == 2 and p.split()[0] in ("a", "an")]
    nameable = [p for p in plain if nouns.of_phrase(p) is not None and p.split()[1] not in COLOURS]
    things = random.Random(seed).sample(nameable, PAIRS + OTHERS)
    concepts = []
    for number, thing in enumerate(things[:PAIRS]):
        concepts += [Concept(thing, None), Concept(thing, TINTS[number % len(TINTS)])]
    cutouts = [
        Cutout(f"a {tint} {cutout.phrase.split(' ', 1)[1]}", tinted(_small(cutout), tint), cutout.source)
        for cutout in stamps
        if cutout.phrase in things
        for tint in TINTS
    ]
    return concepts, cutouts


def _small(cutout: Cutout) -> Image.Image:
    """Reduce a cut-out to the size that scenes need."""
    image = cutout.image.copy()
    image.thumbnail((_LARGEST, _LARGEST))
    return image


def maps_of(scene: Scene, concepts: Sequence[Concept]) -> Tensor:
    """Return the share of each cell that a concept's objects fill, (concepts, rows, columns)."""
    height, width = scene.objects[0].mask.shape
    masks = np.zeros((len(concepts), height, width), np.float32)
    for thing in scene.objects:
        for number, concept in enumerate(concepts):
            if concept.fits(thing.phrase):
                masks[number] = np.maximum(masks[number], thing.mask)
    return F.adaptive_avg_pool2d(torch.from_numpy(masks), _GRID)


def is_right(text: str, concept: Concept) -> bool:
    """Return whether a label names the concept's object, its colour if it has one, and no colour if not."""
    return same_thing(text, concept.thing) and colour_in(text) == concept.colour


def same_thing(text: str, thing: str) -> bool:
    """Return whether a label's noun is the object's or a synonym; a more general noun is not right."""
    if not text:
        return False
    nouns = Nouns.load()
    return head_noun(text) == head_noun(thing) or nouns.of_phrase(text) == nouns.of_phrase(thing)


def _key(image: Tensor) -> str:
    return sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()

"""Descriptions of scenes, as wholes and at their objects, and their accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from PIL import Image
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.data import Scene, head_noun
from torchnle.evaluation.scenes.data import references
from torchnle.evaluation.subject import all_locations, at, whole
from torchnle.language.text_encoder import TextEncoder
from torchnle.metrics import (
    TextImageScorer,
    bert_score,
    caption_scores,
    clip_score,
    naming_rates,
    nearest_phrases,
    says_nouns,
)
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features
from torchnle.vision.reading import select_together

#: Returns which phrases each text names, (texts, phrases).
Judge: TypeAlias = Callable[[list[str]], Tensor]
#: The name of all layers read together.
ALL = "all layers"


class Sentences:
    """Collects the descriptions of scenes and of their objects, by layer.

    Attributes:
        wholes: By layer, one text per scene.
        at_objects: By layer, one text per object.
    """

    def __init__(self) -> None:
        self.wholes: dict[str, list[str]] = defaultdict(list)
        self.at_objects: dict[str, list[str]] = defaultdict(list)

    def add(
        self,
        lang: LanguageAttribution,
        scenes: Sequence[Scene],
        features: Sequence[Features],
        *,
        internal_batch_size: int | None = None,
    ) -> None:
        """Describe a batch of scenes from the features of their layers."""
        wholes = say_wholes(lang, features, internal_batch_size=internal_batch_size)
        at_objects = say_objects(lang, scenes, features, internal_batch_size=internal_batch_size)
        for layer in wholes:
            self.wholes[layer] += wholes[layer]
            self.at_objects[layer] += at_objects[layer]


def say_wholes(
    lang: LanguageAttribution, features: Sequence[Features], *, internal_batch_size: int | None = None
) -> dict[str, list[str]]:
    """Describe each whole image with every layer and, if there are several, with all together."""
    pooled = whole(lang, features)
    texts = {f.layer: say(lang, [f], internal_batch_size) for f in pooled}
    return texts | ({ALL: say(lang, pooled, internal_batch_size)} if len(pooled) > 1 else {})


def say_objects(
    lang: LanguageAttribution,
    scenes: Sequence[Scene],
    features: Sequence[Features],
    *,
    internal_batch_size: int | None = None,
) -> dict[str, list[str]]:
    """Describe each object at the location of its box's middle; layers as in `say_wholes`."""
    images = [i for i, scene in enumerate(scenes) for _ in scene.objects]

    def local(f: Features) -> Features:
        spots = [item.location(f.grid or (1, 1)) for scene in scenes for item in scene.objects]
        return at(f, images, spots)

    texts = {f.layer: say(lang, [local(f)], internal_batch_size) for f in all_locations(lang, features)}
    if len(features) > 1:
        together = select_together(features, "all", lang.reading)
        texts[ALL] = say(lang, [local(f) for f in together], internal_batch_size)
    return texts


def naming(
    wholes: list[str],
    at_objects: list[str],
    scenes: Sequence[Scene],
    phrases: Sequence[str],
    encode: Callable[[list[str]], Tensor],
) -> dict[str, dict[str, float]]:
    """Compute the rates at which objects are named at their location, by head noun and by nearest phrase.

    Args:
        wholes: One text per scene.
        at_objects: One text per object.
        scenes: The scenes.
        phrases: The possible phrases.
        encode: Texts -> unit vectors.

    Returns:
        For "head_noun" and "nearest_phrase" the rates of `naming_rates`, and "whole", the share of objects
        named by the text for the whole image.
    """
    nouns = [head_noun(phrase) for phrase in phrases]
    judges: dict[str, Judge] = {
        "head_noun": lambda texts: says_nouns(texts, nouns),
        "nearest_phrase": lambda texts: nearest_phrases(texts, phrases, encode),
    }
    return {kind: rates(judge, wholes, at_objects, scenes, phrases) for kind, judge in judges.items()}


def rates(
    judge: Judge, wholes: list[str], at_objects: list[str], scenes: Sequence[Scene], phrases: Sequence[str]
) -> dict[str, float]:
    """Compute the rates at which a judge finds objects named: `naming_rates`, and "whole" as in `naming`."""
    items = [(i, item) for i, scene in enumerate(scenes) for item in scene.objects]
    owners = [i for i, _ in items]
    truth = [phrases.index(item.phrase) for _, item in items]
    return {
        **naming_rates(judge(at_objects), truth, owners),
        "whole": judge(wholes)[owners, truth].double().mean().item(),
    }


def captioning(
    wholes: list[str],
    scenes: Sequence[Scene],
    encoder: TextEncoder | None = None,
    scorer: TextImageScorer | None = None,
) -> dict[str, float]:
    """Score the captions of whole scenes by every metric whose model is given."""
    expected = [references(scene) for scene in scenes]
    scores = caption_scores(wholes, expected)
    if encoder is not None:
        scores["bert_score"] = bert_score(wholes, expected, encoder)
    if scorer is not None:
        pictures: list[Image.Image] = [scene.image for scene in scenes]
        scores["clip_score"] = clip_score(pictures, wholes, scorer)
    return scores


def say(lang: LanguageAttribution, read: list[Features], internal_batch_size: int | None) -> list[str]:
    """Describe each row of one layer, or of several read together."""
    words = lang.translator.describe(
        rows_of(read, joint=len(read) > 1), internal_batch_size=internal_batch_size
    )
    return [description.text for description in words]

"""What a translator says of scenes, as wholes and at their objects, and how right it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.data import Scene, head_noun
from torchnle.evaluation.scenes.data import references
from torchnle.evaluation.subject import at, places, whole
from torchnle.features import Features
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
from torchnle.reading import select_together

#: What all layers read together are called.
ALL = "all layers"


@dataclass
class Sentences:
    """The sentences of one layer: one a scene, and one an object, in the order of scenes and objects."""

    whole: list[str] = field(default_factory=list)
    local: list[str] = field(default_factory=list)


def speak(
    lang: LanguageAttribution,
    scenes: Sequence[Scene],
    features: Sequence[Features],
    said: dict[str, Sentences],
    *,
    internal_batch_size: int | None = None,
) -> None:
    """Add what is said of a batch of scenes, by every layer and, of several, by all together."""
    images = [i for i, scene in enumerate(scenes) for _ in scene.objects]

    def describe(read: Sequence[Features], joint: bool) -> list[str]:
        words = lang.translator.describe(list(read), joint=joint, internal_batch_size=internal_batch_size)
        return [description.text for description in words]

    def local(f: Features) -> Features:
        spots = [thing.location(f.grid or (1, 1)) for scene in scenes for thing in scene.objects]
        return at(f, images, spots)

    for f, pooled, placed in zip(features, whole(lang, features), places(lang, features), strict=True):
        layer = said.setdefault(f.layer, Sentences())
        layer.whole += describe([pooled], joint=False)
        layer.local += describe([local(placed)], joint=False)
    if len(features) > 1:
        layer = said.setdefault(ALL, Sentences())
        layer.whole += describe(whole(lang, features), joint=True)
        together = select_together(features, "all", lang.by_layer.reading)
        layer.local += describe([local(placed) for placed in together], joint=True)


def naming(
    said: Sentences, scenes: Sequence[Scene], phrases: Sequence[str], encode: Callable[[list[str]], Tensor]
) -> dict[str, dict[str, float]]:
    """How often objects are named at their place: by head noun, and by the nearest phrase.

    Returns:
        For "head_noun" and "nearest_phrase" the rates of `naming_rates`, and under "whole" the share of
        objects named by the sentence for the whole image.
    """
    things = [(i, thing) for i, scene in enumerate(scenes) for thing in scene.objects]
    owners = [i for i, _ in things]
    truth = [phrases.index(thing.phrase) for _, thing in things]
    nouns = [head_noun(phrase) for phrase in phrases]
    named: dict[str, Callable[[list[str]], Tensor]] = {
        "head_noun": lambda texts: says_nouns(texts, nouns),
        "nearest_phrase": lambda texts: nearest_phrases(texts, phrases, encode),
    }
    return {
        kind: {
            **naming_rates(names(said.local), truth, owners),
            "whole": names(said.whole)[owners, truth].double().mean().item(),
        }
        for kind, names in named.items()
    }


def captioning(
    said: Sentences,
    scenes: Sequence[Scene],
    encoder: TextEncoder | None = None,
    scorer: TextImageScorer | None = None,
) -> dict[str, float]:
    """The captions of whole scenes by every score; BERTScore and CLIPScore where a model for them is given."""
    known = [references(scene) for scene in scenes]
    scores = caption_scores(said.whole, known)
    if encoder is not None:
        scores["bert_score"] = bert_score(said.whole, known, encoder)
    if scorer is not None:
        pictures: list[Image.Image] = [scene.image for scene in scenes]
        scores["clip_score"] = clip_score(pictures, said.whole, scorer)
    return scores

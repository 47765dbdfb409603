"""Captions of whole scenes by layer: the effect of dropout (table 2) and the words (table 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import Scene, Scenes
from torchnle.evaluation.scenes.data import read, references
from torchnle.evaluation.scenes.sentences import ALL, say_wholes
from torchnle.metrics import caption_scores, cider, vocabulary


def dropout_table(
    backbone: Backbone,
    trained: Mapping[str, LanguageAttribution],
    scenes: Scenes,
    *,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
) -> dict[str, Any]:
    """Score captions of translators trained with different dropouts, from all layers or the last alone.

    Args:
        backbone: The model.
        trained: The attached translators by their dropout: "none", "token", "token and feature".
        scenes: The scenes to caption.
        batch_size: Scenes in the model at once.
        internal_batch_size: Rows in the language model at once.

    Returns:
        By dropout, under "last" and "all", the scores of `caption_scores`.

    Raises:
        ValueError: If a translator reads one layer only.
    """
    found = {}
    for dropout, lang in trained.items():
        if len(lang.taps) < 2:
            raise ValueError(
                f"the translator trained with {dropout} dropout reads one layer; table 2 compares all of "
                "several layers with the last."
            )
        sentences, seen = captions(
            backbone, lang, scenes, batch_size=batch_size, internal_batch_size=internal_batch_size
        )
        expected = [references(scene) for scene in seen]
        last = lang.taps[-1].name
        found[dropout] = {
            "last": caption_scores(sentences[last], expected),
            "all": caption_scores(sentences[ALL], expected),
        }
    return found


def layer_table(
    backbone: Backbone,
    lang: LanguageAttribution,
    scenes: Scenes,
    *,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
) -> dict[str, Any]:
    """Compute the shares of adjectives and verbs, the number of different words, and CIDEr, layer by layer.

    Returns:
        By layer (and for all together) the fields of `Vocabulary`, and "cider"; "captions" is the same for
        the scenes' captions.
    """
    sentences, seen = captions(
        backbone, lang, scenes, batch_size=batch_size, internal_batch_size=internal_batch_size
    )
    expected = [references(scene) for scene in seen]
    found: dict[str, Any] = {
        layer: {**asdict(vocabulary(texts)), "cider": cider(texts, expected)}
        for layer, texts in sentences.items()
    }
    return found | {"captions": asdict(vocabulary([scene.caption for scene in seen]))}


def captions(
    backbone: Backbone,
    lang: LanguageAttribution,
    scenes: Scenes,
    *,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
) -> tuple[dict[str, list[str]], list[Scene]]:
    """Describe each scene by each layer and by all; return the sentences and the scenes."""
    sentences: dict[str, list[str]] = defaultdict(list)
    seen: list[Scene] = []
    for batch, features in read(backbone, lang, scenes, batch_size=batch_size):
        for layer, texts in say_wholes(lang, features, internal_batch_size=internal_batch_size).items():
            sentences[layer] += texts
        seen += batch
    return sentences, seen

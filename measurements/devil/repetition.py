"""Count the sentences for whole scenes in which a phrase stands twice."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.cli.evaluate import add_scenes, add_subject, scenes_of, subject, write_results
from torchnle.data import Scenes
from torchnle.evaluation.record import table
from torchnle.evaluation.scenes.data import read
from torchnle.evaluation.scenes.sentences import say_wholes

#: The number of sentences that are shown.
_SHOWN = 12


def measure(
    backbone: Backbone, lang: LanguageAttribution, scenes: Scenes, *, internal_batch_size: int | None = None
) -> dict[str, Any]:
    """Describe whole scenes by each layer, and by all of several, and count repetitions.

    Returns:
        By layer: "sentences"; "phrase", how many list a phrase twice (with or without another article) or
        hold a word twice in one phrase; "noun", how many list a noun twice, as two balls deserve; "words",
        the mean number of words; and examples of both.
    """
    sentences: dict[str, list[str]] = {}
    with torch.no_grad():
        for _, features in read(backbone, lang, scenes, batch_size=16):
            for layer, texts in say_wholes(lang, features, internal_batch_size=internal_batch_size).items():
                sentences.setdefault(layer, []).extend(texts)
    return {
        "scenes": len(scenes),
        "seed": scenes.seed,
        "layers": {k: counted(v) for k, v in sentences.items()},
    }


def counted(texts: Sequence[str]) -> dict[str, Any]:
    """Count texts with a phrase, and with a noun, that stands twice.

    Example:
        >>> found = counted(["a hen and the hen", "a red ball and a green ball", "a hen", "a wall wall"])
        >>> found["phrase"], found["noun"]
        (2, 2)
    """
    phrases = [
        text
        for text in texts
        if _twice(_phrases(text)) or any(_twice(_words(phrase)) for phrase in _phrases(text))
    ]
    nouns = [text for text in texts if _twice([phrase.split()[-1] for phrase in _phrases(text)])]
    return {
        "sentences": len(texts),
        "phrase": len(phrases),
        "noun": len(nouns),
        "words": sum(len(text.split()) for text in texts) / max(1, len(texts)),
        "with a phrase twice": phrases[:_SHOWN],
        "with a noun twice": nouns[:_SHOWN],
        "examples": list(texts[:_SHOWN]),
    }


def _phrases(text: str) -> list[str]:
    """Split a text at commas and joining words; articles do not count."""
    pieces = re.split(r"\W* (?:and|or|with|on|in|behind|under|above) |[,;.]\s*", f"{text.lower()} ")
    bare = [re.sub(r"^(?:an?|the) ", "", piece.strip()) for piece in pieces]
    return [piece for piece in bare if piece]


def _words(phrase: str) -> list[str]:
    return [word for word in phrase.split() if word not in ("a", "an", "the", "of")]


def _twice(words: Sequence[str]) -> bool:
    return len(set(words)) < len(words)


def page(data: Mapping[str, Any]) -> str:
    """Format the figures as Markdown."""
    rows = [
        [layer, each["sentences"], each["phrase"], each["noun"], each["words"]]
        for layer, each in data["layers"].items()
    ]
    return "\n\n".join(
        [
            f"# Repetition in sentences for {data['scenes']} whole scenes (seed {data['seed']})",
            table(["layer", "sentences", "a phrase twice", "a noun twice", "words"], rows),
        ]
    )


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("repetition", help="sentences in which a phrase stands twice")
    add_subject(parser, count=1000)
    add_scenes(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = measure(*subject(options), scenes_of(options), internal_batch_size=options.batch)
    write_results(options, "repetition", found, page)

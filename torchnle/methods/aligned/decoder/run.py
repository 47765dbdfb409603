"""Make a text decoder from its sources, by one command: corpus, training, measurement, card."""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from torchnle import hub
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.corpus import STAMPS, WORDNET, Corpus
from torchnle.methods.aligned.decoder.quality import decoding_quality, said_back
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence
from torchnle.methods.aligned.decoder.training import Recipe, train
from torchnle.training.log import RunLog
from torchnle.training.loop import steps_done

_HELD_OUT = 1000


def train_text_decoder(
    output: Path,
    recipe: Recipe,
    *,
    encoder: str = hub.MINILM,
    language_model: str = hub.SMOLLM2,
    wordnet: Path = WORDNET,
    stamps: Path = STAMPS,
    count: int = 180_000,
    most: int | None = None,
    start: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a decoder for an encoder and a language model, measure it, and save it with its card.

    A run that is started again goes on from its checkpoint in `output`.

    Args:
        output: A folder: `last.pt`, `log.jsonl` and `embeddings.safetensors` while it runs, `decoder/` at
            the end.
        recipe: How it is trained.
        encoder: The reference of the sentence encoder whose embeddings it will read.
        language_model: The reference of the language model that it will speak through.
        wordnet: Holds WordNet's index.noun and data.noun (Debian's package wordnet-base).
        stamps: Captioned cut-outs, whose phrases are learned too (Debian's tuxpaint-stamps-default).
        count: How many texts the templates make, duplicates included.
        most: The most texts to train on beside the known phrases; None = all that the templates made. A run
            of few steps reads few texts, and every text costs its encoding. What is held out stays the same.
        start: The reference of a trained decoder for this pair, which training continues.
        progress: Show a progress bar.

    Returns:
        The measurements of `decoding_quality` on 1,000 held-out texts, and as "known" those of `said_back`
        on the class names.

    Raises:
        ValueError: If WordNet or the cut-outs are not where they should be.
    """
    corpus = Corpus.make(wordnet, stamps, count=count, seed=recipe.seed)
    texts = corpus.texts(most)
    reader, spoken = TextEncoder.from_pretrained(encoder), LanguageModel.from_pretrained(language_model)
    begun = None if start is None else PrefixFromSentence.from_pretrained(start)
    started = time.monotonic()
    with RunLog(output, recipe.total, done=steps_done(output), progress=progress) as log:
        decoder = train(texts, reader, spoken, recipe, output, known=corpus.known, start=begun, report=log)
    minutes = (time.monotonic() - started) / 60
    chosen = random.Random(recipe.seed).sample(corpus.held, min(_HELD_OUT, len(corpus.held)))
    found = decoding_quality(decoder, reader, chosen)
    found["known"] = said_back(decoder, reader, corpus.classes)
    decoder.card = card(recipe, found, texts=len(texts), held=len(corpus.held), minutes=minutes)
    decoder.save_pretrained(output / "decoder")
    return found


def card(recipe: Recipe, found: dict[str, Any], *, texts: int, held: int, minutes: float) -> dict[str, Any]:
    """Build the part of a decoder's card on how it came about and what it reaches."""
    measured = {
        f"noise {row['noise']:g}": {name: value for name, value in row.items() if name != "examples"}
        for row in found["by_noise"]
    }
    return {
        "license": "bsd-3-clause",
        "data": (
            f"{texts} texts made by templates from WordNet 3.0's common nouns of things that are seen "
            "(Princeton's licence), ImageNet's class names and the captions of Tux Paint's stamps; "
            f"{held} held out by their hash. "
            "No image."
        ),
        "recipe": json.dumps(asdict(recipe)),
        "training time": f"{minutes:.0f} minutes on {torch.get_num_threads()} CPU thread(s), this run alone",
        "measured on held-out texts": json.dumps(_rounded(measured)),
        "class names said back": json.dumps(
            _rounded({k: v for k, v in found["known"].items() if k != "others"})
        ),
        "fluency": f"{found['source_nats_per_token']:.2f} nats a token of the held-out texts themselves",
        "cannot": (
            "say names, numbers, actions or anything beyond short phrases of things, looks and places; "
            "far from any such phrase it still says one, so read it with its faithfulness."
        ),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value

"""Train a text decoder from its sources by one command: corpus, training, measurement, model card."""

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
from torchnle.methods.aligned.decoder.quality import decoding_quality, reconstruction_quality
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

    A run that is started again resumes from its checkpoint in `output`.

    Args:
        output: A folder: `last.pt`, `log.jsonl` and `embeddings.safetensors` while it runs, `decoder/` at
            the end.
        recipe: The settings of training.
        encoder: The reference of the sentence encoder whose embeddings it will read.
        language_model: The reference of the language model that will write the texts.
        wordnet: The folder of WordNet's index.noun and data.noun (Debian's package wordnet-base).
        stamps: The folder of captioned cut-outs, whose phrases are learned too (Debian's package
            tuxpaint-stamps-default).
        count: The number of texts that the templates generate, duplicates included.
        most: The largest number of training texts besides the known phrases; None = all. A run of few steps
            reads few texts, and every text must be encoded. The held-out texts do not depend on it.
        start: The reference of a trained decoder for this pair, from which training continues.
        progress: Show a progress bar.

    Returns:
        The measurements of `decoding_quality` on 1,000 held-out texts, and as "known" those of
        `reconstruction_quality` on the class names.

    Raises:
        ValueError: If a folder does not hold WordNet or cut-outs.
    """
    corpus = Corpus.make(wordnet, stamps, count=count, seed=recipe.seed)
    texts = corpus.texts(most)
    reader, lm = TextEncoder.from_pretrained(encoder), LanguageModel.from_pretrained(language_model)
    begun = None if start is None else PrefixFromSentence.from_pretrained(start)
    started = time.monotonic()
    with RunLog(output, recipe.total, done=steps_done(output), progress=progress) as log:
        decoder = train(texts, reader, lm, recipe, output, known=corpus.known, start=begun, report=log)
    minutes = (time.monotonic() - started) / 60
    chosen = random.Random(recipe.seed).sample(corpus.held, min(_HELD_OUT, len(corpus.held)))
    found = decoding_quality(decoder, reader, chosen)
    found["known"] = reconstruction_quality(decoder, reader, corpus.classes)
    decoder.card = card(recipe, found, texts=len(texts), held=len(corpus.held), minutes=minutes)
    decoder.save_pretrained(output / "decoder")
    return found


def card(recipe: Recipe, found: dict[str, Any], *, texts: int, held: int, minutes: float) -> dict[str, Any]:
    """Build the entries of a decoder's model card on its training and its measurements."""
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

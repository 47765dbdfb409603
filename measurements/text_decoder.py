"""Measure a text decoder: what it says of texts' own embeddings, greedily and judged by the encoder."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from torchnle.cli.evaluate import add_output, write_results
from torchnle.evaluation.record import table
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.corpus import STAMPS, WORDNET, Corpus
from torchnle.methods.aligned.decoder.quality import NOISES, decoding_quality, reconstruction_quality
from torchnle.methods.aligned.decoder.text_decoder import DECODER, TextDecoder


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("text-decoder", help="does a text decoder say texts back?")
    parser.add_argument(
        "--decoder", default=DECODER, metavar="REF", help="a saved one (default: the shipped one)"
    )
    parser.add_argument("--wordnet", type=Path, default=WORDNET, metavar="FOLDER", help="default: Debian's")
    parser.add_argument("--stamps", type=Path, default=STAMPS, metavar="FOLDER", help="default: Debian's")
    parser.add_argument("--count", type=int, default=1000, help="held-out texts (default: %(default)s)")
    parser.add_argument(
        "--candidates",
        type=int,
        nargs="+",
        default=(0, 16),
        metavar="N",
        help="texts drawn beside the greedy one, of which the nearest is chosen (default: 0 16)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of texts, noise and draws (default: %(default)s)"
    )
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    corpus = Corpus.make(options.wordnet, options.stamps, seed=options.seed)
    given = {"candidates": options.candidates, "count": options.count, "seed": options.seed}
    write_results(options, "text_decoder", measure(options.decoder, corpus, **given), page)


def measure(
    reference: str, corpus: Corpus, *, candidates: Sequence[int] = (0, 16), count: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measure a decoder on held-out texts of its domain, on the class names, and on the cut-outs' phrases.

    Args:
        reference: The decoder's.
        corpus: The texts that it was trained on and those held out.
        candidates: Numbers of texts that are drawn beside the greedy one; 0 = greedy alone.
        count: The number of held-out texts.
        seed: Seeds their choice, the noise and the draws.

    Returns:
        By the number of candidates: "held_out" of `decoding_quality`; "classes" and "phrases" of
        `reconstruction_quality`; and the seconds of all. Noisy embeddings are decoded greedily only.
    """
    decoder = TextDecoder.from_pretrained(reference)
    encoder = TextEncoder.from_pretrained(decoder.encoder)
    held = random.Random(seed).sample(corpus.held, min(count, len(corpus.held)))
    found: dict[str, Any] = {"decoder": reference, "seed": seed, "parameters": _size(decoder)}
    for number in candidates:
        started = time.process_time()
        given = {"candidates": number, "seed": seed}
        noises = (0.0,) if number else NOISES
        found[f"candidates {number}"] = {
            "held_out": decoding_quality(decoder, encoder, held, noises=noises, **given),
            "classes": reconstruction_quality(decoder, encoder, corpus.classes, **given),
            "phrases": reconstruction_quality(decoder, encoder, corpus.phrases, **given),
            "seconds": time.process_time() - started,
        }
    return found


def _size(decoder: TextDecoder) -> int:
    return sum(parameter.numel() for parameter in decoder.network.parameters())


def page(data: Mapping[str, Any]) -> str:
    """Format the figures as Markdown."""
    held, trained = [], []
    for name, each in data.items():
        if not name.startswith("candidates "):
            continue
        drawn = int(name.split()[1])
        held += [
            [drawn, row["noise"], row["given_cosine"], row["cosine"], row["exact"], row["head_noun"],
             row["nats_per_token"]]
            for row in each["held_out"]["by_noise"]
        ]  # fmt: skip
        trained += [[drawn, what, each[what]["phrases"], each[what]["exact"], each[what]["cosine"]]
                  for what in ("classes", "phrases")]  # fmt: skip
    return "\n\n".join(
        [
            f"# The text decoder `{Path(data['decoder']).name}`",
            "Texts are embedded, decoded, and what was said is embedded again. Of several candidates the one "
            "whose embedding is nearest to the given one is said (`decode_nearest`); 0 = greedy decoding.",
            "## Held-out texts of its domain",
            table(
                ["drawn", "noise", "given cosine", "cosine", "word for word", "head noun", "nats a token"],
                held,
            ),
            "## Phrases that it was trained on",
            table(["drawn", "of", "phrases", "word for word", "cosine"], trained),
        ]
    )

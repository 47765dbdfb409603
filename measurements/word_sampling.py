"""Measure sampling for dominant words with SmolLM2-135M: its cost, and how many sentences are enough.

Run as ``python -m measurements.word_sampling cost OUTPUT`` and ``python -m measurements.word_sampling curve
OUTPUT``. Cost: 1,000 sentences from one prefix, in processor seconds of one thread, against transformers'
`generate(num_return_sequences=250)`, of which four make as many, with the same nucleus, ends and number of
tokens (all of its rows are read at every step, so that its cost grows with their number). Curve: the share of
the ten most frequent words that two seeds have in common, by the number of sentences, with and without
replacement, averaged over pictures and pairs of seeds. The prefixes are those of the shipped text decoder for
composed scenes; "free" is the language model after "A photo of", whose sentences hardly ever come twice.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchnle import LanguageAttribution, backbones
from torchnle.data import load_cutouts
from torchnle.data.scenes import Scenes
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import grounds, images_of
from torchnle.language import decoding
from torchnle.language.distinct import sample_distinct
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.decoder.text_decoder import DECODER, PROMPT, STOP, TextDecoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.words.sentences import Sentences
from torchnle.methods.texplain.words.table import WordTable

STAMPS = Path("/usr/share/tuxpaint/stamps")
SENTENCES, PART, TOKENS, TOP_P = 1000, 250, 12, 0.95
COUNTS, PICTURES, SEEDS, TOP = (10, 25, 50, 100, 200, 500, 1000), 6, 4, 10


def prefixes(count: int) -> tuple[LanguageModel, Tensor]:
    """The text decoder's prefixes for composed scenes of two objects, and its language model."""
    backbone = backbones.load("efficientnet-lite0")
    lang = LanguageAttribution.from_classifier(backbone.model, backbone.class_names, decoder=DECODER)
    translator, decoder = lang.translator, TextDecoder.from_pretrained(DECODER)
    if not isinstance(translator, MapTranslator):
        raise TypeError("from_classifier fits a map.")
    scenes = Scenes(load_cutouts(STAMPS), grounds(textures=False), length=count, objects=(2, 2), seed=5)
    with torch.no_grad():
        (features,) = lang.by_layer.read(images_of(backbone, list(scenes)))
        shares = translator.probabilities(lang.by_layer.reading.pool(features, None))
        return decoder.language_model, decoder.prefixes(recall(shares, translator.vectors))


def cost() -> dict[str, Any]:
    """Processor seconds and memory of 1,000 sentences, with the decoder's prefix and free."""
    lm, drawn = prefixes(1)
    free = lm.embed(torch.tensor(lm.tokenize(["A photo of"])))
    found = {}
    for name, prefix, prompt in (("picture", drawn, PROMPT), ("free", free, "")):
        context = lm.context(prefix, prompt)
        rows = {
            "with replacement": lambda p=prefix, q=prompt: _sample(lm, p, q, SENTENCES),
            "200 without replacement": lambda p=prefix, q=prompt: _distinct(lm, p[0], q, 200, 0),
            f"generate, {PART} (a part)": lambda c=context: _generate(lm, c, PART),
        }
        found[name] = {key: _timed(run) for key, run in rows.items()}
        whole = found[name][f"generate, {PART} (a part)"]["processor seconds"] * SENTENCES / PART
        found[name]["times as fast as generate"] = (
            whole / found[name]["with replacement"]["processor seconds"]
        )
    return found


def curve() -> dict[str, Any]:
    """The overlap of the ten most frequent words of two seeds, by the number of sentences."""
    lm, drawn = prefixes(PICTURES)
    free = lm.embed(torch.tensor(lm.tokenize(["A photo of"])))
    found: dict[str, Any] = {}
    for name, rows, prompt in (("pictures", drawn, PROMPT), ("free", free, "")):
        found[name] = {}
        for way in ("with replacement", "without replacement"):
            found[name][way] = {n: _overlap(lm, rows, prompt, n, way) for n in COUNTS}
    return found


def _overlap(lm: LanguageModel, rows: Tensor, prompt: str, n: int, way: str) -> dict[str, float]:
    shares = []
    for row in rows:
        tops = [_top_words(lm, row, prompt, n, way, seed) for seed in range(SEEDS)]
        shares += [len(a & b) / max(1, min(TOP, len(a | b))) for a, b in combinations(tops, 2)]
    values = torch.tensor(shares)
    return {"mean": values.mean().item(), "std": values.std().item(), "pairs": len(shares)}


def _top_words(lm: LanguageModel, row: Tensor, prompt: str, n: int, way: str, seed: int) -> set[str]:
    if way == "with replacement":
        texts = _sample(lm, row[None], prompt, n, seed)
        said = Sentences(tuple(texts), torch.full((n,), 1 / n), None)
    else:
        distinct = _distinct(lm, row, prompt, n, seed)
        said = Sentences(tuple(distinct.texts), distinct.weights, distinct.variances)
    return {word.text for word in WordTable.of([said]).top(TOP) if word.frequency > 0}


def _sample(lm: LanguageModel, prefix: Tensor, prompt: str, n: int, seed: int = 0) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    return decoding.sample(
        lm, prefix, n, top_p=TOP_P, generator=generator, prompt=prompt, stop=STOP, max_new_tokens=TOKENS
    ).texts


def _distinct(lm: LanguageModel, row: Tensor, prompt: str, n: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return sample_distinct(
        lm, row, n, top_p=TOP_P, generator=generator, prompt=prompt, stop=STOP, max_new_tokens=TOKENS
    )


def _generate(lm: LanguageModel, context: Tensor, n: int) -> Any:
    torch.manual_seed(0)
    ends = [*lm.eos_ids, lm.tokenizer(STOP, add_special_tokens=False)["input_ids"][0]]
    with torch.inference_mode():
        return lm.model.generate(
            inputs_embeds=context,
            attention_mask=torch.ones(context.shape[:2], dtype=torch.long),
            do_sample=True,
            top_p=TOP_P,
            top_k=0,
            num_return_sequences=n,
            max_new_tokens=TOKENS,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )


def _timed(run: Callable[[], Any]) -> dict[str, float]:
    began, wall = time.process_time(), time.perf_counter()
    run()
    return {
        "processor seconds": time.process_time() - began,
        "wall seconds": time.perf_counter() - wall,
        "peak MB so far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def page(found: dict[str, Any]) -> str:
    """Both results as tables."""
    parts = []
    if "cost" in found:
        for name, rows in found["cost"].items():
            timed = [[key, *value.values()] for key, value in rows.items() if isinstance(value, dict)]
            parts += [
                f"## 1,000 sentences of at most {TOKENS} tokens: {name}\n",
                record.table(["way", "processor seconds", "wall seconds", "peak MB so far"], timed),
                f"\n{rows['times as fast as generate']:.1f} times as fast as generate.\n",
            ]
    for name, ways in found.get("curve", {}).items():
        header = ["sentences", *ways]
        rows = [[n, *(ways[way][n]["mean"] for way in ways)] for n in COUNTS]
        parts += [f"## Overlap of the ten first words of two seeds: {name}\n", record.table(header, rows), ""]
    return "\n".join(parts)


def main() -> None:
    """Measure one of the two, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "curve"))
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {options.what: cost() if options.what == "cost" else curve()}
    record.write(
        options.output, f"word_sampling_{options.what}", {"setting": record.setting(), **found}, page(found)
    )
    print(page(found))


if __name__ == "__main__":
    main()

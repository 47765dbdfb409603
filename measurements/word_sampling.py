"""Measure sampling for dominant words with SmolLM2-135M: its cost, and how many sentences are enough.

Run as ``python -m measurements.word_sampling cost OUTPUT``, then ``free``, ``curve`` and ``memory``. Cost:
1,000 sentences from the prefix of a picture, in processor seconds of one thread, against transformers'
`generate` with `num_return_sequences=250`, of which four make as many (all of its rows are read at every
step, so that its cost grows with their number), with the same nucleus, ends and number of tokens. Free: the
same for 250 sentences of the language model after "A photo of", which hardly ever begin alike: the worst
case. Curve: the share of the ten most frequent words that two seeds have in common, by the number of
sentences, with and without replacement, averaged over pictures and pairs of seeds. Memory: by how much the
process grows at most while it draws, by the number of sentences; texts wait as lists of tokens, and no more
than 257 are in the language model at a time, so that it is bounded. Prefixes are those of the shipped text
decoder for composed scenes.
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
from torchnle.evaluation.scenes.data import evaluation_backgrounds, images_of
from torchnle.language import decoding
from torchnle.language.model import LanguageModel
from torchnle.language.sampling.distinct import sample_distinct
from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.decoder.text_decoder import DECODER, PROMPT, STOP, TextDecoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.words.sentences import Sentences
from torchnle.methods.texplain.words.table import WordTable
from torchnle.translators.rows import rows_of

STAMPS = Path("/usr/share/tuxpaint/stamps")
SENTENCES, PART, TOKENS, TOP_P = 1000, 250, 12, 0.95
COUNTS, PICTURES, SEEDS, TOP = (25, 50, 100, 200, 500, 1000), 4, 3, 10
#: Sentences whose memory is measured; Linux resets the peak of a process by this file.
MANY, MANY_FREE, RESET = (250, 1000, 4000), 500, Path("/proc/self/clear_refs")
WAYS = ("with replacement", "without replacement")


def prefixes(count: int) -> tuple[LanguageModel, Tensor]:
    """Return the text decoder's prefixes for composed scenes of two objects, and its language model."""
    backbone = backbones.load("efficientnet-lite0")
    lang = LanguageAttribution.from_classifier(backbone.model, backbone.class_names, decoder=DECODER)
    translator, decoder = lang.translator, TextDecoder.from_pretrained(DECODER)
    if not isinstance(translator, MapTranslator):
        raise TypeError("from_classifier fits a map.")
    scenes = Scenes(
        load_cutouts(STAMPS), evaluation_backgrounds(textures=False), length=count, objects=(2, 2), seed=5
    )
    with torch.no_grad():
        features = lang.read(images_of(backbone, list(scenes)))
        shares = translator.probabilities(rows_of([lang.reading.pool(each, None) for each in features]))
        return decoder.language_model, decoder.prefixes(recall(shares, translator.vectors))


def cost(free: bool) -> dict[str, Any]:
    """Processor seconds and memory of sentences with the decoder's prefix, or free."""
    lm, prefix = prefixes(1)
    count, prompt = (PART, "") if free else (SENTENCES, PROMPT)
    if free:
        prefix = lm.embed(torch.tensor(lm.tokenize(["A photo of"])))
    context = lm.context(prefix, prompt)
    rows: dict[str, Callable[[], Any]] = {
        f"{count} with replacement": lambda: _sample(lm, prefix, prompt, count),
        f"{count // 5} without replacement": lambda: _distinct(lm, prefix[0], prompt, count // 5, 0),
        f"generate, {PART}": lambda: _generate(lm, context, PART),
    }
    found: dict[str, Any] = {key: _timed(run) for key, run in rows.items()}
    ours, theirs = (
        found[key]["processor seconds"] for key in (f"{count} with replacement", f"generate, {PART}")
    )
    found["different texts"] = len(set(_sample(lm, prefix, prompt, count)))
    return {"sentences": count, "rows": found, "times as fast as generate": theirs * count / PART / ours}


def curve() -> dict[str, Any]:
    """Return the overlap of the ten most frequent words of two seeds, by the number of sentences."""
    lm, drawn = prefixes(PICTURES)
    return {way: {n: _overlap(lm, drawn, PROMPT, n, way) for n in COUNTS} for way in WAYS}


def memory() -> dict[str, Any]:
    """Return the most megabytes that drawing adds, by the way and the number of sentences."""
    lm, prefix = prefixes(1)
    free = lm.embed(torch.tensor(lm.tokenize(["A photo of"])))
    draws: dict[str, Callable[[Tensor, str, int], Any]] = {
        WAYS[0]: lambda row, prompt, n: _sample(lm, row, prompt, n),
        WAYS[1]: lambda row, prompt, n: _distinct(lm, row[0], prompt, n, 0),
    }
    draws[WAYS[0]](prefix, PROMPT, 10)  # what is built once: packed weights
    draws[WAYS[0]](free, "", 10)
    found: dict[str, Any] = {}
    for way, draw in draws.items():
        found[way] = {str(n): _growth(draw, prefix, PROMPT, n) for n in MANY}
        found[way][f"{MANY_FREE}, free"] = _growth(draw, free, "", MANY_FREE)
    return found


def _growth(draw: Callable[..., Any], row: Tensor, prompt: str, n: int) -> float:
    RESET.write_text("5")
    before = _kilobytes("VmRSS")
    draw(row, prompt, n)
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


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
        sentences = Sentences(tuple(texts), torch.full((n,), 1 / n), None)
    else:
        distinct = _distinct(lm, row, prompt, n, seed)
        sentences = Sentences(tuple(distinct.texts), distinct.weights, distinct.variances)
    return {word.text for word in WordTable.of([sentences]).top(TOP) if word.frequency > 0}


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


def page(what: str, found: dict[str, Any]) -> str:
    """Return the result as a table."""
    if what == "curve":
        rows = [
            [n, *(f"{found[way][n]['mean']:.2f} ± {found[way][n]['std']:.2f}" for way in WAYS)]
            for n in COUNTS
        ]
        table = record.table(["sentences", *WAYS], rows)
        return f"# Overlap of the ten first words of two seeds\n\n{table}\n"
    if what == "memory":
        rows = [[n, *(f"{found[way][n]:.0f}" for way in WAYS)] for n in found[WAYS[0]]]
        table = record.table(["sentences", *WAYS], rows)
        return f"# Megabytes that drawing adds at most\n\n{table}\n"
    timed = [[key, *value.values()] for key, value in found["rows"].items() if isinstance(value, dict)]
    header = ["way", "processor seconds", "wall seconds", "peak MB so far"]
    return (
        f"# {found['sentences']} sentences of at most {TOKENS} tokens: "
        f"{what}\n\n{record.table(header, timed)}\n\n"
        f"{found['rows']['different texts']} of them differ. {found['times as fast as generate']:.1f} times "
        f"as fast as "
        "generate.\n"
    )


def main() -> None:
    """Measure one of these, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "free", "curve", "memory"))
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measures = {"curve": curve, "memory": memory}
    found = measures.get(options.what, lambda: cost(free=options.what == "free"))()
    name = f"word_sampling_{options.what}"
    record.write(options.output, name, {"setting": record.setting(), **found}, page(options.what, found))
    print(page(options.what, found))


if __name__ == "__main__":
    main()

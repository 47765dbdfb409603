"""Measure the default sentences beside the paper's mode on the same photographs.

Run as ``python -m measurements.zero_shot.modes OUTPUT --folder PHOTOS --truth TRUTH.json``: the model is
EfficientNet-Lite0 with the map of its class names. Both modes are judged by the same numbers in float32: the
cosine of the sentence's direction with the evidence, and the mean log-probability of a token, after words
that name the class, as a reader sees them, and after a prompt that does not. With --journal the slow mode
goes on where it was ended; --most-photographs ends it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from measurements.zero_shot.photographs import WRITER, attached, spread
from torchnle import LanguageAttribution
from torchnle.evaluation import record
from torchnle.evaluation.photographs.truth import Photograph, read_photographs
from torchnle.journal import Journal
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.zero_shot.classes import class_map
from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.explain import Explainer, ExplanationInput
from torchnle.methods.zero_shot.explanation_input import ask
from torchnle.methods.zero_shot.prefix_tuning.tuning import Tuning, tune
from torchnle.methods.zero_shot.sentences.beams import Search
from torchnle.methods.zero_shot.sentences.log_probs import NEUTRAL_PROMPT, sequence_log_probs


def fluency(lm: LanguageModel, text: str, prompt: str) -> float:
    """Compute the mean log-probability of a token of a sentence with its full stop, after a prompt."""
    return float(sequence_log_probs(lm, lm.tokenize([f" {text}."]), prompt)[0].mean())


def written(
    lm: LanguageModel, explainer: Explainer, inputs: ExplanationInput, tuning: Tuning
) -> dict[str, Any]:
    """Write one sentence by the paper's mode; targets are made by a sentence encoder in bfloat16.

    Args:
        lm: The language model.
        explainer: Whose map scores.
        inputs: One image.
        tuning: The paper's settings.
    """
    vector = vector_of(explainer, inputs)

    def fit(texts: Sequence[str]) -> Tensor:
        with torch.autocast(vector.device.type, torch.bfloat16):
            vectors = explainer.translator.encoder.encode(texts)
        return explainer.fitted.directions(vectors) @ vector

    start, tried = time.process_time(), list[str]()
    beam = tune(lm, fit, tuning, report=lambda number, text, cost: tried.append(text))
    return {"text": beam.text, "seconds": time.process_time() - start, "tried": tried}


def vector_of(explainer: Explainer, inputs: ExplanationInput) -> Float[Tensor, "D"]:
    """Return the unit evidence of one image."""
    found = evidence(explainer.fitted, inputs.pooled, inputs.classes, locations=inputs.locations)
    return F.normalize(found.vector[0], dim=0)


def compare(
    known: Sequence[Photograph], journal: Journal, tuning: Tuning, most: int, encoder: TextEncoder
) -> dict[str, Any]:
    """Write every photograph's sentence in both modes.

    Args:
        known: The photographs.
        journal: Holds the sentences of the slow mode.
        tuning: The paper's settings.
        most: How many photographs may be written anew by the slow mode.
        encoder: The sentence encoder.
    """
    backbone, lang = attached(WRITER, encoder)
    translator, layer = class_map(lang.translator, list(lang.translator.layers))
    lm = LanguageModel.from_pretrained(dtype=torch.float32)
    explainer, rows = Explainer(translator, layer, lm), {}
    for photograph in known:
        if photograph.name not in journal:
            if not most:
                continue
            most -= 1
        inputs = _inputs(lang, explainer, backbone.preprocess(photograph.open())[None])
        start = time.process_time()
        (why,) = explainer(inputs, Search())
        seconds = time.process_time() - start
        slow = journal.get(photograph.name, lambda inputs=inputs: written(lm, explainer, inputs, tuning))  # type: ignore[misc]
        rows[photograph.name] = {
            "prediction": why.prediction,
            "default": _scored(lm, explainer, inputs, why.text) | {"seconds": seconds},
            "paper": _scored(lm, explainer, inputs, slow["text"]) | {"seconds": slow["seconds"]},
        }
        print(photograph.name, json.dumps(record.plain(rows[photograph.name])), flush=True)
    return rows


def _inputs(lang: LanguageAttribution, explainer: Explainer, x: Tensor) -> ExplanationInput:
    (read,) = lang.read(x)
    return ask(explainer.translator, explainer.layer, read, lang.reading.pool)


def _scored(lm: LanguageModel, explainer: Explainer, inputs: ExplanationInput, text: str) -> dict[str, Any]:
    cosine = float(explainer.fit([text], vector_of(explainer, inputs))[0])
    title = explainer.translator.class_texts[int(inputs.classes[0])]
    return {
        "text": text,
        "cosine": cosine,
        "nats_a_token": fluency(lm, text, Search().about(title).prompt),
        "without_the_class": fluency(lm, text, NEUTRAL_PROMPT),
    }


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Average each mode's numbers over the photographs that both have written."""
    found: dict[str, Any] = {"photographs": len(rows)}
    for mode in ("default", "paper"):
        each = [row[mode] for row in rows.values()]
        found[mode] = {
            "cosine": mean(one["cosine"] for one in each),
            "nats_a_token": mean(one["nats_a_token"] for one in each),
            "without_the_class": mean(one["without_the_class"] for one in each),
            "median_seconds": median(one["seconds"] for one in each),
        }
    found["default_fits_better_on"] = sum(
        row["default"]["cosine"] >= row["paper"]["cosine"] for row in rows.values()
    )
    return found


def main() -> None:
    """Measure and write zero_shot_modes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=Tuning.iterations)
    parser.add_argument("--candidates", type=int, default=Tuning.candidates)
    parser.add_argument("--journal", type=Path, help="keeps the slow mode's sentences")
    parser.add_argument("--most-photographs", type=int, default=1000, help="to write anew in this run")
    parser.add_argument("--name", default="zero_shot_modes", help="of the file (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tuning = Tuning(iterations=options.iterations, candidates=options.candidates)
    known = spread(read_photographs(options.folder, options.truth), options.count)
    rows = compare(
        known,
        Journal(options.journal, asdict(tuning)),
        tuning,
        options.most_photographs,
        TextEncoder.from_pretrained(),
    )
    found: dict[str, Any] = {"setting": record.setting(), "model": WRITER, "paper": asdict(tuning)}
    found |= {"asked": len(known), **summary(rows), "sentences": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.plain(found), indent=1)
    (options.output / f"{options.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

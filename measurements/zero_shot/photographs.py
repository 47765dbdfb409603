"""Measure explanations of photographs: what they say, how they fit, by a judge that did not write them.

Run as ``python -m measurements.zero_shot.photographs OUTPUT --folder PHOTOS --truth TRUTH.json``. The writer
is EfficientNet-Lite0 with the map of its class names, the judge EfficientNet-Lite2 with its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle import LanguageAttribution, backbones
from torchnle.evaluation import record
from torchnle.evaluation.photographs.judge import Judge
from torchnle.evaluation.photographs.truth import Photograph, read_photographs
from torchnle.language.english.captions import phrases_of
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.classes import class_map, predicted
from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.explanation import Explanation
from torchnle.methods.zero_shot.faithfulness import percentile, reference_sentences

WRITER, JUDGE = "efficientnet-lite0", "efficientnet-lite2"


def main() -> None:
    """Measure and write zero_shot_photographs.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--count", type=int, help="so many, spread over the truth's order (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = spread(read_photographs(options.folder, options.truth), options.count)
    encoder = TextEncoder.from_pretrained()
    written, seconds = _write(known, encoder)
    ranks = _percentiles(known, [why.text for why in written], encoder)
    found = {
        "setting": record.setting(),
        "writer": WRITER,
        "judge": JUDGE,
        "photographs": len(known),
        "references": len(reference_sentences()),
        **_judged(known, written),
        "cpu_seconds_a_sentence": record.plain(seconds),
        "percentile_by_the_judge": ranks.tolist(),
        "at_least_95": float((ranks >= 95).float().mean()),
        "median_percentile": float(ranks.median()),
        "cosine": sum(why.score for why in written) / len(written),
        "nats_a_token": sum(why.fluency for why in written) / len(written),
        "sentences": {p.name: why.to_dict() for p, why in zip(known, written, strict=True)},
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.plain(found), indent=1)
    (options.output / "zero_shot_photographs.json").write_text(text + "\n", encoding="utf-8")
    shown = {key: value for key, value in found.items() if key != "sentences"}
    print(json.dumps(shown, default=str, indent=1))


def spread(known: Sequence[Photograph], count: int | None) -> list[Photograph]:
    """Take so many photographs at equal steps; the truth lists them by kind, its first are animals."""
    taken = len(known) if count is None else min(count, len(known))
    return [known[i * len(known) // taken] for i in range(taken)]


def attached(name: str, encoder: TextEncoder) -> tuple[backbones.Backbone, LanguageAttribution]:
    """Load a backbone and fit the map of its class names."""
    backbone = backbones.load(name)
    lang = LanguageAttribution.from_classifier(backbone.model, backbone.class_names, encoder=encoder)
    return backbone, lang


def _write(known: Sequence[Photograph], encoder: TextEncoder) -> tuple[list[Explanation], dict[str, float]]:
    """Explain every photograph by itself; the processor's seconds of each, the first left out."""
    backbone, lang = attached(WRITER, encoder)
    lm = LanguageModel.from_pretrained(dtype=torch.float32)
    written, seconds = [], []
    for photograph in known:
        x = backbone.preprocess(photograph.open())[None]
        start = time.process_time()
        written += lang.explain(x, language_model=lm)
        seconds.append(time.process_time() - start)
        print(photograph.name, written[-1], f"{seconds[-1]:.1f} s", flush=True)
    ordered = sorted(seconds[1:])
    return written, {
        "median": ordered[len(ordered) // 2],
        "most": ordered[-1],
        "first": seconds[0],
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def evidence_of(fitted: TextMap, locations: Float[Tensor, "N L D"]) -> Float[Tensor, "N D"]:
    """Return the unit evidence of the predicted class of images that a head reads by the mean."""
    pooled = locations.float().mean(dim=1)
    found = evidence(fitted, pooled, predicted(fitted, pooled), locations=locations)
    return F.normalize(found.vector, dim=1)


def _percentiles(known: Sequence[Photograph], texts: Sequence[str], encoder: TextEncoder) -> Tensor:
    """Return the percentile of each sentence among the reference sentences, on the judge's own evidence."""
    backbone, lang = attached(JUDGE, encoder)
    translator, layer = class_map(lang.translator, list(lang.translator.layers))
    fitted = translator.by_layer[layer]
    rows = []
    for photograph in known:
        (read,) = lang.read(backbone.preprocess(photograph.open())[None])
        rows.append(evidence_of(fitted, read.tokens))
    unit = torch.cat(rows)
    own = (unit * fitted.directions(encoder.encode(texts))).sum(dim=1)
    others = unit @ fitted.directions(embed_cached(encoder, reference_sentences())).T
    return percentile(own, others)


def nouns_right(judge: Judge, photograph: Photograph, text: str) -> float:
    """Return the share of a sentence's noun phrases that are right.

    Each is judged by its own head noun: "a black and white bird" is one part, a bird.
    """
    parts = phrases_of(text) or (text,)
    named = [part.replace(" and ", " ") for part in parts]
    return sum(judge(part, photograph.exact, photograph.general).right for part in named) / len(named)


def _judged(known: Sequence[Photograph], written: Sequence[Explanation]) -> dict[str, Any]:
    """Return the share of the sentences' nouns that are right, and the accuracy of the mark "unsure"."""
    judge = Judge()
    rights, nouns, cut = [], 0, []
    for photograph, why in zip(known, written, strict=True):
        parts = phrases_of(why.text) or (why.text,)
        cut.append(judge(", ".join(parts), photograph.exact, photograph.general).right)
        rights.append(nouns_right(judge, photograph, why.text))
        nouns += len(parts)
    wrong = [why.unsure for why, right in zip(written, rights, strict=True) if right <= 0.5]
    good = [why.unsure for why, right in zip(written, rights, strict=True) if right > 0.5]
    heads = [judge(why.prediction, p.exact, p.general).right for p, why in zip(known, written, strict=True)]
    return {
        "nouns_right": sum(rights) / len(rights),
        "right_with_colours_as_parts": sum(cut) / len(cut),
        "nouns_a_sentence": nouns / len(rights),
        "predicted_class_right": sum(heads) / len(heads),
        "wrong": len(wrong),
        "wrong_not_unsure": len(wrong) - sum(wrong),
        "right_unsure": sum(good),
    }


if __name__ == "__main__":
    main()

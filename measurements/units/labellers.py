"""Every labeller of units on one probing record: the best text of each unit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.captioners import BankCaptioner, TranslatorCaptioner
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise
from torchnle.methods.dissect.candidates.summarisers import Extractive
from torchnle.methods.dissect.labellers.rank_texts import UnitReading, ranked
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.scores import text_correlations
from torchnle.types import Labeller

DEFAULT, WITHOUT = "DnD and correlated phrases (default)", "DnD, without selection"
#: The labellers that rank texts or describe exemplars, by their papers.
NAMES: dict[str, Labeller] = {
    "soft-WPMI (CLIP-Dissect)": "soft WPMI",
    "WPMI (CLIP-Dissect)": "WPMI",
    "nearest text (SemanticLens)": "nearest text",
    "re-ranking (MILAN)": "re-ranking",
    "expected activation": "expected activation",
    "correlation": "correlation",
    "masked exemplars (DeViL)": "masked exemplars",
}


def label_all(
    record: LayerRecord,
    translator: MapTranslator,
    layer: str,
    units: Sequence[int],
    truth: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, list[str]]:
    """Label units by every method.

    Args:
        record: What probing found, with its table.
        translator: The map that all of them read words by.
        layer: The evidence layer.
        units: Which units.
        truth: Their class names, for the upper bound and the random labels.
        seed: Draws the random labels.
    """
    reading = UnitReading(record, translator, layer, list(units))
    found = {name: [texts[0][0] for texts in ranked(by, reading)] for name, by in NAMES.items()}
    described, captions = _describe_and_dissect(reading, translator)
    found |= described
    found["class name (truth)"] = list(truth)
    found["random class"] = _random(truth, seed)
    counts = Counter(caption for listed in captions for caption in listed)
    constant = min(counts, key=lambda text: (-counts[text], text))
    found["constant label"] = [constant] * len(truth)
    return found


def _random(truth: Sequence[str], seed: int) -> list[str]:
    """Another unit's class name for each unit, where there is another one."""
    draws = random.Random(seed)
    others = [[name for name in truth if name != own] or [own] for own in truth]
    return [draws.choice(names) for names in others]


def _describe_and_dissect(
    reading: UnitReading, translator: MapTranslator
) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Run the method with its ablations: without selection, without summary, from a fixed bank."""
    captioners: dict[str, TranslatorCaptioner | BankCaptioner] = {
        "": TranslatorCaptioner(translator, reading.layer),
        ", fixed bank": BankCaptioner(translator, reading.layer, translator.vocabulary.phrases),
    }
    found: dict[str, list[str]] = {}
    captions: dict[str, list[list[str]]] = {}
    for name, captioner in captioners.items():
        captions[name] = _captions(reading, captioner)
        propose = CaptionAndSummarise(captioner, Extractive())
        candidates = [list(propose.summarise(given, 5, 0).labels) for given in captions[name]]
        found[f"DnD{name}, without selection"] = [labels[0] for labels in candidates]
        found[f"DnD{name}"] = _selected(reading, translator, candidates)
        if not name:
            plain = [list(dict.fromkeys(given)) for given in captions[name]]
            found["DnD without summary"] = _selected(reading, translator, plain)
            more = [[text for text, _ in texts[:3]] for texts in ranked("correlation", reading)]
            joined = [[*a, *b] for a, b in zip(candidates, more, strict=True)]
            found[DEFAULT] = _selected(reading, translator, joined)
    return found, captions[""]


def _captions(reading: UnitReading, captioner: TranslatorCaptioner | BankCaptioner) -> list[list[str]]:
    evidence = reading.evidence
    k = evidence.shape[1]
    captions = captioner.rows(evidence.flatten(0, 1))
    counts = reading.record.active.sum(dim=1)[list(reading.units)].tolist()
    return [captions[i * k : i * k + counts[i]] for i in range(len(evidence))]


def _selected(
    reading: UnitReading, translator: MapTranslator, candidates: Sequence[Sequence[str]]
) -> list[str]:
    """Return each unit's candidate of the highest correlation."""
    texts = list(dict.fromkeys(text for labels in candidates for text in labels))
    scores = text_correlations(translator, reading.layer, reading.record, texts)
    if scores is None:
        raise ValueError("the record has no second moments to correlate texts by.")
    column = {text: i for i, text in enumerate(texts)}
    return [
        _best(scores[unit], labels, column) for unit, labels in zip(reading.units, candidates, strict=True)
    ]


def _best(scores: Tensor, labels: Sequence[str], column: dict[str, int]) -> str:
    return max(labels, key=lambda text: float(scores[column[text]]))

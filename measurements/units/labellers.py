"""Every labeller of units on one probing record: the best text of each unit."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.captioners import BankCaptioner, TranslatorCaptioner
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise
from torchnle.methods.dissect.candidates.summarisers import Extractive
from torchnle.methods.dissect.labellers.clip_dissect import HARD_IMAGES, soft_wpmi, wpmi
from torchnle.methods.dissect.labellers.nearest import masked_mean, nearest_text_scores
from torchnle.methods.dissect.labellers.reranking import mean_log_probability, milan_scores
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.scores import text_correlations
from torchnle.methods.dissect.selection.expected import ExpectedActivations
from torchnle.methods.dissect.words import describe_rows, phrase_probabilities, score_rows


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
    texts = list(translator.vocabulary.phrases)
    rows = list(units)
    evidence = record.evidence
    if evidence is None:
        raise ValueError("the record has no evidence; probe with an evidence layer.")
    chosen = evidence[rows]
    k = chosen.shape[1]
    cosines = _cosines(translator, layer, record.vectors, texts)
    row_of = {number: i for i, number in enumerate(record.read.tolist())}
    wide = torch.tensor([[row_of[i] for i in row] for row in record.more_images[rows].tolist()])
    probabilities = phrase_probabilities(translator, layer, chosen.flatten(0, 1)).view(len(rows), k, -1).cpu()
    given = mean_log_probability(probabilities)
    prior = given.exp().mean(dim=0).clamp_min(1e-12).log()
    expected = ExpectedActivations.fitted(translator, layer, record)(texts)[:, rows].T
    correlated = text_correlations(translator, layer, record, texts)
    scores = {
        "soft-WPMI (CLIP-Dissect)": soft_wpmi(wide, cosines),
        "WPMI (CLIP-Dissect)": wpmi(wide[:, :HARD_IMAGES], cosines),
        "nearest text (SemanticLens)": nearest_text_scores(
            translator, layer, chosen, texts, record.mean_feature
        ),
        "re-ranking (MILAN)": milan_scores(given, prior),
        "expected activation": expected,
        "correlation": correlated[rows] if correlated is not None else expected,
    }
    found = {name: [texts[i] for i in s.argmax(dim=1).tolist()] for name, s in scores.items()}
    found["masked exemplars (DeViL)"] = [t for t, _ in describe_rows(translator, layer, masked_mean(chosen))]
    found |= _describe_and_dissect(record, translator, layer, rows, chosen)
    draws = random.Random(seed)
    found["class name (truth)"] = list(truth)
    found["random class"] = [draws.choice(list(truth)) for _ in truth]
    constant = max(set(truth), key=list(truth).count)
    found["constant label"] = [constant] * len(truth)
    return found


def _describe_and_dissect(
    record: LayerRecord, translator: MapTranslator, layer: str, rows: list[int], chosen: Tensor
) -> dict[str, list[str]]:
    """Run the method with its ablations: without selection, without summary, from a fixed bank."""
    k = chosen.shape[1]
    captioners: dict[str, TranslatorCaptioner | BankCaptioner] = {
        "": TranslatorCaptioner(translator, layer),
        ", fixed bank": BankCaptioner(translator, layer, translator.vocabulary.phrases),
    }
    found: dict[str, list[str]] = {}
    for name, captioner in captioners.items():
        said = captioner.rows(chosen.flatten(0, 1))
        counts = record.excited.sum(dim=1)[rows].tolist()
        captions = [said[i * k : i * k + counts[i]] for i in range(len(rows))]
        propose = CaptionAndSummarise(captioner, Extractive())
        candidates = [list(propose.summarise(given, 5, 0).labels) for given in captions]
        found[f"DnD{name}, without selection"] = [labels[0] for labels in candidates]
        found[f"DnD{name}"] = _selected(record, translator, layer, rows, candidates)
        if not name:
            plain = [list(dict.fromkeys(given)) for given in captions]
            found["DnD without summary"] = _selected(record, translator, layer, rows, plain)
            texts = list(translator.vocabulary.phrases)
            scores = text_correlations(translator, layer, record, texts)
            more = [[texts[i] for i in scores[row].topk(3).indices.tolist()] for row in rows]  # type: ignore[index]
            joined = [[*a, *b] for a, b in zip(candidates, more, strict=True)]
            found["DnD and correlated phrases (default)"] = _selected(record, translator, layer, rows, joined)
    return found


def _selected(
    record: LayerRecord,
    translator: MapTranslator,
    layer: str,
    rows: list[int],
    candidates: Sequence[Sequence[str]],
) -> list[str]:
    """Return each unit's candidate of the highest correlation."""
    texts = list(dict.fromkeys(text for labels in candidates for text in labels))
    scores = text_correlations(translator, layer, record, texts)
    column = {text: i for i, text in enumerate(texts)}
    return [
        max(labels, key=lambda text: float(scores[row, column[text]]))  # type: ignore[index]
        for row, labels in zip(rows, candidates, strict=True)
    ]


def _cosines(translator: MapTranslator, layer: str, vectors: Tensor, texts: Sequence[str]) -> Tensor:
    fitted = translator.by_layer[layer]
    norms = fitted.whiten(vectors).norm(dim=1, keepdim=True)
    found: Tensor = (score_rows(translator, layer, vectors, texts) / norms).cpu()
    return found

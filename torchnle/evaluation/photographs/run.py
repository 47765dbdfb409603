"""Measure a translator on photographs: descriptions, of locations too, and maps of texts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.evaluation.photographs.adaptation import Adaptation
from torchnle.evaluation.photographs.answers import Answer, rates
from torchnle.evaluation.photographs.grids import Grids
from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.subject import Subject
from torchnle.evaluation.photographs.truth import Photograph
from torchnle.evaluation.record import plain
from torchnle.metrics import box_masks, pointing_hits

#: The number of other photographs' queries that each query is ranked among.
OTHERS = 11
#: The texts: of the classifier, for the picture in the backbone's own view and squeezed; of the translator,
#: for the whole in the own view, and for the main object's location and others in the squeezed picture.
KINDS = ("classifier", "classifier_squeezed", "said", "said_at_place", "said_elsewhere")


def measure(
    backbone: Backbone,
    lang: LanguageAttribution,
    photographs: Sequence[Photograph],
    *,
    seed: int = 1,
    rounds: int = 3,
    folds: int = 1,
    adapt_to: Path | None = None,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a translator's descriptions, location descriptions and maps on photographs.

    Whole photographs are preprocessed as by the backbone. For locations, maps and grids the whole photograph
    is squeezed into the model's input, so that the recorded boxes and points apply.

    Args:
        backbone: A classifier with class names.
        lang: The translator attached to it; of several layers, the last one is measured.
        photographs: The photographs with their recorded content.
        seed: The seed of the texts that each text is ranked among, and of the grids.
        rounds: The largest number of grids per photograph.
        folds: Above 1, each fold is described after `lang.adapt` on the other folds, if it has `adapt`.
        adapt_to: A folder of pictures for `lang.adapt` before the first photograph.
        internal_batch_size: Rows in the language model at once.
        progress: Whether to show a progress bar.

    Returns:
        "summary", all figures; and "said", the descriptions by kind (one of `KINDS`) and photograph.

    Raises:
        ValueError: As `Adaptation`.
    """
    adaptation = Adaptation(lang, backbone.preprocess, folds=folds, folder=adapt_to)
    judge = Judge()
    grids = Grids(judge, seed=seed, rounds=rounds)
    others = others_of(photographs, judge, seed)
    answers: dict[str, dict[str, Answer]] = {kind: {} for kind in KINDS}
    verdicts: dict[str, list[Verdict]] = {kind: [] for kind in KINDS}
    maps = {}
    for fold in adaptation.folds(photographs):
        subject = Subject(backbone, lang, internal_batch_size=internal_batch_size)
        classified = []
        for photograph in tqdm(fold, disable=not progress):
            picture = photograph.open()
            x = subject.input(picture)
            for kind, name, answer, right, more_general in _ask(subject, x, picture, photograph):
                verdict = judge(answer.text, right, more_general)
                answers[kind][name] = answer
                verdicts[kind].append(verdict)
                if kind == "classifier_squeezed" and verdict.is_right:
                    classified.append(photograph)
            maps[photograph.name] = _measure_maps(subject, x, photograph, others[photograph.name])
        grids.read(subject, classified)
    summary = {
        "translator": lang.translator.name,
        "layer": lang.taps[-1].name,
        "view": {"fit": backbone.preprocess.fit, "share": backbone.preprocess.share},
        "statistics": adaptation.statistics,
        "score_kind": lang.translator.score_kind,
        "photographs": len(photographs),
        "seed": seed,
        "rates": {kind: rates(list(answers[kind].values()), verdicts[kind]) for kind in KINDS},
        "maps": _count(maps),
        "grids": grids.summary(),
        "by_photograph": maps,
    }
    return {"summary": summary, "said": answers}


def write_answers(folder: Path, answers: dict[str, dict[str, Answer]]) -> None:
    """Write the descriptions as one JSON file per kind, by photograph.

    Args:
        folder: The folder.
        answers: The descriptions, from `measure`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind, by_name in answers.items():
        data = {name: answer.to_dict() for name, answer in by_name.items()}
        (folder / f"{kind}.json").write_text(json.dumps(plain(data), indent=1) + "\n", encoding="utf-8")


def _ask(
    subject: Subject, x: Float[Tensor, "1 3 H W"], picture: Image.Image, photograph: Photograph
) -> Iterator[tuple[str, str, Answer, tuple[str, ...], tuple[str, ...]]]:
    """Yield each answer with its kind, its name and the nouns that are right for it."""
    name, exact, general = photograph.name, photograph.exact, photograph.general
    own_view = subject.own_view(picture)
    yield "classifier", name, subject.first_class(own_view), exact, general
    yield "classifier_squeezed", name, subject.first_class(x), exact, general
    yield "said", name, subject.say(own_view), exact, general
    yield "said_at_place", name, subject.say(x, photograph.point), exact, general
    for point, words in photograph.elsewhere:
        yield "said_elsewhere", f"{name} {point[0]:.3f},{point[1]:.3f}", subject.say(x, point), words, ()


def _count(maps: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Count queries that are ranked first and maps that peak in their box, with the chance levels."""
    pointed = [row for row in maps.values() if row["in_box"] is not None]
    return {
        "first": sum(row["rank"] == 1 for row in maps.values()),
        "of": len(maps),
        "first_by_chance": sum(1 / (1 + len(row["others"])) for row in maps.values()),
        "in_box": sum(row["in_box"] for row in pointed),
        "pointed": len(pointed),
        "in_box_by_chance": sum(row["box"] for row in pointed),
    }


def others_of(photographs: Sequence[Photograph], judge: Judge, seed: int) -> dict[str, list[str]]:
    """Draw for each photograph texts of other photographs that are wrong for it."""
    draw = random.Random(seed)
    chosen = {}
    for photograph in photographs:
        queries = sorted({other.query for other in photographs} - {photograph.query})
        wrong = [q for q in queries if not judge(q, photograph.exact, photograph.general).is_right]
        chosen[photograph.name] = draw.sample(wrong, min(OTHERS, len(wrong)))
    return chosen


def _measure_maps(
    subject: Subject, x: Float[Tensor, "1 3 H W"], photograph: Photograph, others: Sequence[str]
) -> dict[str, Any]:
    """Return the rank of the query's mean among the other queries', and whether its map peaks in the box."""
    maps = subject.maps(x, [photograph.query, *others])
    means = maps.flatten(1).mean(dim=1)
    height, width = maps.shape[-2:]
    x0, y0, x1, y1 = photograph.box
    box = box_masks(
        [(round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height))], (height, width)
    )
    hit = pointing_hits(maps[:1], box, tolerance=0).item()
    return {
        "query": photograph.query,
        "others": list(others),
        "rank": 1 + int((means[1:] >= means[0]).sum()),
        "in_box": hit if photograph.pointing else None,
        "box": box.float().mean().item(),
    }

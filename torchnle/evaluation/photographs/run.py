"""One run over photographs: what is said of them, of places in them, and where their texts are found."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.evaluation.photographs.grids import measure_grids
from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.said import Said, rates
from torchnle.evaluation.photographs.subject import Subject
from torchnle.evaluation.photographs.truth import Photograph
from torchnle.evaluation.record import plain
from torchnle.metrics import box_masks, pointing_hits

#: How many other photographs' queries each query is ranked among.
OTHERS = 11
#: What is said: by the classifier, of the picture squeezed as the others see it and of its own usual view; of
#: the whole, of the main thing's location, of other locations.
KINDS = ("classifier", "classifier_own_view", "said", "said_at_place", "said_elsewhere")


def measure(
    backbone: Backbone,
    lang: LanguageAttribution,
    photographs: Sequence[Photograph],
    *,
    seed: int = 1,
    rounds: int = 3,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a translator on photographs, each squeezed whole into the model's input.

    Args:
        backbone: A classifier with class names.
        lang: The translator attached to it; of several layers, the last one is measured.
        photographs: With what is in them.
        seed: Of the other queries that each query is ranked among, and of the grids.
        rounds: How often each photograph comes in a grid, at most.
        internal_batch_size: Rows in the language model at once.
        progress: Whether a bar shows.

    Returns:
        "summary", all figures; and "said", what was said, by its kind (one of `KINDS`) and photograph.
    """
    subject = Subject(backbone, lang, internal_batch_size=internal_batch_size)
    judge = Judge()
    others = _others(photographs, judge, seed)
    said: dict[str, dict[str, Said]] = {kind: {} for kind in KINDS}
    verdicts: dict[str, list[Verdict]] = {kind: [] for kind in KINDS}
    maps = {}
    for photograph in tqdm(photographs, disable=not progress):
        picture = photograph.open()
        x = subject.input(picture)
        own_view = backbone.preprocess(picture)[None]
        for kind, name, text, right, more_general in _ask(subject, x, own_view, photograph):
            said[kind][name] = text
            verdicts[kind].append(judge(text.text, right, more_general))
        maps[photograph.name] = _measure_maps(subject, x, photograph, others[photograph.name])
    known = [p for p, verdict in zip(photographs, verdicts["classifier"], strict=True) if verdict.is_right]
    summary = {
        "translator": lang.translator.name,
        "layer": subject.layer,
        "score_kind": lang.translator.score_kind,
        "photographs": len(photographs),
        "seed": seed,
        "rates": {kind: rates(list(said[kind].values()), verdicts[kind]) for kind in KINDS},
        "maps": _count(maps),
        "grids": measure_grids(subject, known, judge, seed=seed, rounds=rounds),
        "by_photograph": maps,
    }
    return {"summary": summary, "said": said}


def write_said(folder: Path, said: dict[str, dict[str, Said]]) -> None:
    """Write KIND.json for each of `KINDS`: by photograph "text", "score", "unsure" and the "description"."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, texts in said.items():
        data = {name: text.to_dict() for name, text in texts.items()}
        (folder / f"{kind}.json").write_text(json.dumps(plain(data), indent=1) + "\n", encoding="utf-8")


def _ask(
    subject: Subject, x: Float[Tensor, "1 3 H W"], own_view: Tensor, photograph: Photograph
) -> Iterator[tuple[str, str, Said, tuple[str, ...], tuple[str, ...]]]:
    """What is said, of which kind, under which name, with the words that are right there."""
    name, exact, general = photograph.name, photograph.exact, photograph.general
    yield "classifier", name, subject.first_class(x), exact, general
    yield "classifier_own_view", name, subject.first_class(own_view), exact, general
    yield "said", name, subject.say(x), exact, general
    yield "said_at_place", name, subject.say(x, photograph.point), exact, general
    for point, words in photograph.elsewhere:
        yield "said_elsewhere", f"{name} {point[0]:.3f},{point[1]:.3f}", subject.say(x, point), words, ()


def _count(maps: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many queries were ranked first, and how many maps peak in their box; and what chance would give."""
    pointed = [row for row in maps.values() if row["in_box"] is not None]
    return {
        "first": sum(row["rank"] == 1 for row in maps.values()),
        "of": len(maps),
        "first_by_chance": sum(1 / (1 + len(row["others"])) for row in maps.values()),
        "in_box": sum(row["in_box"] for row in pointed),
        "pointed": len(pointed),
        "in_box_by_chance": sum(row["box"] for row in pointed),
    }


def _others(photographs: Sequence[Photograph], judge: Judge, seed: int) -> dict[str, list[str]]:
    """For each photograph the queries of others that are not right for it, drawn once from the seed."""
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
    """The rank of the query's mean among the other queries', and whether its map peaks in the box."""
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

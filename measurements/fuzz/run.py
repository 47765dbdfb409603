"""Draws cases by a seed, and counts what came of them."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from measurements.fuzz import calls, files, functions
from measurements.fuzz.outcome import Outcome
from torchnle.evaluation import record

#: Families of cases, and how often each is drawn.
FAMILIES: dict[str, tuple[Callable[[random.Random], Outcome], int]] = {
    "calls": (calls.call, 80),
    "captions": (files.captions, 30),
    "shards": (files.shards, 15),
    "pictures": (files.pictures, 40),
    "recipes": (files.recipes, 30),
    "folders": (files.folders, 15),
    "journals": (files.journals, 10),
    "words": (functions.words, 15),
    "concepts": (functions.concepts, 15),
    "explain": (functions.explain, 3),
    "audit": (functions.audits, 3),
    "extend_classifier": (functions.new_classes, 4),
    "concept_bottleneck": (functions.bottleneck, 4),
    "dissect": (functions.units, 3),
    "describe_dataset": (functions.folder, 6),
    "saving": (functions.saving, 4),
    "adapt": (functions.adapting, 5),
    "from_classifier": (functions.attaching, 6),
    "from_captions": (functions.captioned, 4),
}
_FAULTS = ("wrong", "nan", "hang", "raw")
_SHOWN = 40


def fuzz(count: int, seed: int) -> list[Outcome]:
    """Draw and judge so many cases; each depends on the seed and its own number alone.

    Args:
        count: How many.
        seed: Of all draws.
    """
    shards = importlib.util.find_spec("webdataset") is not None
    families = {name: family for name, family in FAMILIES.items() if shards or name != "shards"}
    names, weights = list(families), [weight for _, weight in families.values()]
    functions.warm()
    outcomes = []
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        outcomes.append(families[draw.choices(names, weights)[0]][0](draw))
    return outcomes


def report(outcomes: list[Outcome], seed: int) -> tuple[dict[str, Any], str]:
    """Return what JSON keeps, and the page."""
    families = sorted({outcome.family for outcome in outcomes})
    results = ("right", "accepted", "refused", *_FAULTS)
    counts = {f: Counter(o.result for o in outcomes if o.family == f) for f in families}
    kinds = Counter(outcome.kind for outcome in outcomes)
    faults = [f"{o.result}, {o.family}: {o.message}" for o in outcomes if o.is_fault]
    rows = [[family, *(counts[family][result] for result in results)] for family in families]
    shares = ", ".join(f"{count / len(outcomes):.0%} {kind}" for kind, count in sorted(kinds.items()))
    listed = "".join(f"- `{fault}`\n" for fault in faults[:_SHOWN]) or "none\n"
    page = (
        f"# Fuzz: {len(outcomes)} cases, seed {seed}\n\n`python -m measurements fuzz`: {shares}. "
        "'right' agreed with an oracle, 'accepted' has none, 'refused' is an error that torchnle wrote; the "
        f"others are faults.\n\n{record.table(['family', *results], rows)}\n\nFaults:\n\n{listed}"
    )
    data = {
        "setting": record.setting(),
        "seed": seed,
        "cases": len(outcomes),
        "kinds": dict(kinds),
        "families": {family: dict(count) for family, count in counts.items()},
        "faults": faults,
    }
    return data, page

"""Tries every case, and writes what came out."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from measurements.fuzz.outcome import in_time
from measurements.reliability.cases import (
    arguments,
    data,
    encoders,
    files,
    heads,
    language,
    locations,
    outputs,
    pictures,
    runs,
    saved_models,
    translators,
    untouched,
)
from measurements.reliability.cases.case import Case, short
from torchnle.evaluation import record

_MODELS = (heads, locations, untouched, arguments, language, encoders, saved_models, translators)
_FILES = (pictures, data, runs, files, outputs)
TOPICS = tuple(part.TOPIC for part in (*_MODELS, *_FILES))
_SECONDS = 300  # a case takes a second, the longest ten; more on a machine with other work


@dataclass(frozen=True)
class Row:
    """A case that was tried.

    Args:
        case: The case.
        found: What came out, or why it was skipped.
        holds: Whether that is right; None = skipped.
        seconds: How long it took.
    """

    case: Case
    found: str
    holds: bool | None
    seconds: float


def measure(words: Iterable[str] = ()) -> Iterator[Row]:
    """Try the cases on one thread, one after the other.

    Args:
        words: Only those whose topic or name holds one of these; none = all.
    """
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    listed = [case for topic in TOPICS for case in topic.cases]
    chosen = [c for c in listed if any(word in f"{c.topic} {c.name} {c.trial.__name__}" for word in words)]
    yield from (_tried(case) for case in (chosen if words else listed))


def _tried(case: Case) -> Row:
    if case.lacking:
        return Row(case, f"skipped: {', '.join(case.lacking)} is not installed", None, 0.0)
    begun = time.monotonic()
    try:
        with in_time(_SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, holds = case.trial()
    except Exception as error:  # noqa: BLE001 - what a case raises is what came out
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = short(f"{type(error).__name__}: {error}") + f" ({Path(last.filename).name}:{last.lineno})"
        holds = False
    return Row(case, found, holds, time.monotonic() - begun)


def report(rows: Sequence[Row]) -> tuple[dict[str, Any], str]:
    """Return what JSON keeps, and the page."""
    counts = Counter(row.holds for row in rows)
    labels = {True: "yes", False: "**no**", None: "skipped"}
    parts = [
        f"# {len(rows)} cases of faults, tried again\n\n`python -m measurements fault-cases`: {counts[True]} "
        f"hold, {counts[False]} do not, {counts[None]} are skipped for want of a package. Each stands for a "
        "kind of fault that was reported of software like this, or found here.\n"
    ]
    for topic in dict.fromkeys(row.case.topic for row in rows):
        listed = [r for r in rows if r.case.topic == topic]
        facts = [(r.case.name, r.case.given, r.case.right, r.found) for r in listed]
        escaped = [[*map(_cell, line), labels[r.holds]] for line, r in zip(facts, listed, strict=True)]
        parts.append(f"## {topic[0].upper()}{topic[1:]}\n")
        parts.append(record.table(["case", "given", "right", "found", "holds"], escaped) + "\n")
    data = {"setting": record.setting(), "hold": counts[True], "fail": counts[False], "skipped": counts[None]}
    return data | {"cases": [_facts(row) for row in rows]}, "\n".join(parts)


def _facts(row: Row) -> dict[str, Any]:
    names = ("topic", "name", "given", "right")
    facts = {name: getattr(row.case, name) for name in names}
    return facts | {"found": row.found, "holds": row.holds, "seconds": round(row.seconds, 2)}


def _cell(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    for sign in "\\`*_[]|$~":
        text = text.replace(sign, f"\\{sign}")
    shown = text.replace("<", "&lt;").replace(">", "&gt;")
    return "".join(sign if sign.isprintable() else f"\\{ascii(sign)[1:-1]}" for sign in shown)

"""The blind rating page: people rate several methods' labels of the same units (A.1.6)."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torchnle.methods.dissect.labels import Dissection
from torchnle.views import html

_QUESTION = "Does the description accurately describe most of these images?"
_ANSWERS = ("strongly disagree", "disagree", "neither", "agree", "strongly agree")
_SCRIPT = """
document.getElementById('save').onclick=()=>{const a={};
for(const u of document.querySelectorAll('fieldset')){const r={};
u.querySelectorAll('input:checked').forEach(i=>{const [k]=i.name.split('|').slice(-1);r[k]=Number(i.value)});
a[u.dataset.unit]=r}
const l=document.createElement('a');l.download='ratings.json';
l.href=URL.createObjectURL(new Blob([JSON.stringify(a)],{type:'application/json'}));l.click()};
"""


def write_rating_page(
    dissection: Dissection,
    labels: Mapping[str, Sequence[str]],
    units: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    exemplars: int = 10,
    side: int = 120,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write a page for blind rating of labels, and separately the key of which method gave which label.

    For each unit the page shows its exemplars and the methods' labels in random order, asks for a rating of
    each from 1 to 5 and for the best one, and saves the answers as a file.

    Args:
        dissection: Opens the exemplars.
        labels: Each method's label of each of `units`.
        units: The units' indices.
        folder: The folder of both files.
        exemplars: The number of exemplars per unit.
        side: The side of an exemplar, in pixels.
        seed: The seed of the orders.

    Returns:
        The page, and the key, which raters must not see.

    Raises:
        ValueError: If a method has not one label a unit, or there are fewer than two methods.
    """
    if len(labels) < 2 or any(len(texts) != len(units) for texts in labels.values()):
        raise ValueError(
            f"{len(labels)} methods for {len(units)} units; pass two or more, a label a unit each."
        )
    draws, key, parts = random.Random(seed), {}, []
    found = {label.unit: label for label in dissection}
    for position, unit in enumerate(units):
        order = draws.sample(list(labels), len(labels))
        key[str(unit)] = order
        shown = dissection.exemplars(found[unit], exemplars)
        pictures = "".join(html.picture(each.picture, side) for each in shown)
        texts = [labels[method][position] for method in order]
        parts.append(f'<fieldset data-unit="{unit}">{pictures}{_questions(unit, texts)}</fieldset>')
    body = f'<p>{_QUESTION}</p>{"".join(parts)}<p><button id="save">Save the answers</button></p>'
    page = html.write(Path(folder) / "rate.html", html.page("Rate descriptions", body, script=_SCRIPT))
    return page, html.write(Path(folder) / "key.json", json.dumps(key))


@dataclass(frozen=True)
class Ratings:
    """The aggregated ratings of one method's labels.

    Args:
        rating: The mean, from 1 to 5.
        error: Its standard error.
        best: The share of valid answers that chose the method's label as the best.
        answers: How many valid answers there are.
    """

    rating: float
    error: float
    best: float
    answers: int


def aggregate(
    answers: Sequence[Mapping[str, Mapping[str, Any]]], key: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Ratings], float]:
    """Aggregate the ratings of raters by method, without contradictory answers.

    An answer for a unit is valid if every label is rated and the best one is among those rated highest.

    Args:
        answers: What raters' pages saved: for each unit the ratings "0", "1", ... and "best".
        key: Whose labels these are, in the page's order.

    Returns:
        Each method's ratings, and the share of valid answers (the paper's: about 75 %).

    Raises:
        ValueError: If no answer is valid.

    Example:
        >>> aggregate([{"7": {"0": 5, "1": 2, "best": 0}}], {"7": ["ours", "theirs"]})[0]["ours"].best
        1.0
    """
    scores: dict[str, list[float]] = {}
    chosen: list[str] = []
    given = 0
    for sheet in answers:
        for unit, rated in sheet.items():
            order = key[unit]
            given += 1
            values = [float(rated.get(str(position)) or 0) for position in range(len(order))]
            best = rated.get("best")
            if best is None or 0 in values or values[int(best)] < max(values):
                continue
            chosen.append(order[int(best)])
            for method, value in zip(order, values, strict=True):
                scores.setdefault(method, []).append(value)
    if not chosen:
        raise ValueError(f"none of {given} answers is valid: all labels rated, and the best rated highest.")
    found = {}
    for method, values_of in scores.items():
        count, mean = len(values_of), sum(values_of) / len(values_of)
        variance = sum((v - mean) ** 2 for v in values_of) / max(1, count - 1)
        found[method] = Ratings(mean, math.sqrt(variance / count), chosen.count(method) / len(chosen), count)
    return found, len(chosen) / given


def _questions(unit: int, texts: Sequence[str]) -> str:
    rows = []
    for position, text in enumerate(texts):
        name = f"{unit}|{position}"
        buttons = "".join(
            f'<label title="{answer}"><input type="radio" name="{name}" value="{value}">{value}</label>'
            for value, answer in enumerate(_ANSWERS, start=1)
        )
        best = f'<label><input type="radio" name="{unit}|best" value="{position}">best</label>'
        rows.append(f"<tr><td>{escape(text)}</td><td>{buttons}</td><td>{best}</td></tr>")
    return f"<table>{''.join(rows)}</table>"

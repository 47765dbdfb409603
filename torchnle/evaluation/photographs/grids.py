"""Pictures of four photographs: is each one named, and found, in its own quarter?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from torchnle.evaluation.photographs.judge import Judge
from torchnle.evaluation.photographs.said import rates
from torchnle.evaluation.photographs.subject import Subject
from torchnle.evaluation.photographs.truth import Photograph
from torchnle.metrics import box_masks, pointing_hits

_QUARTERS = ((0, 0), (1, 0), (0, 1), (1, 1))  # columns and rows


def measure_grids(
    subject: Subject, photographs: Sequence[Photograph], judge: Judge, *, seed: int, rounds: int
) -> dict[str, Any]:
    """Describe the middle of each quarter, and look for each quarter's text.

    Args:
        subject: What is asked.
        photographs: Those that the classifier itself names rightly.
        judge: Says what is right.
        seed: Of the order of photographs.
        rounds: How often each photograph is used, at most.

    Returns:
        "count" of grids, "photographs" they were made from, the `rates` of what is "said", and the share of
        queries whose map peaks "in_quarter" (chance: 0.25).
    """
    said, verdicts, hits, count = [], [], [], 0
    for group in _groups(photographs, judge, seed, rounds):
        count += 1
        x = subject.input(_together(group, subject.preprocess.size))
        maps = subject.maps(x, [photograph.query for photograph in group])
        size = (maps.shape[-2], maps.shape[-1])
        quarters = box_masks([_quarter(place, size) for place in _QUARTERS], size)
        hits += pointing_hits(maps, quarters, tolerance=0).tolist()
        for photograph, (column, row) in zip(group, _QUARTERS, strict=True):
            text = subject.say(x, (0.25 + column / 2, 0.25 + row / 2))
            said.append(text)
            verdicts.append(judge(text.text, photograph.exact, photograph.general))
    return {
        "count": count,
        "photographs": len(photographs),
        "said": rates(said, verdicts),
        "in_quarter": sum(hits) / len(hits) if hits else float("nan"),
    }


def _groups(
    photographs: Sequence[Photograph], judge: Judge, seed: int, rounds: int
) -> Iterator[list[Photograph]]:
    """Fours of photographs of different things; what is left over in a round is not used in it."""
    draw = random.Random(seed)
    for _ in range(rounds):
        left = draw.sample(photographs, len(photographs))
        while len(left) >= len(_QUARTERS):
            group: list[Photograph] = []
            for photograph in left:
                if len(group) < len(_QUARTERS) and all(_differ(photograph, o, judge) for o in group):
                    group.append(photograph)
            left = [photograph for photograph in left if photograph not in group]
            if len(group) == len(_QUARTERS):
                yield group


def _differ(one: Photograph, other: Photograph, judge: Judge) -> bool:
    return not (
        judge(one.query, other.exact, other.general).is_right
        or judge(other.query, one.exact, one.general).is_right
    )


def _together(group: Sequence[Photograph], side: int) -> Image.Image:
    picture = Image.new("RGB", (side, side))
    for photograph, place in zip(group, _QUARTERS, strict=True):
        x0, y0, x1, y1 = _quarter(place, (side, side))
        picture.paste(photograph.open().resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), (x0, y0))
    return picture


def _quarter(place: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    (column, row), (height, width) = place, size
    x, y = (0, width // 2, width), (0, height // 2, height)
    return x[column], y[row], x[column + 1], y[row + 1]

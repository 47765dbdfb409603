"""Grids of four photographs: whether each is described and located in its own quarter."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from torchnle.evaluation.photographs.answers import Answer, rates
from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.subject import Subject
from torchnle.evaluation.photographs.truth import Photograph
from torchnle.metrics import box_masks, pointing_hits

_QUARTERS = ((0, 0), (1, 0), (0, 1), (1, 1))  # columns and rows


class Grids:
    """Measures descriptions and maps of texts on grids of four photographs.

    Args:
        judge: Judges the texts.
        seed: The seed of the order of photographs.
        rounds: The largest number of grids per photograph.
    """

    def __init__(self, judge: Judge, *, seed: int, rounds: int) -> None:
        self._judge, self._seed, self._rounds = judge, seed, rounds
        self._count = self._photographs = 0
        self._answers: list[Answer] = []
        self._verdicts: list[Verdict] = []
        self._hits: list[float] = []

    def read(self, subject: Subject, photographs: Sequence[Photograph]) -> None:
        """Compose grids of photographs that the classifier classifies correctly, and describe and map them.

        Args:
            subject: The model and translator.
            photographs: The photographs.
        """
        self._photographs += len(photographs)
        for group in _groups(photographs, self._judge, self._seed, self._rounds):
            self._count += 1
            self._read(subject, group)

    def summary(self) -> dict[str, Any]:
        """Summarise the results.

        Returns:
            "count", the number of grids; "photographs", the number of different photographs; "said", the
            `rates` of the descriptions; "in_quarter", the share of texts whose map has its maximum in the
            right quarter (chance: 0.25).
        """
        return {
            "count": self._count,
            "photographs": self._photographs,
            "said": rates(self._answers, self._verdicts),
            "in_quarter": sum(self._hits) / len(self._hits) if self._hits else float("nan"),
        }

    def _read(self, subject: Subject, group: Sequence[Photograph]) -> None:
        x = subject.input(_together(group, subject.preprocess.size))
        maps = subject.maps(x, [photograph.query for photograph in group])
        size = (maps.shape[-2], maps.shape[-1])
        quarters = box_masks([_quarter(cell, size) for cell in _QUARTERS], size)
        self._hits += pointing_hits(maps, quarters, tolerance=0).tolist()
        for photograph, (column, row) in zip(group, _QUARTERS, strict=True):
            answer = subject.say(x, (0.25 + column / 2, 0.25 + row / 2))
            self._answers.append(answer)
            self._verdicts.append(self._judge(answer.text, photograph.exact, photograph.general))


def _groups(
    photographs: Sequence[Photograph], judge: Judge, seed: int, rounds: int
) -> Iterator[list[Photograph]]:
    """Group photographs of different objects by four; a round's remainder is not used in it."""
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
    for photograph, cell in zip(group, _QUARTERS, strict=True):
        x0, y0, x1, y1 = _quarter(cell, (side, side))
        picture.paste(photograph.open().resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), (x0, y0))
    return picture


def _quarter(cell: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    (column, row), (height, width) = cell, size
    x, y = (0, width // 2, width), (0, height // 2, height)
    return x[column], y[row], x[column + 1], y[row + 1]

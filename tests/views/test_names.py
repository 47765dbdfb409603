"""Outputs of several inputs never overwrite one another."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from torchnle.views.names import output_names


@pytest.mark.parametrize("seed", range(20))
def test_no_two_names_are_equal(seed):
    drawn = random.Random(seed)
    folders, stems = (
        ["a", "b", "A", "a/b", "a_b", "."],
        ["photo", "Photo", "photo_1", "a_photo", "x" * 300, "1"],
    )
    paths = [
        Path(drawn.choice(folders), drawn.choice(stems) + drawn.choice([".jpg", ".png", ".JPG", ""]))
        for _ in range(40)
    ]
    names = output_names(paths)
    assert len({name.lower() for name in names}) == len(paths)
    assert all("/" not in name and 0 < len(name) < 100 for name in names)


def test_a_name_alone_is_its_stem():
    assert output_names([Path("x/cat.jpg"), Path("y/dog.png")]) == ["cat", "dog"]

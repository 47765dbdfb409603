"""The rules by which unit labels are right, and present in pictures; intervals and named measures."""

import numpy as np
import pytest
import torch
from PIL import Image

from measurements.units.intervals import difference, interval, ratio
from measurements.units.labellers import _random
from measurements.units.planted import Concept, Planted, is_right, maps_of
from measurements.units.presence import presence
from measurements.units.run import _function
from torchnle.data.scenes import Scene, SceneObject


def scene(*phrases):
    objects = []
    for number, phrase in enumerate(phrases):
        mask = np.zeros((28, 28), bool)
        mask[:14, 14 * number : 14 * number + 14] = True
        objects.append(SceneObject(phrase, (14 * number, 0, 14 * number + 14, 14), mask))
    return Scene(Image.new("RGB", (28, 28)), "", tuple(objects))


@pytest.mark.parametrize(
    ("label", "thing", "colour", "right"),
    [
        ("a car", "a car", None, True),
        ("a red car", "a car", None, False),
        ("a red car", "a car", "red", True),
        ("a car", "a car", "red", False),
        ("a blue car", "a car", "red", False),
        ("an automobile", "a car", None, True),
        ("a vehicle", "a car", None, False),
        ("", "a car", None, False),
    ],
)
def test_a_label_is_right_with_the_thing_and_its_colour(label, thing, colour, right):
    assert is_right(label, Concept(thing, colour)) is right


def test_planted_maps_are_the_masks_of_what_fits():
    concepts = [Concept("a car", None), Concept("a car", "red"), Concept("a cat", None)]
    maps = maps_of(scene("a red car", "a blue car"), concepts)
    assert maps.shape == (3, 14, 14)
    assert maps[0, :7].eq(1).all()
    assert maps[0, 7:].eq(0).all()
    assert maps[1, :7, :7].eq(1).all()
    assert maps[1, :, 7:].eq(0).all()
    assert maps[2].eq(0).all()
    model = Planted(torch.nn.Identity())
    known, unknown = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    model.planted.remember(known, maps)
    found = model.planted(torch.stack([unknown, known]))
    assert found[0].eq(0).all()
    assert torch.equal(found[1], maps)


def test_labels_are_present_where_a_kind_of_them_is():
    scenes = [scene("a red car", "a hen"), scene("a hen"), scene("a goldfish")]
    found = presence(["a car", "a vehicle", "a bird", "a fish", "a qwert", "", "hen"], scenes)
    assert found.T.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_intervals_are_over_units_and_pair_what_is_compared():
    first = torch.randn(200, generator=torch.Generator().manual_seed(0)) + 3
    mean, low, high = interval(first)
    error = float(first.std()) / 200**0.5
    assert mean == pytest.approx(float(first.mean()), abs=1e-3)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.04)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.04)
    assert difference(first + 0.5, first) == pytest.approx([0.5] * 3, abs=1e-3)  # paired: no spread is left
    assert ratio(2 * first, first) == pytest.approx([2.0] * 3, abs=1e-3)


def test_random_labels_are_other_units_and_named_measures_are_found():
    truth = [f"a {letter}" for letter in "abcdefgh"]
    drawn = _random(truth, 0)
    assert all(other in truth and other != own for other, own in zip(drawn, truth, strict=True))
    assert drawn == _random(truth, 0) != _random(truth, 1)
    from torchnle.metrics.units import cosine

    assert _function("torchnle.metrics.units:cosine") is cosine
    with pytest.raises(ValueError, match="names no function"):
        _function("torchnle.metrics.units")

"""The embedded default on real photographs: what issue 2 says it must show."""

from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.real

#: Written before the first run and not changed since.
QUERIES = [
    "a cat",
    "a cup of coffee",
    "a rocket launch",
    "a motorcycle",
    "a dog",
    "a bicycle",
    "a bowl of soup",
    "a piano",
    "a beach",
    "a castle",
    "a bird",
    "a forest",
    "a guitar",
    "a laptop",
    "a sandwich",
    "a ship",
    "a mountain",
    "a clock",
    "a horse",
    "a spoon",
]
PHOTOGRAPHS = {
    "chelsea.png": "a cat",
    "coffee.png": "a cup of coffee",
    "rocket.jpg": "a rocket launch",
    "motorcycle_left.png": "a motorcycle",
}


@pytest.fixture(scope="module")
def zero_shot():
    from torchnle import backbones
    from torchnle.methods.zero_shot import fit_zero_shot

    backbone = backbones.load()
    return backbone, fit_zero_shot(backbone.model, backbone.class_names, torch.zeros(1, 3, 224, 224))


def read(zero_shot, name):
    import skimage

    from torchnle.features import Features
    from torchnle.images import open_image
    from torchnle.taps import record

    backbone, fitted = zero_shot
    image = backbone.preprocess(open_image(Path(skimage.__file__).parent / "data" / name))
    (activation,) = record(backbone.model, [fitted.head.tap], image[None])
    return Features.from_activation(activation, fitted.head.tap.name, layout=fitted.head.layout)


@pytest.mark.parametrize(("name", "query"), PHOTOGRAPHS.items())
def test_the_right_query_comes_first(zero_shot, name, query):
    _, fitted = zero_shot
    scores = fitted.translator.score(fitted.head.read(read(zero_shot, name), None), QUERIES)[0]
    best, second = scores.topk(2).values.tolist()
    assert QUERIES[int(scores.argmax())] == query
    assert best > second + 0.02


def test_the_cat_is_where_the_cat_is(zero_shot):
    """Chelsea fills the crop but for its right edge, and her face is left of the middle."""
    _, fitted = zero_shot
    features = read(zero_shot, "chelsea.png")
    (place_map,) = features.fold(fitted.translator.score(features, ["a cat"])).squeeze(-1)
    row, column = divmod(int(place_map.argmax()), 7)
    assert 1 <= row <= 5
    assert column <= 5
    assert place_map[2:6, 1:6].mean() > place_map[:, 6].mean() + 0.05


def test_the_motorcycle_is_where_the_motorcycle_is(zero_shot):
    """It stands in the middle rows; above are shelves, below is the floor."""
    _, fitted = zero_shot
    features = read(zero_shot, "motorcycle_left.png")
    (place_map,) = features.fold(fitted.translator.score(features, ["a motorcycle"])).squeeze(-1)
    row, column = divmod(int(place_map.argmax()), 7)
    assert 2 <= row <= 5
    assert column <= 5
    assert place_map[2:5, :5].mean() > place_map[[0, 1, 6]].mean() + 0.05


def test_descriptions_of_whole_photographs(zero_shot):
    _, fitted = zero_shot
    said = {
        name: fitted.translator.describe(fitted.head.read(read(zero_shot, name), None))[0].text
        for name in PHOTOGRAPHS
    }
    assert "cat" in said["chelsea.png"]
    assert "espresso" in said["coffee.png"]
    assert "rocket" in said["rocket.jpg"]
    assert "motorcycle" in said["motorcycle_left.png"] or "moped" in said["motorcycle_left.png"]

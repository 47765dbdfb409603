"""The measurement of lower layers on a tiny classifier: what is counted, and what is written down."""

import json

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image

from measurements.costs import Clock
from measurements.lens import Subject, measure_costs, measure_photographs, page
from measurements.lens.scenes import classified, named
from torchnle.backbones import Backbone, Preprocess
from torchnle.evaluation.photographs.truth import Photograph

NAMES = ("cat", "dog", "bird", "house", "tree")


@pytest.fixture(scope="module")
def subject():
    backbone = Backbone(conv_net(), Preprocess(size=16, mean=127.0, std=128.0), NAMES, "tiny")
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = Subject(backbone, ["act"], images, images[:1])
    made.encoder = LetterEncoder()
    return made


def test_features_of_a_class_are_named_by_it_and_by_the_phrase_of_its_words(subject):
    translator = subject.class_names()
    (layer,) = translator.layers
    fitted = translator.by_layer[layer]
    rows = fitted.center + 3 * translator.directions(layer, ["a dog", "a tree"])
    truth = ["a dog", "a tree"]
    assert named(translator, rows, truth, ["a tree", "a dog", "a cat"]) == 1.0
    assert named(translator, rows, truth[::-1], ["a tree", "a dog", "a cat"]) == 0.0
    found = classified(subject, translator, rows, ["a brown dog", "a door"])
    assert (found["objects"], found["right"]) == (1, 1.0)


def test_costs_are_of_every_layer_and_way(subject):
    found = measure_costs(subject, subject.images[:1], Clock(rounds=1, limit=1))
    assert found["act"]["locations"] == 256
    assert 0 < found["act"]["operations"] < 1
    for kind in ("lens", "fitted lens"):
        assert found["act"][kind]["all"]["median"] > 0
    assert "| act | 256 |" in page({"costs": found})


def test_photographs_are_counted_at_every_layer(subject, tmp_path):
    known = []
    for index, name in enumerate(("cat", "dog", "house", "tree")):
        file = tmp_path / f"{name}.png"
        Image.new("RGB", (20, 20), (60 * index, 200 - 40 * index, 90)).save(file)
        known.append(
            Photograph(name, file, f"a {name}", (name,), (), (0.5, 0.5), (0.0, 0.0, 1.0, 1.0), False)
        )
    known[1] = Photograph(*[*vars(known[1]).values()][:7], True)
    found = json.loads(json.dumps(measure_photographs(subject, known, ["lens", "fitted lens"])))
    assert list(found) == ["norm", "act, lens", "act, fitted lens"]
    for each in found.values():
        assert each["location"]["count"] == each["of"] == 4
        assert (each["in_box"], each["pointed"]) == (1, 1)  # the box is the whole picture
    assert "| act, lens |" in page({"photographs": found})

"""Logits among several outputs: by name, by the number of classes, by what a linear layer gives."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import LanguageAttribution, suggest_layers
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.vision.reading import read

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAMES = ["cat", "dog", "car", "tree"]
Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Given:
    features: torch.Tensor
    scores: torch.Tensor


SHAPES = {
    "features first in a dict": lambda f, y, other: {"features": f, "logits": y},
    "without the name": lambda f, y, other: {"embedding": f, "scores": y},
    "features first in a tuple": lambda f, y, other: (f, y),
    "logits first": lambda f, y, other: (y, f),
    "two heads": lambda f, y, other: (other, y),
    "two named heads": lambda f, y, other: {"coarse": other, "fine": y},
    "another head is called logits": lambda f, y, other: {"logits": other, "fine": y},
    "a list": lambda f, y, other: [f, y],
    "nested": lambda f, y, other: {"out": (f, [y])},
    "a part of the features has that width": lambda f, y, other: (f[:, :4], y),
    "a named tuple": lambda f, y, other: Pair(f, y),
    "a dataclass": lambda f, y, other: Given(f, y),
    "beside a loss and a name": lambda f, y, other: {"loss": None, "kind": "a", "maps": f, "out": y},
}


class Model(nn.Module):
    def __init__(self, shape=lambda f, y, other: y, squash=lambda y: y, channels=3):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(channels, 16, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body, self.head, self.other = nn.Sequential(*layers), nn.Linear(16, 4), nn.Linear(16, 7)
        self.shape, self.squash = shape, squash

    def forward(self, x):
        features = self.body(x)
        return self.shape(features, self.squash(self.head(features)), self.other(features))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_tensor_of_as_many_classes_as_names(shape):
    model = Model(shape).eval()
    head = find_head(model, X, 4)
    (features,) = read(model, [head.tap], X, None, head.reading)
    assert head.head_name == "head"
    torch.testing.assert_close(head.logits(features), model.head(model.body(X)))


@pytest.mark.parametrize("shape", [SHAPES["two heads"], SHAPES["features first in a dict"]])
def test_no_output_of_that_width_says_the_shapes(shape):
    with pytest.raises(ValueError, match=r"5 class names|7 classes|4 classes"):
        find_head(Model(shape).eval(), X, 5)


@pytest.mark.parametrize(
    "squash",
    [
        lambda y: F.softmax(y / 3, dim=1),
        lambda y: F.log_softmax(y / 3, dim=1),
        lambda y: y.softmax(1),
        lambda y: y.log_softmax(1),
        lambda y: y.sigmoid(),
    ],
)
def test_probabilities_say_how_to_pass_the_head(squash):
    with pytest.raises(ValueError, match=r"no logits. Pass a model"):
        find_head(Model(squash=squash).eval(), X, 4)


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_the_example_has_the_channels_of_the_first_convolution(channels):
    assert find_head(Model(channels=channels).eval(), example_for(Model(channels=channels)), 4).tap.name


def test_other_sizes_say_to_pass_an_example():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12 * 12, 4)).eval()
    with pytest.raises(ValueError, match="pass example="):
        LanguageAttribution.from_classifier(model, NAMES, encoder=LetterEncoder(), vocabulary=())


@pytest.mark.parametrize("example", [(X, torch.zeros(2)), [X], "photo.jpg", None.__class__])
def test_an_example_that_is_no_tensor(example):
    options = {"encoder": LetterEncoder(), "vocabulary": (), "example": example}
    with pytest.raises(TypeError, match="pass one tensor"):
        LanguageAttribution.from_classifier(Model().eval(), NAMES, **options)


class TestWeightsElsewhere:
    def fit(self, model):
        options = {"encoder": LetterEncoder(), "vocabulary": (), "example": X}
        return LanguageAttribution.from_classifier(model, NAMES, **options)

    def test_offloaded(self):
        accelerate = pytest.importorskip("accelerate")
        model = Model().eval()
        accelerate.cpu_offload(model, torch.device("cpu"))
        with pytest.raises(ValueError, match="offloaded by accelerate"):
            self.fit(model)

    def test_on_meta(self):
        with torch.device("meta"):
            model = Model().eval()
        with pytest.raises(ValueError, match="meta device"):
            self.fit(model)

    def test_made_in_inference_mode(self):
        expected = self.fit(Model().eval()).saliency(X, ["cat"])
        with torch.inference_mode():
            model, inputs = Model().eval(), X.clone()
        lang = self.fit(model)
        assert torch.equal(lang.saliency(inputs, ["cat"]), expected)
        layer = model.body[1]
        assert [f.name for f in suggest_layers(model, inputs)] == ["body.1"]
        assert layer is model.body[1]
        assert all(weight.is_inference() for weight in model.parameters())
        with torch.inference_mode():
            assert torch.equal(lang.saliency(inputs, ["cat"]), expected)

"""A tiny classifier, images captioned with what it takes them for, and features as its layers give them."""

import math

import pytest
import torch
from fakes import conv_net
from map_world import drawn

from torchnle.vision.features import Features

NAMES = ["cat", "dog", "bird", "house", "tree"]
VOCABULARY = ["a zebra", "grass", "a red door"]
IMAGES = drawn(40, 3, 8, 8, seed=3)
TEXTS = ["a cat", "zebra", "a red door"]
WIDTHS = {"layer": 6, "norm": 6, "stem": 4}


def network():
    model = conv_net()
    model.head.weight.data *= 50
    with torch.no_grad():
        model.head.bias -= model(IMAGES).mean(0)  # so that every class is met
    return model


MODEL = network()


def batches(model=MODEL):
    """Every image is captioned with what the classifier takes it for."""
    wanted = [f"a {NAMES[i]}" for i in model(IMAGES).argmax(1)]
    return [(IMAGES[:20], wanted[:20]), (IMAGES[20:], wanted[20:])]


def features(layer="norm", images=3, grid=(2, 3), seed=1, scale=2.0):
    return Features(scale * drawn(images, math.prod(grid), WIDTHS[layer], seed=seed), layer, grid)


def same(first, second):
    """Descriptions that say the same, up to rounding."""
    assert [(d.text, d.layer, d.location, d.unsure) for d in first] == [
        (d.text, d.layer, d.location, d.unsure) for d in second
    ]
    for name in ("score", "probability"):
        a, b = ([getattr(d, name) for d in each] for each in (first, second))
        assert a == pytest.approx(b, abs=1e-4)
    for a, b in zip(first, second, strict=True):
        assert dict(a.phrases) == pytest.approx(dict(b.phrases), abs=1e-4)

"""A world in which every answer is known: coloured squares, a model that averages colours, and a translator
that says which colour is nearest."""

from __future__ import annotations

import torch
from tiny_translators import tiny_language_model
from torch import Tensor, nn

from torchnle.backbones import Backbone, Preprocess
from torchnle.data import Scenes, plain_backgrounds, shapes
from torchnle.data.palette import COLOURS
from torchnle.description import Description
from torchnle.evaluation.subject import attach
from torchnle.methods.devil import devil_translator
from torchnle.translators.base import Translator

NAMES = ("red", "green", "blue", "yellow")
PHRASES = tuple(f"a {name} square" for name in NAMES)
SIZE = 64


def backbone() -> Backbone:
    """Two layers of colours, on 8x8 and on 4x4 locations; the classes are the colours."""
    model = nn.Sequential()
    model.add_module("fine", nn.AvgPool2d(8))
    model.add_module("coarse", nn.AvgPool2d(2))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flat", nn.Flatten())
    head = nn.Linear(3, len(NAMES))
    with torch.no_grad():
        head.weight.copy_(torch.nn.functional.normalize(colours() - colours().mean(0), dim=1) * 20)
        head.bias.zero_()
    model.add_module("head", head)
    return Backbone(model.eval(), Preprocess(size=SIZE, mean=127.5, std=127.5), NAMES, "colours")


def colours() -> Tensor:
    return torch.tensor([[COLOURS[name][i] / 127.5 - 1 for i in range(3)] for name in NAMES])


def scenes(length: int = 12, seed: int = 0, objects: tuple[int, int] = (2, 2)) -> Scenes:
    white = [ground for ground in plain_backgrounds() if "white" in ground.location]
    squares = shapes(names=["square"], colours=list(NAMES))
    return Scenes(
        squares,
        white,
        length=length,
        size=SIZE,
        objects=objects,
        scale=(0.4, 0.5),
        max_overlap=0.0,
        seed=seed,
    )


class ColourTranslator(Translator):
    """Scores a colour by how near a feature is to it; reads any layer."""

    score_kind = "cosine"

    def __init__(self) -> None:
        super().__init__()
        self.layers = ("fine", "coarse")

    @property
    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()

    def score(self, rows, texts, *, prior=False, internal_batch_size=None):
        means = [torch.stack([x.squeeze(1) for x in group.tokens.values()]).mean(0) for group in rows]
        wanted = torch.stack([colours()[NAMES.index(_colour(text))] for text in texts])
        return -torch.cdist(torch.cat(means), wanted)

    def describe(self, rows, *, internal_batch_size=None):
        scores = self.score(rows, PHRASES)
        return [Description(PHRASES[i], 0.0) for i in scores.argmax(dim=1).tolist()]


def _colour(text: str) -> str:
    return next(name for name in NAMES if name in text)


def tiny_devil():
    """DeViL's translator of 2 layers and a language model of ten words, both random, on the colour model."""
    model = backbone()
    layers = {"fine": 3, "coarse": 3}
    translator = devil_translator(
        layers,
        tiny_language_model(),
        prefix_length=2,
        width=8,
        depth=1,
        heads=2,
        feedforward=8,
        max_new_tokens=4,
    )
    return model, attach(model, translator.eval())

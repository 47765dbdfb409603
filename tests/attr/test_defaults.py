"""Defaults of PyTorch that a user sets change no answer: dtype, device, inference mode, autocast."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from tiny import make_lm
from tiny_translators import Doubler

from measurements.reliability.cases.case import set_default_device
from torchnle import LanguageAttribution, NeuronLanguageAttribution, TextScore, suggest_layers
from torchnle.methods.devil import devil_translator
from torchnle.methods.zero_shot.bottleneck import concept_bottleneck
from torchnle.methods.zero_shot.new_classes import extend_classifier
from torchnle.translators.base import Translator

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NAMES = ["cat", "dog", "car", "tree", "sky"]
OPTIONS = {"encoder": LetterEncoder(), "example": X}


@contextmanager
def dtype(value):
    torch.set_default_dtype(value)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def device(value):
    set_default_device(value)
    try:
        yield
    finally:
        set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "float64": lambda: dtype(torch.float64),
    "bfloat16": lambda: dtype(torch.bfloat16),
    "float16": lambda: dtype(torch.float16),
    "meta": lambda: device("meta"),
    "cpu": lambda: device("cpu"),
    "a device's block": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "deterministic algorithms": deterministic,
    "no gradients": torch.no_grad,
    "training": nullcontext,
}
_SIZES = {"prefix_length": 2, "width": 8, "depth": 1, "heads": 2, "feedforward": 8}


#: Made before a setting, as a user's own are.
DEVIL = devil_translator({"layer": 6}, make_lm(), max_new_tokens=4, **_SIZES).eval()
LETTERS, DOUBLER = LetterTranslator(), Doubler(4)


def devil(model):
    return LanguageAttribution(model, "layer", DEVIL)


def fitted(model):
    return LanguageAttribution.from_classifier(model, NAMES, vocabulary=("grass",), **OPTIONS)


def saved(model, tmp_path):
    DOUBLER.save_pretrained(tmp_path / "t")
    return Translator.from_pretrained(tmp_path / "t").weight.detach()


CALLS = {
    "saliency": lambda model, _: fitted(model).saliency(X, ["a cat", "grass"]),
    "attribute": lambda model, _: fitted(model).attribute(X, target="a cat"),
    "describe": lambda model, _: [str(d) for d in fitted(model).describe(X)],
    "locations": lambda model, _: [str(d) for d in fitted(model).describe(X, where="all")[1]],
    "adapt": lambda model, _: fitted(model).adapt([X]).saliency(X, ["a cat"]),
    "captions": lambda model, _: LanguageAttribution.from_captions(
        model, "layer", [(X, ["a red cat", "a dog"])], encoder=LetterEncoder(), vocabulary=()
    ).saliency(X, ["a cat"]),
    "lens": lambda model, _: LanguageAttribution.from_classifier(
        model, NAMES, "act", vocabulary=(), **OPTIONS
    ).saliency(X, ["a cat"]),
    "devil": lambda model, _: devil(model).describe(X)[0].text,
    "devil's map": lambda model, _: devil(model).saliency(X, ["a cat"]),
    "top_texts": lambda model, _: [
        d.text for d in devil(model).top_texts(X, ["a cat", "sky"], where=None).found
    ],
    "top_locations": lambda model, _: [d.location for d in devil(model).top_locations(X, "a cat", k=3).found],
    "unit": lambda model, _: NeuronLanguageAttribution(model, "layer", LETTERS).attribute(X, 2),
    "text score": lambda model, _: TextScore(model, "layer", LETTERS, ["a cat"])(X),
    "saved": saved,
    "layers": lambda model, _: [layer.name for layer in suggest_layers(model, X)],
    "new classes": lambda model, _: extend_classifier(model, ["a hen"], class_names=NAMES, **OPTIONS)(X),
    "bottleneck": lambda model, _: concept_bottleneck(
        model, class_names=NAMES, concepts=["fur", "metal", "leaf"], **OPTIONS
    )(X),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    return {name: call(conv_net(), folder / name.replace(" ", "_")) for name, call in CALLS.items()}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_answers_are_the_same(setting, name, expected, tmp_path):
    model = conv_net()  # made before, as models are that were trained in float32
    if setting == "training":
        model.train()
    with SETTINGS[setting]():
        found = CALLS[name](model, tmp_path)
    wanted = expected[name]
    if isinstance(wanted, torch.Tensor):
        assert (found.dtype, found.device) == (wanted.dtype, wanted.device)
        torch.testing.assert_close(found.clone(), wanted, atol=1e-5, rtol=1e-4)
    else:
        assert found == wanted
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["saliency", "attribute", "lens", "devil's map", "unit", "text score"])
def test_autocast_gives_float32(name, expected, tmp_path):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = CALLS[name](conv_net(), tmp_path)
    if isinstance(expected[name], torch.Tensor):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[name], atol=0.3, rtol=0.3)


def test_a_models_own_code_sees_the_users_defaults():
    seen = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 6, 4, 4)

        def forward(self, x):
            seen.append(torch.zeros(1).dtype)
            return self.layer(x)

    with dtype(torch.float64):
        LanguageAttribution(Model(), "layer", LetterTranslator().double()).saliency(X.double(), ["a cat"])
    assert set(seen) == {torch.float64}

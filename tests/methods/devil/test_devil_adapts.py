"""`adapt` on a DeViL translator replaces the statistics of the map that it starts from."""

from __future__ import annotations

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from map_world import drawn
from tiny_translators import WIDTH, tiny_decoder, tiny_language_model

from torchnle import LanguageAttribution
from torchnle.methods.devil.map_start import MapStart
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.prefix import PrefixTranslator

IMAGES = drawn(12, 3, 8, 8, seed=3)
OTHERS = 2 + drawn(12, 3, 8, 8, seed=4)
MODEL = conv_net()
CHANGE = {"width": 8, "depth": 1, "heads": 2, "feedforward": 16}


def of_names():
    names = ["cat", "dog", "bird", "house", "tree"]
    given = {"example": IMAGES[:2], "vocabulary": ["grass"], "encoder": LetterEncoder()}
    return LanguageAttribution.from_classifier(MODEL, names, **given)


def devil(lang):
    lm = tiny_language_model()
    lang.translator.decoder = tiny_decoder(lm)
    torch.manual_seed(1)
    network = MapStart.of(lang.translator, WIDTH, **CHANGE).eval()
    torch.nn.init.normal_(network.change.output.weight)
    layers, translator = list(lang.translator.layers), PrefixTranslator(network, lm, prompt="the")
    return LanguageAttribution(MODEL, layers, translator, reading=lang.reading)


def test_the_map_is_adapted_as_alone():
    alone, inside = of_names(), devil(of_names())
    alone.adapt(OTHERS)
    before = inside.saliency(IMAGES, ["a dog"])
    assert inside.adapt(OTHERS) is inside
    for name, tensor in alone.translator.state_dict().items():
        torch.testing.assert_close(inside.translator.network.map.state_dict()[name], tensor)
    assert not torch.allclose(inside.saliency(IMAGES, ["a dog"]), before, atol=1e-3)


def test_a_second_time_replaces_the_first():
    once, twice = devil(of_names()), devil(of_names())
    twice.adapt(OTHERS).adapt(IMAGES)
    once.adapt(IMAGES)
    torch.testing.assert_close(twice.saliency(IMAGES, ["a dog"]), once.saliency(IMAGES, ["a dog"]))


def test_a_network_without_a_map_cannot_be_adapted():
    lm = tiny_language_model()
    (layer,) = of_names().translator.layers
    width = of_names().translator.by_layer[layer].width
    network = DeViLNetwork({layer: width}, WIDTH, prefix_length=2, **CHANGE)
    translator = PrefixTranslator(network, lm)
    assert translator.adaptable is None
    with pytest.raises(TypeError, match="PrefixTranslator has no statistics of pictures"):
        LanguageAttribution(MODEL, [layer], translator).adapt(IMAGES)

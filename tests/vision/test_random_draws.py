"""A model that draws at random in evaluation is named, once, at no cost to those that do not."""

import warnings

import pytest
import torch
from fakes import LetterTranslator
from torch import nn
from torch.nn import functional as F

from torchnle import LanguageAttribution
from torchnle.heads.classifier_head import find_head
from torchnle.vision.taps import record, resolve

IMAGES = torch.rand(2, 3, 8, 8)


class Noise(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class Unused(nn.Module):
    def forward(self, x):
        torch.rand(3)
        return x


def run(model, images=IMAGES):
    record(model, resolve(model, next(name for name, _ in model.named_children())), images)


def net(middle):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Sequential(middle), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def test_the_module_is_named():
    with pytest.warns(UserWarning, match=r"Sequential draws at random in evaluation in '1\.0' \(Noise\)"):
        run(net(Noise()))


def test_it_is_said_once_and_costs_one_forward():
    model, seen = net(Noise()), []
    model.register_forward_hook(lambda *_: seen.append(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            run(model)
    assert (len(caught), len(seen)) == (1, 4)


@pytest.mark.parametrize("middle", [nn.Dropout(0.5), nn.Identity(), Unused()])
def test_others_are_not(middle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(net(middle).train())


def test_finding_a_head_says_it():
    with pytest.warns(UserWarning, match="draws at random"):
        find_head(net(Noise()), IMAGES)


def test_the_first_reading_says_it():
    lang = LanguageAttribution(net(Noise()), "1", LetterTranslator(8))
    with pytest.warns(UserWarning, match="draws at random"):
        lang.describe(IMAGES)


def test_masked_autoencoders():
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.ViTMAEModel(transformers.ViTMAEConfig(**small, image_size=32, patch_size=8))
    with pytest.warns(UserWarning, match=r"ViTMAEModel draws at random .*'embeddings' \(ViTMAEEmbeddings\)"):
        run(model, torch.rand(1, 3, 32, 32))

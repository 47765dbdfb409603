"""The small classifier, translator and images that the tests of torchnle.attr share."""

from __future__ import annotations

import pytest
import torch
from fakes import LetterTranslator, conv_net

from torchnle import LanguageAttribution


@pytest.fixture
def x():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model():
    return conv_net()


@pytest.fixture
def translator():
    return LetterTranslator()


@pytest.fixture
def lang(model, translator):
    return LanguageAttribution(model, "layer", translator)

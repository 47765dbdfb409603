"""Eight threads on one model in training mode: the answers of one thread, flags and statistics untouched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import make_lm
from torch import nn

from torchnle import LanguageAttribution
from torchnle.methods.devil import devil_translator
from torchnle.vision.running import evaluating, exclusive_use
from torchnle.vision.suggest import suggest_layers

THREADS, CALLS = 8, 50
TEXTS = ["a cat", "the red dog", "grass"]


@pytest.fixture
def lang():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 4)).train()
    sizes = {"prefix_length": 2, "width": 8, "depth": 1, "heads": 2, "feedforward": 8}
    return LanguageAttribution(model, "1", devil_translator({"1": 6}, make_lm(), max_new_tokens=4, **sizes))


def call(lang, number):
    x = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(number % 10))
    if number % 2:
        return lang.saliency(x, TEXTS)
    return [each.text for each in lang.describe(x, where="all")[0]]


def test_eight_threads_answer_as_one(lang):
    model = lang.forward_func
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = [call(lang, number) for number in range(20)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda number: call(lang, number), range(THREADS * CALLS)))
    for number, answer in enumerate(found):
        wanted = expected[number % 20]
        assert torch.equal(answer, wanted) if number % 2 else answer == wanted
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_user_may_run_the_model_meanwhile(lang):
    x = torch.rand(1, 3, 12, 12)
    expected = lang.saliency(x, TEXTS)
    model = lang.forward_func

    def own(_):
        with torch.no_grad():
            model[0](x)

    with ThreadPoolExecutor(THREADS) as pool:
        ours = [pool.submit(lang.saliency, x, TEXTS) for _ in range(20)]
        list(pool.map(own, range(200)))
    assert all(torch.equal(each.result(), expected) for each in ours)


def test_layers_are_suggested_by_several_threads(lang):
    model, x = lang.forward_func, torch.rand(1, 3, 12, 12)
    expected = [layer.name for layer in suggest_layers(model, x)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: [layer.name for layer in suggest_layers(model, x)], range(16)))
    assert found == [expected] * 16


def test_flags_return_when_the_last_block_ends():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval()).train()
    model[1].eval()
    with evaluating(model):
        with evaluating(model[0]):
            assert not model[0].training
        assert not model[0].training
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_what_cannot_be_referred_to_weakly_is_not_locked():
    with exclusive_use(3, "a", nn.Identity()):
        pass

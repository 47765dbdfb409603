"""A table of bad arguments over all public methods: torchnle says so, before anything runs."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import LetterTranslator, conv_net
from PIL import Image

from torchnle import LanguageAttribution, LayerLanguageAttribution, NeuronLanguageAttribution, TextScore

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NO_COUNT = ["2", 2.0, float("nan"), True, False, 0, -1, [2], torch.tensor(2)]
NO_FLAG = [None, 1, 0, "yes", 1.0, torch.tensor(True)]
NO_INPUTS = [
    None,
    "photo.jpg",
    Path("photo.jpg"),
    Image.new("RGB", (8, 8)),
    np.zeros((1, 3, 8, 8)),
    (),
    [IMAGES],
]
NO_INPUTS += [IMAGES.to(torch.complex64), IMAGES[0], IMAGES.movedim(1, -1), IMAGES[:, :1], IMAGES[:0], 3]
NO_INPUTS += [IMAGES.to(torch.uint8), torch.full_like(IMAGES, float("nan")), IMAGES[..., 0], ("a", "b")]
NO_WHERE = [
    "some",
    {1, 2},
    (1,),
    (1, 2, 3),
    (1.0, 2.0),
    (True, False),
    ("1", "2"),
    3,
    (99, 99),
    torch.tensor(1),
]
NO_WHERE += [
    torch.ones(8, 8, dtype=torch.complex64),
    torch.full((8, 8), float("nan")),
    torch.zeros(8, 8),
    b"all",
]
NO_TEXTS = [None, 3, ["a \ud800"], [], [""], ["a", 3], {"a"}, {"a": 1}, b"a", [None], " ", ["a" * 20_000]]
NO_MODE = ["cubic", 3, "", ["bicubic"], True]
NO_K = [*NO_COUNT, None]
NO_SELECTOR = [None, "1", 1.5, True, 999, [1], lambda f: f.sum() * float("nan"), lambda f: None, lambda f: f]
NO_CONTRAST = ["a", 3, [], [""], {"a"}, b"a", [3]]

LANG = {"attribute": {"target": "a"}, "saliency": {"texts": ["a"]}, "describe": {}}
TOP = {"top_texts": {"texts": ["a", "b"]}, "top_locations": {"text": "a"}}
COMMON = {"inputs": NO_INPUTS, "internal_batch_size": NO_COUNT, "attribute_to_layer_input": NO_FLAG}
MORE = {
    "attribute": {"prior": NO_FLAG, "interpolate_mode": NO_MODE},
    "saliency": {"texts": NO_TEXTS, "joint": NO_FLAG, "prior": NO_FLAG, "interpolate_mode": NO_MODE},
    "describe": {"where": NO_WHERE, "joint": NO_FLAG},
    "top_texts": {"texts": NO_TEXTS[:-2], "k": NO_K, "where": NO_WHERE, "joint": NO_FLAG, "prior": NO_FLAG},
    "top_locations": {"text": [None, 3, ["a"], "", b"a"], "k": NO_K, "joint": NO_FLAG},
}
MORE["saliency"] |= {"contrast": NO_CONTRAST, "normalize": ["token", 3, True]}
CASES = [
    (method, name, number, value)
    for method in (*LANG, *TOP)
    for name, values in {**COMMON, **MORE[method]}.items()
    for number, value in enumerate(values)
    if not (name == "internal_batch_size" and value is None)
]


def check(call):
    """The call must raise torchnle's own TypeError or ValueError, in a sentence."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    last = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert "torchnle" in last, (last, caught.value)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize(
    ("method", "name", "number", "value"),
    CASES,
    ids=lambda x: str(x) if isinstance(x, (str, int)) else type(x).__name__,
)
def test_language_attribution(method, name, number, value):
    lang = LanguageAttribution(conv_net(), "layer", LetterTranslator())
    given = {"inputs": IMAGES, **{**LANG, **TOP}[method], name: value}
    check(lambda: getattr(lang, method)(**given))


@pytest.mark.parametrize("value", NO_SELECTOR, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("method", ["attribute", "describe"])
def test_units(method, value):
    unit = NeuronLanguageAttribution(conv_net(), "layer", LetterTranslator())
    check(lambda: getattr(unit, method)(IMAGES, value))


@pytest.mark.parametrize("value", NO_TEXTS, ids=lambda x: type(x).__name__)
def test_text_score(value):
    check(lambda: TextScore(conv_net(), "layer", LetterTranslator(), value))


@pytest.mark.parametrize("number", [np.int64(2), 2])
def test_whole_numbers_of_numpy_are_numbers(number):
    lang = LayerLanguageAttribution(conv_net(), "layer", LetterTranslator())
    assert len(lang.top_texts(IMAGES, ["a", "b"], k=number).found) == 2
    assert len(lang.describe(IMAGES, where=(number, 1), internal_batch_size=number)) == 2

"""Public calls with drawn arguments; valid ones are compared with one image and one text at a time."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from measurements.fuzz.outcome import Outcome, WrongError, finite, judge, same
from measurements.reading.tiny_models import build, tokenizer
from torchnle import LanguageAttribution, NeuronLanguageAttribution, TextScore
from torchnle.language.model import LanguageModel
from torchnle.methods.devil import devil_translator

SIZE, WIDTH = 16, 6
_METHODS = ("attribute", "saliency", "describe", "top_texts", "top_locations", "unit", "text_score")


@cache
def world() -> LanguageAttribution:
    """A tiny model in training mode, and a tiny translator with a tiny language model."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, WIDTH, 4, 4), nn.BatchNorm2d(WIDTH), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTH, 5)).train()
    sizes: dict[str, Any] = {"prefix_length": 2, "width": 16, "depth": 1, "heads": 2, "feedforward": 16}
    translator = devil_translator(
        {"1": WIDTH}, LanguageModel(build("gpt2"), tokenizer(), reference="gpt2"), max_new_tokens=4, **sizes
    )
    return LanguageAttribution(model, "1", translator)


def images(draw: random.Random) -> Tensor:
    """One to three pictures, sometimes extreme."""
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    x = torch.rand(draw.randint(1, 3), 3, SIZE, SIZE, generator=generator)
    return x * draw.choice([1.0, 1.0, 1.0, 0.0, 1e-6, 100.0])


def text(draw: random.Random) -> str:
    """A text of one to four words."""
    return " ".join(f"w{draw.choice([3, 4, 5, 6, 7, 8, 9, 30, 40])}" for _ in range(draw.randint(1, 4)))


def _bad(draw: random.Random, x: Tensor) -> dict[str, list[Any]]:
    hollow = x.clone()
    hollow[0, 0, 0, 0] = draw.choice([float("nan"), float("inf")])
    masks = [torch.ones(3), torch.ones(4, 4) * float("nan"), torch.ones(4, 4, dtype=torch.complex64)]
    no_count = ["2", 2.5, float("nan"), True, 0, -draw.randint(1, 9), [1], {}, b"2", object()]
    return {
        "inputs": [
            None,
            3,
            "a.jpg",
            Path("a"),
            (),
            [],
            {},
            Image.new("RGB", (4, 4)),
            np.zeros((1, 3, 4, 4)),
            hollow,
            x[0],
            x[:, :2],
            x[:0],
            x.movedim(1, -1),
            x.to(torch.uint8),
            x.to(torch.complex64),
            x.double(),
            x.half(),
        ],
        "internal_batch_size": no_count,
        "k": [*no_count, None],
        "prior": [None, 1, "yes", 0.0, []],
        "joint": [None, 1, "yes", 0.0, []],
        "attribute_to_layer_input": [None, 1, "no"],
        "interpolate_mode": ["cubic", 3, "", [], "BICUBIC"],
        "normalize": ["token", 1, True, ""],
        "texts": [
            None,
            3,
            [],
            [""],
            ["w3", 3],
            {"w3"},
            {"w3": 1},
            b"w3",
            [None],
            ["w3", "\n"],
            ["w3 " * 9000],
        ],
        "text": [None, 3, "", ["w3"], b"w3", " "],
        "contrast": ["w3", 3, [], [""], {"w3"}, [3]],
        "where": [
            "some",
            {1, 2},
            (1,),
            (1, 2, 3),
            (0.5, 1),
            (True, False),
            3,
            (99, 0),
            (0, -99),
            "ALL",
            *masks,
        ],
        "neuron_selector": [
            None,
            "1",
            1.5,
            True,
            WIDTH,
            -WIDTH - 1,
            [1],
            lambda f: None,
            lambda f: f * float("nan"),
        ],
        "target": [3, ["w3", 3], [], torch.tensor(1), {"w3"}, b"w3", ["w3"] * 9],
        "missing": [1],
    }


_TAKES = {
    "attribute": (
        "inputs",
        "target",
        "attribute_to_layer_input",
        "prior",
        "interpolate_mode",
        "internal_batch_size",
    ),
    "saliency": (
        "inputs",
        "texts",
        "joint",
        "prior",
        "normalize",
        "contrast",
        "interpolate_mode",
        "internal_batch_size",
    ),
    "describe": ("inputs", "where", "joint", "internal_batch_size", "attribute_to_layer_input"),
    "top_texts": ("inputs", "texts", "k", "where", "joint", "prior", "internal_batch_size"),
    "top_locations": ("inputs", "text", "k", "joint", "prior", "internal_batch_size"),
    "unit": ("inputs", "neuron_selector", "interpolate_mode"),
    "text_score": ("inputs", "texts", "where", "prior"),
}


def _valid(draw: random.Random, method: str) -> dict[str, Any]:
    rows = [text(draw) for _ in range(draw.randint(1, 5))]
    location = (draw.randrange(4), draw.randrange(4))
    mask = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(draw.randrange(99))) + 0.01
    every = {
        "inputs": images(draw),
        "texts": rows,
        "text": rows[0],
        "target": rows[0],
        "k": draw.randint(1, 8),
        "joint": draw.random() < 0.3,
        "prior": draw.random() < 0.3,
        "internal_batch_size": draw.choice([None, 1, 2, 7, 100, np.int64(3)]),
        "where": draw.choice([None, "all", location, location, mask]),
        "interpolate_mode": draw.choice(["nearest", "bilinear", "bicubic"]),
        "neuron_selector": draw.choice([0, WIDTH - 1, -1, lambda features: features.mean(-1)]),
    }
    if method == "text_score" and every["where"] == "all":
        every["where"] = None
    return {name: every[name] for name in _TAKES[method] if name in every}


def call(draw: random.Random) -> Outcome:
    """One call, valid or with one bad argument."""
    method = draw.choice(_METHODS)
    given, kind, case = _valid(draw, method), "valid", method
    if draw.random() < 0.5:
        bad = _bad(draw, given["inputs"])
        name = draw.choice(_TAKES[method])
        value = draw.choice(bad[name])
        given[name], kind = value, "bad"
        case = f"{method}({name}={_shown(value)})"
    return judge("calls", kind, case, lambda: _run(method, given, compare=kind == "valid"))


def _shown(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:60]


def _run(method: str, given: dict[str, Any], *, compare: bool) -> bool:
    lang = world()
    model: Any = lang.forward_func
    before = [(name, value.clone()) for name, value in model.state_dict().items()]
    try:
        found = _call(lang, method, given)
    finally:
        flags = all(module.training for module in model.modules())
        state = model.state_dict()
        if not flags or not all(torch.equal(state[name], value) for name, value in before):
            raise WrongError("the model was changed")
    return bool(compare and _agrees(lang, method, given, found))


def _call(lang: LanguageAttribution, method: str, given: dict[str, Any]) -> Any:
    if method == "unit":
        return NeuronLanguageAttribution(lang.forward_func, "1", lang.translator).attribute(**given)
    if method == "text_score":
        options = dict(given)
        inputs, texts = options.pop("inputs"), options.pop("texts")
        return TextScore(lang.forward_func, "1", lang.translator, texts, **options)(inputs)
    return getattr(lang, method)(**given)


def _agrees(lang: LanguageAttribution, method: str, given: dict[str, Any], found: Any) -> bool:
    """The first image alone gives the same; of texts each alone; nothing depends on the batch size."""
    alone = {**given, "inputs": given["inputs"][:1], "internal_batch_size": None}
    alone = {name: value for name, value in alone.items() if name in given}
    if method in ("attribute", "unit", "text_score"):
        return same(finite(found)[:1], _call(lang, method, alone))
    if method == "saliency":
        maps = [_call(lang, method, {**alone, "texts": [each]}) for each in given["texts"]]
        return same(finite(found)[:1], torch.cat(maps, dim=1))
    if method == "describe":
        (first,) = _call(lang, method, alone)
        return _texts_of(found[0]) == _texts_of(first) or _raise("another text alone")
    if method == "top_texts":
        return _best_texts(lang, given, found)
    return _best_locations(lang, given, found)


def _best_texts(lang: LanguageAttribution, given: dict[str, Any], found: Any) -> bool:
    grid = found.found[0]
    cells = list(grid) if hasattr(grid, "grid") else [grid]
    where = given["where"]
    for number, cell in enumerate(cells[:3]):
        at = divmod(number, 4) if isinstance(where, str) else where
        score = TextScore(
            lang.forward_func, "1", lang.translator, given["texts"], where=at, prior=given["prior"]
        )
        best = score(given["inputs"][:1])[0].max()
        if not torch.isclose(best, torch.tensor(cell.score), atol=1e-3):
            raise WrongError(f"the best text scores {cell.score}, by hand {float(best)}")
    return True


def _best_locations(lang: LanguageAttribution, given: dict[str, Any], found: Any) -> bool:
    maps = lang.saliency(given["inputs"], given["text"], prior=given["prior"], interpolate_mode=None)
    best = maps.flatten().topk(min(given["k"], maps.numel())).values
    return same(torch.tensor([each.score for each in found.found]), best)


def _texts_of(described: Any) -> list[str]:
    return [each.text for each in described] if hasattr(described, "grid") else [described.text]


def _raise(why: str) -> bool:
    raise WrongError(why)

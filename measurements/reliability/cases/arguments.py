"""Bad arguments of public methods: an error of torchnle's own, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, images, refused
from measurements.reliability.cases.models import SIZES, attached, classifier, language_model, translator
from torchnle import LanguageAttribution, NeuronLanguageAttribution, TextScore
from torchnle.methods.devil import devil_translator

TOPIC = Topic("arguments")
case = TOPIC.case
_X = images(2, 64, 64)
_NO_COUNT: list[Any] = ["2", 2.0, float("nan"), True, 0, -1, [2], b"2", torch.tensor(2.5)]
_METHODS: dict[str, dict[str, Any]] = {
    "attribute": {"target": "w3"},
    "saliency": {"texts": ["w3"]},
    "describe": {},
    "top_texts": {"texts": ["w3", "w4"]},
    "top_locations": {"text": "w3"},
}


def _lang() -> LanguageAttribution:
    return LanguageAttribution(classifier(), "1", translator("1", 32))


def _all(name: str, values: list[Any], methods: Any = tuple(_METHODS), *facts: str) -> Found:
    """Try bad values of one argument at several methods."""
    lang, tried = _lang(), []
    for method in methods:
        for value in values:
            given = {"inputs": _X, **_METHODS[method], name: value}
            shown = f"{method}({name}={type(value).__name__} {str(value)[:20]})"
            tried.append((shown, refused(lambda m=method, g=given: getattr(lang, m)(**g), *facts)))
    return first_wrong(tried)


@case(
    "'2', 2.0, nan, True, 0, -1, [2], a tensor; five methods",
    "refused each",
)
def batch_sizes() -> Found:
    """internal_batch_size of the wrong type or range."""
    return _all("internal_batch_size", _NO_COUNT)


@case("wrong channels, three axes, channels last, one of them nothing, NaN, complex, bytes", "refused each")
def wrong_inputs() -> Found:
    """Inputs of another shape or dtype."""
    given = [
        _X[:, :1],
        _X[0],
        _X.movedim(1, -1),
        _X[:0],
        torch.full_like(_X, float("nan")),
        _X.to(torch.complex64),
    ]
    return _all("inputs", [*given, _X.to(torch.uint8), _X[..., 0], _X.to_sparse(), _X.to("meta")])


@case("None, a path, a picture, an array, (), a list, a dict, a number", "refused each")
def no_inputs() -> Found:
    """Inputs that are no tensor."""
    given = [
        None,
        "a.jpg",
        Path("a.jpg"),
        Image.new("RGB", (8, 8)),
        np.zeros((1, 3, 8, 8)),
        (),
        [_X],
        {"x": _X},
        3,
    ]
    return _all("inputs", given)


@case("'cubic', 3, '', ['bicubic'], True, 'BICUBIC'", "refused each, with what is allowed")
def modes() -> Found:
    """An unknown interpolate_mode."""
    return _all(
        "interpolate_mode",
        ["cubic", 3, "", ["bicubic"], True, "BICUBIC"],
        ("attribute", "saliency"),
        "bicubic",
    )


@case("None, '1', 1.5, True, 999, [1], functions that give None, NaN or all", "refused each")
def neurons() -> Found:
    """A wrong neuron_selector."""
    unit = NeuronLanguageAttribution(classifier(), "1", translator("1", 32))
    wrong: list[Any] = [
        None,
        "1",
        1.5,
        True,
        999,
        -33,
        [1],
        (),
        lambda f: None,
        lambda f: f * float("nan"),
        lambda f: f,
    ]
    return first_wrong([(str(v)[:20], refused(lambda v=v: unit.attribute(_X, v))) for v in wrong])


@case(
    "'some', {1, 2}, (1,), (1.0, 2.0), (True, False), 3, (99, 99), b'all', masks of NaN, zeros, complex",
    "refused each",
)
def wheres() -> Found:
    """A malformed where."""
    masks = [
        torch.full((64, 64), float("nan")),
        torch.zeros(64, 64),
        torch.ones(64, 64, dtype=torch.complex64),
    ]
    masks += [-torch.ones(64, 64), torch.ones(3), torch.ones(3, 64, 64)]
    given: list[Any] = [
        "some",
        {1, 2},
        (1,),
        (1, 2, 3),
        (1.0, 2.0),
        (True, False),
        3,
        (99, 99),
        (0, -99),
        b"all",
        "ALL",
    ]
    return _all("where", [*given, *masks], ("describe", "top_texts"))


@case(
    "None, 3, [], [''], ['a', 3], a set, a dict, bytes, [None], ' ', a lone surrogate, 40,000 characters",
    "refused each",
)
def texts() -> Found:
    """Texts that are none."""
    given: list[Any] = [
        None,
        3,
        [],
        [""],
        ["w3", 3],
        {"w3"},
        {"w3": 1},
        b"w3",
        [None],
        " ",
        ["\ud800"],
        ["w3 " * 13_000],
    ]
    return _all("texts", given, ("saliency", "top_texts"))


@case("a text for a list, 3, [], [''], a set, bytes", "refused each")
def contrasts() -> Found:
    """A contrast that is none."""
    return _all("contrast", ["w3", 3, [], [""], {"w3"}, b"w3", [3]], ("saliency",))


@case("'2', 2.5, nan, True, 0, -1, None", "refused each")
def counts() -> Found:
    """A count k that is none."""
    return _all("k", [*_NO_COUNT, None], ("top_texts", "top_locations"))


@case("3, ['w3', 3], [], a tensor, bytes, nine texts for two images", "refused each")
def targets() -> Found:
    """A target that is no text."""
    return _all("target", [3, ["w3", 3], [], torch.tensor(1), b"w3", ["w3"] * 9], ("attribute",))


@case("None, 1, 'yes', a tensor, 0.0 for prior, joint, attribute_to_layer_input", "refused each")
def flags() -> Found:
    """Flags that are no flags."""
    wrong = [None, 1, "yes", torch.tensor(True), 0.0]
    tried = [("prior", _all("prior", wrong, ("attribute", "saliency", "top_texts")))]
    tried.append(("joint", _all("joint", wrong, ("saliency", "describe"))))
    return first_wrong([*tried, ("layer input", _all("attribute_to_layer_input", wrong))])


@case("numpy's int64, a list of one tensor as a tuple, a str subclass, a mask of bools", "as plain values")
def near_types() -> Found:
    """Values of other types that mean the same."""
    lang = _lang()

    class Text(str):
        __slots__ = ()

    plain = lang.saliency(_X, ["w3 w4"])
    two: Any = np.int64(2)
    given = {
        "numpy count": (lang.saliency(_X, ["w3 w4"], internal_batch_size=two), plain),
        "a tuple": (lang.saliency((_X,), ["w3 w4"]), plain),
        "a str subclass": (lang.saliency(_X, [Text("w3 w4")]), plain),
        "a tuple of texts": (lang.saliency(_X, ("w3 w4",)), plain),
    }
    return first_wrong(
        [(name, equal(torch.allclose(a, b, atol=1e-5), True)) for name, (a, b) in given.items()]
    )


@case(
    "a name that is not there, '', 3, a module of another model, a glob without match",
    "refused, the nearest named",
)
def layers() -> Found:
    """Layers that are not there."""
    wrong: list[Any] = ["layer9", "", 3, [], torch.nn.ReLU(), "nothing*", None.__class__, ["1", 3]]
    tried = [
        (str(v), refused(lambda v=v: LanguageAttribution(classifier(), v, translator("1", 32)).describe(_X)))
        for v in wrong
    ]
    return first_wrong(tried)


@case("a translator of width 6 at a layer of 32; of two layers of one width at a third", "refused, with both")
def mismatched() -> Found:
    """A translator that does not fit the layer."""
    wide = LanguageAttribution(classifier(), "1", translator("1", 6))
    two = devil_translator({"1": 32, "3": 32}, language_model(), **SIZES)
    other = LanguageAttribution(classifier(), "0", two)
    tried = [("width", refused(lambda: wide.describe(_X), "6", "32"))]
    return first_wrong([*tried, ("two of one width", refused(lambda: other.describe(_X), "'0'"))])


@case(
    "a model that gives NaN at one image, infinity, integers, complex numbers, nothing",
    "refused, the layer named",
)
def odd_features() -> Found:
    """Features that are no numbers."""

    class Model(torch.nn.Module):
        def __init__(self, change: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.out, self.change = torch.nn.Conv2d(3, 32, 4, 4), torch.nn.Identity(), change

        def forward(self, x: torch.Tensor) -> Any:
            return self.out(self.change(self.conv(x)))

    def one_nan(y: torch.Tensor) -> torch.Tensor:
        y = y.clone()
        y[0, 0, 0, 0] = float("nan")
        return y

    changes: dict[str, Any] = {
        "nan": one_nan,
        "inf": lambda y: y / 0,
        "int": lambda y: y.int(),
        "complex": lambda y: y.to(torch.complex64),
        "nothing": lambda y: None,
        "text": lambda y: "a",
        "another batch": lambda y: y[:1],
        "no channels": lambda y: y[:, :0],
    }
    tried = []
    for name, change in changes.items():
        lang = LanguageAttribution(Model(change).eval(), "out", translator("out", 32))
        tried.append((name, refused(lambda lang=lang: lang.describe(_X), "out")))
    return first_wrong(tried)


@case("a TextScore of no texts, of a number, where='all'", "refused each")
def text_scores() -> Found:
    """A TextScore of what is none."""
    tried = [
        (str(v)[:20], refused(lambda v=v: TextScore(classifier(), "1", translator("1", 32), v)))
        for v in (None, 3, [], [""], {"a"}, b"a")
    ]
    return first_wrong(tried)


@case(
    "encoder=3, vocabulary='grass', class_names twice the same, of another number, lens='x', images=3",
    "refused each",
)
def construction() -> Found:
    """Arguments of from_classifier."""
    wrong: dict[str, Any] = {"encoder": 3, "lens": "x", "regression": "svm", "images": 3, "layers": 3}
    tried = [(n, refused(lambda n=n, v=v: attached(classifier(), _X, **{n: v}))) for n, v in wrong.items()]
    names = {
        "too few": ["cat", "dog"],
        "empty": ["cat", "", "car", "tree"],
        "no text": ["cat", 1, "car", "tree"],
    }
    tried += [(n, refused(lambda v=v: attached(classifier(), _X, v))) for n, v in names.items()]
    return first_wrong(tried)

"""Cases of state that calls leave as it was: inputs, weights, flags, random state; and of settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from measurements.reliability.cases.case import (
    Found,
    Topic,
    changed,
    equal,
    first_wrong,
    images,
    near,
    set_default_device,
    warned,
)
from measurements.reliability.cases.models import SMALL, attached, classifier, translator
from torchnle import LanguageAttribution
from torchnle.heads.classifier_head import find_head
from torchnle.vision.taps import record, resolve

TOPIC = Topic("models, threads and settings")
case = TOPIC.case
_TEXTS = ["w3 w4", "w5"]


def _training() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 6, 4, 4),
        nn.BatchNorm2d(6),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(6, 4)).train()


def _call(lang: LanguageAttribution, number: int) -> Any:
    x = images(1, 12, 12, seed=number % 10)
    if number % 2:
        return lang.saliency(x, _TEXTS)
    return [each.text for each in lang.describe(x, where="all")[0]]


@case(
    "eight threads, 50 calls each of saliency and describe, in training mode",
    "what one thread answers, bit for bit",
)
def eight_threads() -> Found:
    """Eight threads on one model."""
    lang = LanguageAttribution(_training(), "1", translator("1", 6))
    expected = [_call(lang, number) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: _call(lang, number), range(400)))
    wrong = sum(not _same(answer, expected[n % 20]) for n, answer in enumerate(found))
    return f"{wrong} of 400 differ", wrong == 0


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


@case("the same, a new attribution a thread; flags and BatchNorm's statistics looked at", "all as before")
def flags_and_statistics() -> Found:
    """Training flags and statistics behind eight threads."""
    model = _training()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with ThreadPoolExecutor(8) as pool:
        makers = pool.map(
            lambda number: _call(LanguageAttribution(model, "1", translator("1", 6)), number), range(100)
        )
        list(makers)
    changed_ = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    flags = all(module.training for module in model.modules())
    hooks = any(module._forward_hooks for module in model.modules())
    return f"changed: {changed_}, all training: {flags}, hooks: {hooks}", not changed_ and flags and not hooks


@case("ViTMAE, which masks at random in evaluation", "a warning that names the module", "transformers")
def masked_autoencoder() -> Found:
    """A model that draws at random."""
    import transformers

    config = transformers.ViTMAEConfig(**SMALL, image_size=32, patch_size=8)
    model: Any = transformers.ViTMAEModel(config).eval()
    return warned(
        lambda: record(model, resolve(model, "embeddings"), images(1, 32, 32)), "random.*embeddings"
    )


class _Drawing(nn.Module):
    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Any:
        return self.draw(x)


@case("dropout, noise of randn_like and of numpy, rand in evaluation", "a warning each that names the module")
def other_draws() -> Found:
    """Models that draw by other functions."""
    import numpy

    ways: dict[str, Any] = {
        "dropout": lambda x: nn.functional.dropout(x, 0.5, training=True),
        "randn_like": lambda x: x + torch.randn_like(x),
        "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
        "numpy": lambda x: x * float(numpy.random.rand()),
    }
    tried = []
    for name, way in ways.items():
        model = nn.Sequential(nn.Conv2d(3, 6, 4, 4), _Drawing(way)).eval()
        tried.append(
            (
                name,
                warned(
                    lambda model=model: record(model, resolve(model, "1"), images(1, 16, 16)), "random.*'1'"
                ),
            )
        )
    return first_wrong(tried)


class _Writing(nn.Module):
    """Normalises its input in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x.sub_(0.5)).relu().mean((2, 3)))
        return logits


@case("x.sub_(0.5) in forward; saliency twice", "the same maps, the caller's tensor unchanged")
def written_input() -> Found:
    """A model that writes into its input."""
    lang, x = LanguageAttribution(_Writing(), "conv", translator("conv", 6)), images(1, 16, 16)
    before = x.clone()
    first, second = lang.saliency(x, _TEXTS), lang.saliency(x, _TEXTS)
    same, unchanged = torch.equal(first, second), torch.equal(x, before)
    return f"same maps: {same}, tensor unchanged: {unchanged}", same and unchanged


@case("from_classifier of that model", "a head that is found, with locations")
def written_input_head() -> Found:
    """The head of a model that writes into its input."""
    x = images(2, 16, 16)
    before, lang = x.clone(), attached(_Writing(), x)
    shape = tuple(lang.saliency(x, ["a cat"]).shape)
    return f"{shape}, tensor unchanged: {torch.equal(x, before)}", shape == (2, 1, 16, 16) and torch.equal(
        x, before
    )


@case(
    "a view of a larger tensor, one that wants gradients, an expanded one, channels_last memory",
    "the maps of a copy",
)
def odd_tensors() -> Found:
    """Tensors of odd memory."""
    lang, x = LanguageAttribution(_Writing(), "conv", translator("conv", 6)), images(2, 16, 16)
    expected = lang.saliency(x.clone(), _TEXTS)
    one = lang.saliency(x[:1].clone(), _TEXTS).expand(2, -1, -1, -1)
    wide = torch.zeros(2, 3, 20, 20)
    wide[..., 2:18, 2:18] = x
    given = {
        "a view": (wide[..., 2:18, 2:18], expected),
        "wants gradients": (x.clone().requires_grad_(), expected),
        "expanded": (x[:1].expand(2, -1, -1, -1), one),
        "channels_last": (x.to(memory_format=torch.channels_last), expected),
        "transposed": (x.transpose(2, 3).contiguous().transpose(2, 3), expected),
    }
    return first_wrong(
        [(name, near(lang.saliency(t, _TEXTS), wanted, 1e-5)) for name, (t, wanted) in given.items()]
    )


def _maps(dtype: torch.dtype = torch.float32) -> Tensor:
    x = images(2, 64, 64)
    return attached(classifier().to(dtype), x.to(dtype)).saliency(x.to(dtype), ["a cat", "grass"])


@case("torch.set_default_dtype(float64, bfloat16, float16)", "float32 maps, the same numbers")
def default_dtype() -> Found:
    """Another default dtype."""
    expected, tried = _maps(), []
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        model, x = classifier(), images(2, 64, 64)
        with changed(torch.set_default_dtype, dtype, torch.float32):
            found = attached(model, x).saliency(x, ["a cat", "grass"])
        outcome, holds = near(found, expected, 1e-5)
        tried.append((str(dtype), (f"{found.dtype}, {outcome}", holds and found.dtype == torch.float32)))
    return first_wrong(tried)


@case('torch.set_default_device("meta")', "the same numbers on the CPU")
def default_device() -> Found:
    """Another default device."""
    expected, model, x = _maps(), classifier(), images(2, 64, 64)
    with changed(set_default_device, "meta", None):
        found = attached(model, x).saliency(x, ["a cat", "grass"])
    return near(found, expected, 1e-5) if found.device.type == "cpu" else (str(found.device), False)


@case("torch.autocast(bfloat16)", "float32 maps")
def autocast() -> Found:
    """Maps under autocast."""
    lang, x = attached(classifier(), images(2, 64, 64)), images(2, 64, 64)
    expected = lang.saliency(x, ["a cat"])
    with torch.autocast("cpu", torch.bfloat16):
        found = lang.saliency(x, ["a cat"])
    outcome, holds = near(found, expected, 0.1)
    return f"{found.dtype}, {outcome}", holds and found.dtype == torch.float32


@case("weights in float64, bfloat16 and float16", "maps near those of float32")
def other_dtypes() -> Found:
    """Models of other dtypes."""
    expected = _maps()
    tolerances = {torch.float64: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
    return first_wrong([(str(d), near(_maps(d), expected, far)) for d, far in tolerances.items()])


@case(
    "inference mode, deterministic algorithms, a frozen model, a compiled one, a scripted one",
    "the same head and maps",
)
def other_modes() -> Found:
    """Models that are compiled, scripted or frozen."""
    expected, x = _maps(), images(2, 64, 64)
    scripted: Any = torch.jit.trace(classifier(), x)  # type: ignore[no-untyped-call]
    frozen = classifier().requires_grad_(False)
    with torch.inference_mode():
        tried = [("inference mode", near(_maps(), expected, 1e-5))]
    tried.append(("frozen", near(attached(frozen, x).saliency(x, ["a cat", "grass"]), expected, 1e-5)))
    compiled: Any = torch.compile(classifier(), backend="eager")
    tried.append(("compiled", near(attached(compiled, x).saliency(x, ["a cat", "grass"]), expected, 1e-5)))
    parallel = nn.DataParallel(classifier())
    tried.append(
        ("DataParallel", near(attached(parallel, x).saliency(x, ["a cat", "grass"]), expected, 1e-5))
    )
    try:
        tried.append(
            ("scripted", near(attached(scripted, x).saliency(x, ["a cat", "grass"]), expected, 1e-5))
        )
    except (TypeError, ValueError, RuntimeError) as error:
        tried.append(("scripted", (f"{type(error).__name__}: {error}"[:100], True)))
    return first_wrong(tried)


@case("find_head, describe, saving and loading of a translator", "torch's random state as before")
def random_state() -> Found:
    """The global random state."""
    from measurements.reliability.cases.case import folder
    from torchnle.translators.base import Translator

    model, x = classifier(), images(2, 64, 64)
    lang = attached(model, x)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    find_head(model, x)
    lang.describe(x)
    with folder() as directory:
        from unittest.mock import patch

        from torchnle.language.text_encoder import TextEncoder

        lang.translator.save_pretrained(directory / "t")
        encoder = lang.translator.encoder
        with patch.object(TextEncoder, "from_pretrained", lambda *_, **__: encoder):
            Translator.from_pretrained(directory / "t")
    return equal(torch.equal(torch.get_rng_state(), before), True)

"""Measure the cost of the safety checks on a ResNet-50, with them and without, in turn."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from measurements.fuzz.world import LetterEncoder
from torchnle import LanguageAttribution, backbones, public_calls
from torchnle.evaluation import record
from torchnle.heads import classifier_head, trace
from torchnle.heads.check import Comparison
from torchnle.vision import arrangements, reading, running, taps
from torchnle.vision.features import Features
from torchnle.vision.random_draws import Draws

#: Asked of construction, and of `describe` and `saliency`.
_MOST = {"construction": 0.15, "describe": 0.02, "saliency": 0.02}


@contextmanager
def unchecked() -> Iterator[None]:
    """Turn the checks off: arguments, inputs, draws, the head's logits, the order of locations, locks."""

    @contextmanager
    def unwatched() -> Iterator[Draws]:
        yield Draws()

    agrees = Comparison(0.0, 0.0, 1.0, (7, 7))
    with ExitStack() as off:
        for where, name, value in (
            (public_calls, "_TABLE", defaultdict(lambda: lambda *_: None)),
            (classifier_head, "_compared", lambda *_: agrees),
            (classifier_head, "check_weights", lambda _: None),
            (trace, "watching", unwatched),
            (trace, "exclusive_use", lambda *_: nullcontext()),
            (taps, "exclusive_use", lambda *_: nullcontext()),
            (running, "exclusive_use", lambda *_: nullcontext()),
            (running, "check_inputs", lambda x: x if isinstance(x, tuple) else (x,)),
            (running, "_check_batch_axis", lambda *_: None),
            (running, "_copied", lambda x: x),
            (arrangements, "check_map", lambda *_, **__: None),
            (reading, "check_padding", lambda *_: None),
            (Features, "check_finite", lambda self: self),
        ):
            off.enter_context(patch.object(where, name, value))
        yield


def measure(rounds: int, name: str = "torchvision:resnet50") -> dict[str, Any]:
    """Time construction, `describe` and `saliency`, with the checks and without, one after the other.

    Args:
        rounds: Of construction, and five times as many of the shorter calls; the order of the two changes
            from round to round.
        name: The model, with random weights.
    """
    torch.manual_seed(0)
    model = backbones.load(name, pretrained=False).model
    names = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)} {chr(97 + n // 676)}" for n in range(1000)]
    images = torch.rand(1, 3, 224, 224)
    options: dict[str, Any] = {"encoder": LetterEncoder(), "vocabulary": (), "example": images}

    def construct() -> LanguageAttribution:
        return LanguageAttribution.from_classifier(model, names, **options)

    lang = construct()
    calls: dict[str, Callable[[], Any]] = {
        "construction": construct,
        "describe": lambda: lang.describe(images),
        "saliency": lambda: lang.saliency(images, names[:10]),
    }
    found: dict[str, Any] = {}
    for each, call in calls.items():
        with_checks, without = _in_turn(call, rounds if each == "construction" else 5 * rounds)
        more = [a / b - 1 for a, b in zip(with_checks, without, strict=True)]
        found[each] = {
            "seconds": median(with_checks),
            "seconds without checks": median(without),
            "more": median(with_checks) / median(without) - 1,
            "more, by pairs": median(more),
            "asked at most": _MOST[each],
        }
    return {"model": name, "rounds": rounds, "calls": found}


def _in_turn(call: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    seconds: tuple[list[float], list[float]] = [], []
    call()
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            with unchecked() if which else nullcontext():
                begun = time.process_time()
                call()
                seconds[which].append(time.process_time() - begun)
    return seconds


def page(found: dict[str, Any]) -> str:
    """Return the page."""
    rows = [
        [
            name,
            *(f"{c[each]:.3f}" for each in ("seconds", "seconds without checks")),
            *(f"{c[each]:+.1%}" for each in ("more", "more, by pairs")),
            f"{c['asked at most']:.0%}",
        ]
        for name, c in found["calls"].items()
    ]
    return (
        f"# The cost of the checks where nothing is wrong: {found['model']}, random weights\n\n"
        f"`python -m measurements safety-costs`: medians of {found['rounds']} rounds (the last two: 5 times "
        "as many), one thread, seconds of the processor, with the checks and without in turn.\n\n"
        + record.table(["call", "with", "without", "more", "more by pairs", "asked"], rows)
    )

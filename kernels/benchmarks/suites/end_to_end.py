"""What a user waits for: one photograph, three layers, 1,029 locations; and where the time goes."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.common import SEED, by_processor, is_shared
from benchmarks.jobs import CLASS_NAMES, language_model
from torchnle import LayerLanguageAttribution, ops
from torchnle.backbones import load
from torchnle.language.device import best_dtype
from torchnle.language.model import LanguageModel
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.prefix import PrefixTranslator
from torchnle.vision import taps
from torchnle.vision.reading import read
from torchnle.vision.taps import Tap

_GRIDS = (28, 14, 7)
_TOKENS = 20


def records(rounds: int) -> list[dict[str, Any]]:
    """`describe` of all locations, `saliency` with 1 and 100 texts: processor seconds and shares."""
    torch.manual_seed(SEED)
    image = torch.randn(1, 3, 224, 224)
    explain = _explainer(image)
    names = [f" {name}" for name in CLASS_NAMES]
    jobs: dict[str, Callable[[], object]] = {
        "saliency of 1 text": lambda: explain.saliency(image, names[0]),
        "saliency of 100 texts": lambda: explain.saliency(image, names),
        f"describe(where='all'), {_TOKENS} tokens": lambda: explain.describe(image, where="all"),
    }
    explain.saliency(image, names[0])  # warms up
    return [_measure(name, run, 1 if "describe" in name else rounds) for name, run in jobs.items()]


def _explainer(image: torch.Tensor) -> LayerLanguageAttribution:
    """Three stages of EfficientNet-lite0 and a network of DeViL's kind with random weights."""
    model = load().model
    taps_found = list(_stages(model, image))
    lm = language_model(best_dtype(torch.device("cpu")))
    lm.model.generation_config.eos_token_id, lm.tokenizer.eos_token = None, None  # always the full length
    widths = {f.layer: f.tokens.shape[2] for f in read(model, taps_found, image)}
    network = DeViLNetwork(widths, lm.width, width=384, depth=4, heads=6, feedforward=1536)
    translator = PrefixTranslator(network, lm, max_new_tokens=_TOKENS)
    return LayerLanguageAttribution(model, taps_found, translator)


def _stages(model: torch.nn.Module, image: torch.Tensor) -> Iterator[Tap]:
    """For each grid the last module that has it and runs once."""
    runs, grids = Counter[str](), dict[str, int]()

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4:
                runs[name] += 1
                grids[name] = output.shape[2]

        return hook

    modules = dict(model.named_modules())
    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if name]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    for grid in _GRIDS:
        name = [name for name, count in runs.items() if count == 1 and grids[name] == grid][-1]
        yield Tap(name, modules[name])


def _measure(name: str, run: Callable[[], object], rounds: int) -> dict[str, Any]:
    times, shares = [], Counter[str]()
    for _ in range(rounds):
        with _clocks() as spent:
            times.append(by_processor(run))
        shares.update(spent)
    seconds, total = statistics.median(t.counted for t in times), sum(t.counted for t in times)
    parts = {part: spent / total for part, spent in shares.items()}
    busy = is_shared(times)
    print(f"\n{name}, 1,029 locations: {seconds:.2f} s{' [machine shared]' if busy else ''}")
    print("  " + ", ".join(f"{part} {share:.1%}" for part, share in parts.items()))
    return {"job": f"{name}, 1,029 locations", "busy": busy, "seconds": seconds, "shares": parts}


@contextmanager
def _clocks() -> Iterator[Counter[str]]:
    """Processor seconds of each part while this is open; parts do not contain one another."""
    spent = Counter[str]()

    def timed(function: Callable[..., Any], part: Callable[..., str]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part(*args)] += time.process_time() - start

        return run

    with ExitStack() as stack:
        for owner, name, part in (
            (taps, "record", lambda *_: "taps"),
            (PrefixTranslator, "_vectors", lambda *_: "translator"),
            (LanguageModel, "hidden", lambda _, embeds: "decode" if embeds.shape[1] == 1 else "read"),
            (ops, "linear_lse", lambda *_: "head"),
        ):
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), part)))
        yield spent

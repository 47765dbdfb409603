"""Measure the cost of taps and features: a forward that is read, relative to a bare one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn

from torchnle import backbones
from torchnle.evaluation.record import setting
from torchnle.vision.reading import read
from torchnle.vision.suggest import suggest_layers
from torchnle.vision.taps import resolve

FAMILIES = (
    "torchvision:resnet50",
    "torchvision:convnext_tiny",
    "torchvision:swin_t",
    "timm:vit_small_patch16_224",
    "timm:efficientnet_b0",
)


def measure_overhead(
    output: Path, names: Sequence[str] = FAMILIES, *, rounds: int = 25, images: int = 4
) -> dict[str, Any]:
    """Time the bare forward and the read one alternately, and write the ratios.

    Args:
        output: The folder; results/architectures_overhead.json is written there.
        names: The models, as `backbones.load` takes them.
        rounds: How often both are run; their order alternates.
        images: The size of the batch.
    """
    ratios = {name: _ratio(name, rounds, images) for name in names}
    results = {"setting": setting(), "rounds": rounds, "images": images, "ratios": ratios}
    path = output / "results" / "architectures_overhead.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def _ratio(name: str, rounds: int, images: int) -> dict[str, float]:
    backbone = backbones.load(name, pretrained=False)
    model, size = backbone.model, backbone.preprocess.size
    x = torch.rand(images, 3, size, size)
    taps = resolve(model, [layer.name for layer in suggest_layers(model, x[:1])])
    runs: list[Callable[[], object]] = [lambda: model(x), lambda: read(model, taps, x)]
    times = _in_turn(model, runs, rounds)
    ratios = [tapped / bare for bare, tapped in times]
    low, _, high = quantiles(ratios, n=4)
    return {
        "bare_ms": round(1000 * median(bare for bare, _ in times), 2),
        "read_ms": round(1000 * median(tapped for _, tapped in times), 2),
        "ratio": round(median(ratios), 4),
        "quartile_low": round(low, 4),
        "quartile_high": round(high, 4),
    }


@torch.no_grad()
def _in_turn(model: nn.Module, runs: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, ...]]:
    """Measure processor seconds of each run in each round, after one round to warm up."""
    model.eval()
    times = []
    for number in range(rounds + 1):
        seconds = [0.0] * len(runs)
        order = range(len(runs)) if number % 2 else reversed(range(len(runs)))
        for index in order:
            started = time.process_time()
            runs[index]()
            seconds[index] = time.process_time() - started
        times.append(tuple(seconds))
    return times[1:]

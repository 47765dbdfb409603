"""Measure whether a user's own classes are named: a small network of twelve, four colours by three shapes.

Run as ``python -m measurements.own_classes FOLDER``: trains the network on drawn shapes (a minute of one
thread), fits the translator to its names and weights alone, and writes own_classes.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from torchnle import LanguageAttribution
from torchnle.evaluation import record

_COLOURS = {"red": (1, 0.1, 0.1), "blue": (0.1, 0.2, 1), "green": (0.1, 0.8, 0.2), "yellow": (1, 0.9, 0.1)}
_SHAPES = ("triangle", "circle", "square")
NAMES = [f"{colour} {shape}" for colour in _COLOURS for shape in _SHAPES]
_SIDE, _STEPS, _TESTED, _ADAPTED = 32, 700, 400, 64


def drawn(count: int, source: torch.Generator) -> tuple[Float[Tensor, "N 3 32 32"], Int[Tensor, "N"]]:
    """Draw noisy coloured shapes on grey or tinted grounds, and their classes."""
    labels = torch.randint(len(NAMES), (count,), generator=source)
    images = (torch.rand(count, 3, 1, 1, generator=source) * 0.6 + 0.2).repeat(1, 1, _SIDE, _SIDE)
    colours = torch.tensor(list(_COLOURS.values()))
    for image, label in zip(images, labels.tolist(), strict=True):
        colour, shape = divmod(label, len(_SHAPES))
        radius = 5 + 5 * float(torch.rand((), generator=source))
        inside = _inside(_SHAPES[shape], (8 + 16 * torch.rand(2, generator=source)).tolist(), radius)
        tint = colours[colour] + 0.25 * torch.randn(3, generator=source)
        image[:, inside] = tint[:, None]
    return images + 0.12 * torch.randn(images.shape, generator=source), labels


def _inside(shape: str, center: list[float], radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    down, across = rows - center[0], (columns - center[1]).abs()
    if shape == "circle":
        return down**2 + across**2 < radius**2
    if shape == "square":
        return (down.abs() < 0.85 * radius) & (across < 0.85 * radius)
    return (down < 0.8 * radius) & (across < 0.55 * (down + radius))


def trained() -> nn.Sequential:
    """Train the network, from a fixed seed."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if outputs != inputs else []
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(NAMES)))
    source, optimizer = torch.Generator().manual_seed(1), torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(_STEPS):
        images, labels = drawn(64, source)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
    return network.eval()


def measure(network: nn.Sequential) -> dict[str, Any]:
    """Count how often the network is right, and how often the description is the right label."""
    images, labels = drawn(_TESTED, torch.Generator().manual_seed(9))
    others, _ = drawn(_ADAPTED, torch.Generator().manual_seed(5))
    with torch.no_grad():
        first = network(images).argmax(dim=1)
    found: dict[str, Any] = {"network_right": float((first == labels).float().mean())}
    wanted, named = ([f"a {NAMES[i]}" for i in of] for of in (labels, first))
    for name, vocabulary in (("default", None), ("labels_alone", ())):
        for adapted in (False, True):
            lang = LanguageAttribution.from_classifier(
                network, NAMES, example=images[:2], vocabulary=vocabulary
            )
            if adapted:
                lang.adapt(others)
            descriptions = lang.describe(images)
            found[f"{name}{'_adapted' if adapted else ''}"] = {
                "label_said": sum(d.text == w for d, w in zip(descriptions, wanted, strict=True)) / _TESTED,
                "likeliest_is_the_label": sum(
                    d.phrases[0][0] == w for d, w in zip(descriptions, wanted, strict=True)
                )
                / _TESTED,
                "first_class_said": sum(d.text == w for d, w in zip(descriptions, named, strict=True))
                / _TESTED,
                "unsure": sum(d.unsure for d in descriptions) / _TESTED,
                "other_texts": sorted({d.text for d in descriptions} - {f"a {name}" for name in NAMES}),
            }
    return found


def main() -> None:
    """Measure and write own_classes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"setting": record.setting(), **measure(trained())}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "own_classes.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

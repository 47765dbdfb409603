"""``torchnle layers MODEL``: the layers of a model that are worth describing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import torch

from torchnle import backbones
from torchnle.cli.models import MODEL_HELP
from torchnle.cli.output import say
from torchnle.vision.suggest import suggest_layers


def add(commands: Any) -> None:
    """Add the command."""
    layers = commands.add_parser("layers", help="list the layers of a model that are worth describing")
    layers.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    layers.add_argument("--count", type=int, default=4, help="how many at most (default: %(default)s)")
    layers.add_argument("--size", type=int, help="side of the input in pixels (default: the model's own)")
    layers.add_argument("--json", action="store_true", help="print JSON instead of a table")
    layers.set_defaults(run=_layers)


def _layers(options: argparse.Namespace) -> None:
    """Layers do not depend on weights, so none are downloaded."""
    backbone = backbones.load(options.model, pretrained=False)
    size = options.size or backbone.preprocess.size
    found = suggest_layers(backbone.model, torch.zeros(1, 3, size, size), count=options.count)
    if options.json:
        say(json.dumps([asdict(layer) for layer in found], indent=2))
        return
    rows = [("layer", "kind", "width", "grid", "stride", "prefix")]
    rows += [
        (f.name, f.kind, str(f.width), "x".join(map(str, f.grid)), str(f.stride), str(f.num_prefix_tokens))
        for f in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

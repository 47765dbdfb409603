"""``torchnle describe PHOTO...``: what an image classifier sees, in words."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from PIL.Image import Image

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset import describe_dataset
from torchnle.cli.folders import add_lines, write_lines
from torchnle.cli.output import say
from torchnle.cli.photos import Result, add_options, for_each, print_picture
from torchnle.views import plots


def add(commands: Any) -> None:
    """Add the command."""
    describe = commands.add_parser("describe", help="put what a model sees on photos into words")
    add_options(describe)
    describe.add_argument(
        "--locations", action="store_true", help="describe every location too, and with --output draw them"
    )
    add_lines(describe)
    describe.set_defaults(run=_describe)


def _describe(options: argparse.Namespace) -> None:
    if options.lines:
        _describe_many(options)
        return

    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        features = lang.read(image)
        (whole,) = lang.describe_features(features)
        result: Result = {"photo": str(path), "whole": whole.to_dict(), "said": whole.marked_text}
        if options.locations:
            (grid,) = lang.describe_features(features, where="all")
            locations = [cell.to_dict() for cell in grid]
            result |= {"grid": list(grid.grid), "locations": locations, "table": str(grid)}
            if options.output:
                figure = plots.plot_descriptions(backbone.view(image), grid, whole=whole)
                picture = plots.save(figure, options.output / f"{options.names[path]}_words.png")
                result["picture"] = str(picture)
        return result

    for_each(options, work, _print_description)


def _describe_many(options: argparse.Namespace) -> None:
    """Write one JSON line a photograph, batch by batch."""

    def figure(view: Image, answer: Any, name: str) -> Figure:
        whole, grid = answer
        return plots.plot_descriptions(view, grid, whole=whole)

    where: Literal["all"] | None = "all" if options.locations else None
    drawn = figure if options.locations else None
    write_lines(options, partial(describe_dataset, where=where), drawn, ending="words")


def _print_description(result: Result) -> None:
    whole = result["whole"]
    say(f"{result['photo']}: {result['said']}  [{whole['score_kind']} {whole['score']:.3f}]")
    if "table" in result:
        say("\n".join(f"  {line}" for line in result["table"].splitlines()))
    print_picture(result)

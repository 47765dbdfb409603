"""``torchnle saliency PHOTO --text ...``: where texts fit what an image classifier sees."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL.Image import Image

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset.lines import Lines
from torchnle.attr.dataset.picture_list import PictureList
from torchnle.attr.dataset.saliency import mapped, saliency_dataset
from torchnle.cli.folders import add_lines, write_lines
from torchnle.cli.output import say
from torchnle.cli.photos import Result, add_options, for_each, print_picture
from torchnle.views import plots


def add(commands: Any) -> None:
    """Add the command."""
    saliency = commands.add_parser("saliency", help="map where texts fit what a model sees")
    add_options(saliency)
    saliency.add_argument("--text", action="append", required=True, help="a query; repeat for more")
    add_lines(saliency)
    saliency.set_defaults(run=_saliency)


def _saliency(options: argparse.Namespace) -> None:
    if options.lines:
        _saliency_many(options)
        return

    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        (maps,) = lang.saliency(image, options.text, interpolate_mode=None)
        texts = [mapped(text, values) for text, values in zip(options.text, maps, strict=True)]
        result: Result = {"photo": str(path), "texts": texts}
        if options.output:
            kind = f"raw {lang.translator.score_kind}"
            figure = plots.plot_saliency(backbone.view(image), maps, options.text, score_name=kind)
            picture = plots.save(figure, options.output / f"{options.names[path]}_saliency.png")
            result["picture"] = str(picture)
        return result

    for_each(options, work, _print_maps)


def _saliency_many(options: argparse.Namespace) -> None:
    def make(lang: LanguageAttribution, pictures: PictureList, **how: Any) -> Lines:
        kinds.append(f"raw {lang.translator.score_kind}")
        return saliency_dataset(lang, pictures, options.text, **how)

    def figure(view: Image, maps: torch.Tensor, name: str) -> Figure:
        return plots.plot_saliency(view, maps, options.text, score_name=kinds[0])

    kinds: list[str] = []
    write_lines(options, make, figure, ending="saliency")


def _print_maps(result: Result) -> None:
    say(result["photo"])
    for entry in result["texts"]:
        row, column = entry["peak"]
        highest = f"highest {entry['max']:.3f} at ({row}, {column})"
        say(f"  {entry['text']}: mean {entry['mean']:.3f}, {highest}")
    print_picture(result)

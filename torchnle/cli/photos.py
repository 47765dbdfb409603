"""Options, model and translator of ``describe`` and ``saliency``; one result a photograph."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from torchnle import backbones, images
from torchnle.attr import LanguageAttribution
from torchnle.cli.output import say
from torchnle.translators.base import Translator
from torchnle.views import plots
from torchnle.views.names import output_names

_TRANSLATOR_HELP = "class-names: fitted to the classifier's own; or a saved one: its name, folder or Hub id"
MODEL_HELP = "efficientnet-lite0, timm:NAME, torchvision:NAME, open_clip:NAME or transformers:NAME_OR_FOLDER"

#: What is printed, or dumped as JSON, for one photograph.
Result: TypeAlias = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what both commands take."""
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files of any size")
    parser.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    parser.add_argument("--translator", default="class-names", metavar="NAME", help=_TRANSLATOR_HELP)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write pictures (PNG) here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def for_each(
    options: argparse.Namespace, work: Callable[..., Result], show: Callable[[Result], None]
) -> None:
    """Open every photograph first, so that a bad path is told at once; then do the work on each.

    Args:
        options: As they were given.
        work: Makes the result of one photograph, given its path, a name for its outputs, and itself.
        show: Prints it.
    """
    photos = [images.open_image(path) for path in options.photos]
    if options.output:
        plots.check_folder(options.output)
    backbone = backbones.load(options.model)
    lang = attach(backbone, options.translator)
    if not options.json and lang.summary:
        say(lang.summary)
    progress = tqdm(
        zip(options.photos, output_names(options.photos), photos, strict=True),
        total=len(photos),
        unit="photo",
        disable=len(photos) == 1 or not sys.stderr.isatty(),
    )
    results = []
    for path, name, image in progress:
        results.append(work(lang, backbone, path, name, image))
        if not options.json:
            show(results[-1])
    if options.json:
        say(json.dumps(results, indent=2))


def attach(backbone: backbones.Backbone, translator: str) -> LanguageAttribution:
    """Attach a translator to a model; of several layers, the last one is read."""
    if translator == "class-names":
        return LanguageAttribution.from_backbone(backbone)
    loaded = Translator.from_pretrained(translator)
    return LanguageAttribution(backbone.model, list(loaded.layers)[-1], loaded)


def print_picture(result: Result) -> None:
    """Print where the picture was written, if one was."""
    if "picture" in result:
        say(f"  picture: {result['picture']}")

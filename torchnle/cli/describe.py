"""``torchnle describe PHOTO...``: what an image classifier sees, in words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from PIL.Image import Image
from tqdm import tqdm

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset import describe_dataset
from torchnle.cli.output import say
from torchnle.cli.photos import Result, add_options, files_of, for_each, load, print_picture
from torchnle.views import plots


def add(commands: Any) -> None:
    """Add the command."""
    describe = commands.add_parser("describe", help="put what a model sees on photos into words")
    add_options(describe)
    describe.add_argument(
        "--locations", action="store_true", help="describe every location too, and with --output draw them"
    )
    lines = describe.add_argument_group("many photographs")
    lines.add_argument(
        "--lines", type=Path, metavar="FILE", help="write JSON lines here, in batches; goes on where it was"
    )
    lines.add_argument("--batch-size", type=int, default=32, help="at once (default: %(default)s)")
    lines.add_argument("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
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
    """Write one JSON line a photograph, batch by batch; what cannot be read is counted and named."""
    if options.output:
        raise ValueError("--lines writes no pictures; leave --output out, or leave --lines out.")
    files = files_of(options.photos)
    _, lang = load(options)
    found = describe_dataset(
        lang,
        files,
        where="all" if options.locations else None,
        batch_size=options.batch_size,
        workers=options.workers,
        journal=options.lines,
    )
    progress = tqdm(found, total=len(files), unit="photo", disable=not sys.stderr.isatty())
    unreadable = [line["error"] for line in progress if "error" in line]
    for error in unreadable:
        say(f"torchnle: skipped: {error}", error=True)
    say(f"{len(files) - len(unreadable)} photographs described in {options.lines}, {len(unreadable)} skipped")


def _print_description(result: Result) -> None:
    whole = result["whole"]
    say(f"{result['photo']}: {result['said']}  [{whole['score_kind']} {whole['score']:.3f}]")
    if "table" in result:
        say("\n".join(f"  {line}" for line in result["table"].splitlines()))
    print_picture(result)

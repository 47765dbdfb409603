"""Options, model and translator of ``describe`` and ``saliency``; one result a photograph."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from PIL.Image import Image
from tqdm import tqdm

from torchnle import backbones, images
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset.picture_list import PictureList
from torchnle.cli.models import add_model_options, load_backbone
from torchnle.cli.output import say
from torchnle.evaluation.subject import attach
from torchnle.views import plots
from torchnle.views.names import output_names

#: What is printed, or dumped as JSON, for one photograph.
Result: TypeAlias = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what both commands take."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image files; folders, patterns ('photos/**/*.jpg'), lists (.txt) or shards (.tar) of them",
    )
    add_model_options(parser)
    parser.add_argument("--layer", metavar="NAME", help="the layer to read (default: the last)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write pictures (PNG) here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def load(
    options: argparse.Namespace, backbone: backbones.Backbone | None = None
) -> tuple[backbones.Backbone, LanguageAttribution]:
    """Load the model that the options name, unless it is given, and attach the translator."""
    backbone = load_backbone(options) if backbone is None else backbone
    return backbone, attach(backbone, options.translator, options.layer or None)


def files_of(given: Sequence[Path]) -> list[Path]:
    """List the files that are meant: of a folder all pictures in it, by name."""
    return [file for path in given for file in (images.list_folder(path) if path.is_dir() else [path])]


def for_each(
    options: argparse.Namespace, work: Callable[..., Result], show: Callable[[Result], None]
) -> None:
    """Check every file first, so that a bad path is told at once; then do the work on each photograph.

    Args:
        options: As they were given; `names` is set: for each file a name for its outputs.
        work: Makes the result of one photograph.
        show: Prints it.
    """
    if options.table:
        raise ValueError("--table is made of lines; pass --lines FILE too.")
    pictures = PictureList(options.photos)
    files = [Path(name) for name in pictures.names()]
    named = [str(file) for file in files] == [str(Path(given)) for given in options.photos]
    # wrong class names are told before a picture is read
    own = load_backbone(options) if options.checkpoint else None
    opened: Iterable[tuple[Path, Image]] = _opened(pictures, skip=not named)
    if named:  # one by one: all must be pictures
        opened = list(opened)
    if options.output:
        plots.check_folder(options.output)
    backbone, lang = load(options, own)
    if not options.json and lang.summary:
        say(lang.summary)
    results = []
    options.names = dict(zip(files, output_names(files), strict=True))
    quiet = len(files) == 1 or not sys.stderr.isatty()
    for file, image in tqdm(opened, total=len(files), unit="photo", disable=quiet):
        result = work(lang, backbone, file, image)
        if options.json:
            results.append(result)
        else:
            show(result)
    if options.json:
        say(json.dumps(results, indent=2))


def _opened(pictures: PictureList, *, skip: bool) -> Iterator[tuple[Path, Image]]:
    """Open one picture after the other; what is no picture is told and, of many, passed over."""
    for number, name in enumerate(pictures.names()):
        try:
            image = pictures.open(number)
        except ValueError as error:
            if not skip:
                raise
            say(f"torchnle: skipped: {error}", error=True)
            continue
        yield Path(name), image


def print_picture(result: Result) -> None:
    """Print where the picture was written, if one was."""
    if "picture" in result:
        say(f"  picture: {result['picture']}")

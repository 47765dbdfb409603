"""Options, model and translator of ``describe`` and ``saliency``; one result a photograph."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from tqdm import tqdm

from torchnle import backbones, images
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset.picture_list import PictureList
from torchnle.backbones.checkpoint import load_checkpoint, read_class_names
from torchnle.cli.output import say
from torchnle.evaluation.subject import CLASS_NAMES, attach
from torchnle.views import plots
from torchnle.views.names import output_names

_TRANSLATOR_HELP = "class-names: fitted to the classifier's own; or a saved one: its name, folder or Hub id"
MODEL_HELP = "efficientnet-lite0, timm:NAME, torchvision:NAME, open_clip:NAME or transformers:NAME_OR_FOLDER"

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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on the model and its translator."""
    parser.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    parser.add_argument("--translator", default=CLASS_NAMES, metavar="NAME", help=_TRANSLATOR_HELP)
    parser.add_argument("--device", default="cpu", help="where the model runs (default: %(default)s)")
    own = parser.add_argument_group("a model of one's own")
    own.add_argument("--checkpoint", type=Path, metavar="FILE", help="its weights: a state dict")
    own.add_argument("--arch", metavar="NAME", help="its architecture: timm:NAME or torchvision:NAME")
    own.add_argument("--class-names", type=Path, metavar="FILE", help="one a line, or JSON")
    own.add_argument("--size", type=int, metavar="PIXELS", help="side of its input (default: its own)")
    own.add_argument("--mean", type=_numbers, metavar="R,G,B", help="of its input, 0 to 1 (default: its own)")
    own.add_argument("--std", type=_numbers, metavar="R,G,B", help="as --mean")


def load(options: argparse.Namespace) -> tuple[backbones.Backbone, LanguageAttribution]:
    """Load the model that the options name, and attach the translator."""
    backbone = load_backbone(options)
    return backbone, attach(backbone, options.translator, options.layer or None)


def load_backbone(options: argparse.Namespace) -> backbones.Backbone:
    """Load the model that the options name, onto its device."""
    backbone = _own(options) if options.checkpoint else backbones.load(options.model)
    try:
        backbone.model.to(own_device(options.device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    return backbone


def own_device(device: str) -> str:
    """Return the device of this process: under torchrun each has a GPU of its own.

    Example:
        >>> own_device("cpu")
        'cpu'
    """
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device


def _own(options: argparse.Namespace) -> backbones.Backbone:
    if options.arch is None or options.class_names is None:
        raise ValueError("--checkpoint needs --arch timm:NAME or torchvision:NAME, and --class-names FILE.")
    return load_checkpoint(
        options.checkpoint,
        options.arch,
        read_class_names(options.class_names),
        size=options.size,
        mean=options.mean,
        std=options.std,
    )


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
    opened: Iterable[tuple[Path, Image]] = _opened(pictures, skip=not named)
    if named:  # one by one: all must be pictures
        opened = list(opened)
    if options.output:
        plots.check_folder(options.output)
    backbone, lang = load(options)
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


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3 or not torch.tensor(values).isfinite().all():
        raise argparse.ArgumentTypeError(f"{text!r}: pass three numbers, as 0.485,0.456,0.406")
    return values

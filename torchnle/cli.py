"""The command line, and the only place that prints.

``torchnle describe PHOTO...`` puts an image classifier into words; ``torchnle saliency PHOTO --text ...``
maps where texts fit what it sees; ``torchnle evaluate ...`` measures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from torchnle import backbones, images, visualization
from torchnle.attr import LanguageAttribution
from torchnle.description import Description, DescriptionGrid


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 on bad input, told in one sentence).

    Example:
        >>> main(["describe", "no-such-photo.png"])
        2
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"torchnle: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchnle", description="What does this layer, this place, this class mean, in words?"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    describe = commands.add_parser("describe", help="put what a model sees on photos into words")
    _add_common(describe)
    describe.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files of any size")
    describe.add_argument(
        "--places", action="store_true", help="describe every place of the layer too, and draw them"
    )
    describe.set_defaults(run=_describe)
    saliency = commands.add_parser("saliency", help="map where texts fit what a model sees")
    _add_common(saliency)
    saliency.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files of any size")
    saliency.add_argument("--text", action="append", required=True, help="a query; repeat for more")
    saliency.set_defaults(run=_saliency)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="efficientnet-lite0", choices=backbones.NAMES, help="default: %(default)s"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write pictures (PNG) here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def _describe(options: argparse.Namespace) -> None:
    backbone, photos = _open(options)
    lang = _explainer(backbone)
    results = []
    for path, image in _progress(zip(options.photos, photos, strict=True), options):
        x = backbone.preprocess(image)[None]
        (whole,) = lang.describe(x)
        (grid,) = lang.describe(x, where="all") if options.places or options.output else (None,)
        results.append(_described(path, whole, grid if options.places else None))
        if options.output:
            figure = visualization.plot_descriptions(backbone.view(image), grid, whole=whole)
            results[-1]["picture"] = str(
                visualization.save(figure, options.output / f"{path.stem}_words.png")
            )
        if not options.json:
            _print_description(results[-1], grid if options.places else None)
    if options.json:
        print(json.dumps(results, indent=2))


def _saliency(options: argparse.Namespace) -> None:
    backbone, photos = _open(options)
    lang = _explainer(backbone)
    results = []
    for path, image in _progress(zip(options.photos, photos, strict=True), options):
        (maps,) = lang.by_layer.saliency(backbone.preprocess(image)[None], options.text)
        results.append(_mapped(path, options.text, maps))
        if options.output:
            figure = visualization.plot_saliency(
                backbone.view(image), maps, options.text, score_name=f"raw {lang.translator.score_kind}"
            )
            results[-1]["picture"] = str(
                visualization.save(figure, options.output / f"{path.stem}_saliency.png")
            )
        if not options.json:
            _print_maps(results[-1])
    if options.json:
        print(json.dumps(results, indent=2))


def _open(options: argparse.Namespace) -> tuple[backbones.Backbone, list[Any]]:
    """Look at every photo before any slow work, so that a bad path is told at once."""
    photos = [images.open_image(path) for path in options.photos]
    return backbones.load(options.model), photos


def _explainer(backbone: backbones.Backbone) -> LanguageAttribution:
    torch.manual_seed(0)
    lang: LanguageAttribution = LanguageAttribution.from_classifier(backbone.model, backbone.class_names)
    return lang


def _progress(photos: Iterable[Any], options: argparse.Namespace) -> Iterable[Any]:
    shown = len(options.photos) > 1 and sys.stderr.isatty()
    progress: Iterable[Any] = tqdm(photos, total=len(options.photos), unit="photo", disable=not shown)
    return progress


def _described(path: Path, whole: Description, grid: DescriptionGrid | None) -> dict[str, Any]:
    result: dict[str, Any] = {"photo": str(path), "whole": whole.to_dict()}
    if grid is not None:
        result |= {"grid": list(grid.grid), "places": [cell.to_dict() for cell in grid]}
    return result


def _mapped(path: Path, texts: Sequence[str], maps: torch.Tensor) -> dict[str, Any]:
    entries = []
    for text, values in zip(texts, maps, strict=True):
        peak = divmod(int(values.argmax()), values.shape[1])
        entries.append(
            {
                "text": text,
                "mean": values.mean().item(),
                "max": values.max().item(),
                "peak": list(peak),
                "map": values.tolist(),
            }
        )
    return {"photo": str(path), "texts": entries}


def _print_description(result: dict[str, Any], grid: DescriptionGrid | None) -> None:
    whole = result["whole"]
    print(f"{result['photo']}: {whole['text']}  [{whole['score_kind']} {whole['score']:.3f}]")
    if grid is not None:
        print("\n".join(f"  {line}" for line in str(grid).splitlines()))
    _print_picture(result)


def _print_maps(result: dict[str, Any]) -> None:
    print(result["photo"])
    for entry in result["texts"]:
        row, column = entry["peak"]
        print(f"  {entry['text']}: mean {entry['mean']:.3f}, highest {entry['max']:.3f} at ({row}, {column})")
    _print_picture(result)


def _print_picture(result: dict[str, Any]) -> None:
    if "picture" in result:
        print(f"  picture: {result['picture']}")

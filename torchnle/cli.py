"""The command line; it, `cli_evaluate`, `cli_benchmarks` and `cli_train` are the only places that print.

``torchnle describe PHOTO...`` puts an image classifier into words; ``torchnle saliency PHOTO --text ...``
maps where texts fit what it sees; ``torchnle layers MODEL`` lists the layers worth reading; ``torchnle
train`` trains translators; ``torchnle evaluate`` runs the measurements whose results are kept in docs/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from tqdm import tqdm

from torchnle import backbones, cli_benchmarks, cli_evaluate, cli_train, images, visualization
from torchnle.attr import LanguageAttribution
from torchnle.cli_output import Parser, said_warnings, say
from torchnle.suggest import suggest_layers
from torchnle.translators.base import Translator
from torchnle.translators.class_embedding_mlp import EPOCHS

_TRANSLATOR_HELP = "class-names: fitted to the classifier's own; or a saved one: its name, folder or Hub id"
_MODEL_HELP = "efficientnet-lite0, timm:NAME, torchvision:NAME, open_clip:NAME or transformers:NAME_OR_FOLDER"

#: What is printed, or dumped as JSON, for one photo.
Result: TypeAlias = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 on bad input, told in one sentence).

    Example:
        >>> main(["describe", "no-such-photo.png"])
        2
    """
    options = _parser().parse_args(arguments)
    try:
        with said_warnings():
            options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        say(f"torchnle: {error}", error=True)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="torchnle", description="What does this layer, this place, this class mean, in words?"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    describe = commands.add_parser("describe", help="put what a model sees on photos into words")
    _add_common(describe)
    describe.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files of any size")
    describe.add_argument(
        "--places", action="store_true", help="describe every place too, and with --output draw them"
    )
    describe.set_defaults(run=_describe, translator="class-names")
    saliency = commands.add_parser("saliency", help="map where texts fit what a model sees")
    _add_common(saliency)
    saliency.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files of any size")
    saliency.add_argument("--text", action="append", required=True, help="a query; repeat for more")
    saliency.set_defaults(run=_saliency, translator="class-names")
    layers = commands.add_parser("layers", help="list the layers of a model that are worth describing")
    layers.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    layers.add_argument("--count", type=int, default=4, help="how many at most (default: %(default)s)")
    layers.add_argument("--size", type=int, help="side of the input in pixels (default: the model's own)")
    layers.add_argument("--json", action="store_true", help="print JSON instead of a table")
    layers.set_defaults(run=_layers)
    cli_train.add_to(commands.add_parser("train", help="train a translator"))
    _add_evaluate(commands.add_parser("evaluate", help="measure"))
    return parser


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    benchmarks = evaluate.add_subparsers(required=True, metavar="BENCHMARK")
    sweep = benchmarks.add_parser("architectures", help="attach to every kind of model, with random weights")
    sweep.add_argument("--all", action="store_true", help="every model of timm and open_clip")
    sweep.add_argument("--sample", action="store_true", help="a handful of small models only")
    sweep.add_argument(
        "--overhead", action="store_true", help="time taps and features on five families instead"
    )
    sweep.add_argument("--report", action="store_true", help="only write the tables from earlier records")
    sweep.add_argument("--threads", type=int, default=1, help="of each model (default: %(default)s)")
    sweep.add_argument(
        "--memory", type=float, default=3.0, help="gigabytes of weights (default: %(default)s)"
    )
    sweep.add_argument(
        "--output", type=Path, default=Path("docs"), metavar="FOLDER", help="default: %(default)s"
    )
    sweep.set_defaults(run=_evaluate_architectures)
    naming = benchmarks.add_parser("class-space", help="name held-out classes from the others' weights")
    naming.add_argument("--mlp", action="store_true", help="train the paper's network too: seconds a split")
    naming.add_argument("--splits", type=int, default=10, help="random splits (default: %(default)s)")
    naming.add_argument("--epochs", type=int, default=EPOCHS, help="of the network (default: %(default)s)")
    naming.set_defaults(run=_evaluate_class_space)
    cli_evaluate.add(benchmarks, _MODEL_HELP)
    cli_benchmarks.add(benchmarks, _MODEL_HELP)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="efficientnet-lite0", help=f"{_MODEL_HELP} (default: %(default)s)")
    parser.add_argument("--translator", metavar="NAME", help=_TRANSLATOR_HELP)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write pictures (PNG) here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def _describe(options: argparse.Namespace) -> None:
    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        x = backbone.preprocess(image)[None]
        (whole,) = lang.describe(x)
        result: Result = {"photo": str(path), "whole": whole.to_dict(), "said": whole.marked_text}
        if options.places:
            (grid,) = lang.describe(x, where="all")
            places = [cell.to_dict() for cell in grid]
            result |= {"grid": list(grid.grid), "places": places, "table": str(grid)}
            if options.output:
                figure = visualization.plot_descriptions(backbone.view(image), grid, whole=whole)
                picture = visualization.save(figure, options.output / f"{path.stem}_words.png")
                result["picture"] = str(picture)
        return result

    _for_each_photo(options, work, _print_description)


def _saliency(options: argparse.Namespace) -> None:
    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        (maps,) = lang.by_layer.saliency(backbone.preprocess(image)[None], options.text)
        texts = [_mapped(text, values) for text, values in zip(options.text, maps, strict=True)]
        result: Result = {"photo": str(path), "texts": texts}
        if options.output:
            kind = f"raw {lang.translator.score_kind}"
            figure = visualization.plot_saliency(backbone.view(image), maps, options.text, score_name=kind)
            picture = visualization.save(figure, options.output / f"{path.stem}_saliency.png")
            result["picture"] = str(picture)
        return result

    _for_each_photo(options, work, _print_maps)


def _for_each_photo(
    options: argparse.Namespace, work: Callable[..., Result], show: Callable[[Result], None]
) -> None:
    """Look at every photo before any slow work, so that a bad path is told at once; then do the work."""
    photos = [images.open_image(path) for path in options.photos]
    if options.output:
        visualization.check_folder(options.output)
    backbone = backbones.load(options.model)
    lang = _attach(backbone, options.translator)
    if not options.json and lang.summary:
        say(lang.summary)
    progress = tqdm(
        zip(options.photos, photos, strict=True),
        total=len(photos),
        unit="photo",
        disable=len(photos) == 1 or not sys.stderr.isatty(),
    )
    results = []
    for path, image in progress:
        results.append(work(lang, backbone, path, image))
        if not options.json:
            show(results[-1])
    if options.json:
        say(json.dumps(results, indent=2))


def _attach(backbone: backbones.Backbone, translator: str) -> LanguageAttribution:
    """Attach a translator to a model; of several layers, the last one is read."""
    if translator == "class-names":
        return LanguageAttribution.from_backbone(backbone)
    loaded = Translator.from_pretrained(translator)
    return LanguageAttribution(backbone.model, list(loaded.layers)[-1], loaded)


def _mapped(text: str, values: torch.Tensor) -> Result:
    peak = divmod(int(values.argmax()), values.shape[1])
    mean, most = values.mean().item(), values.max().item()
    return {"text": text, "mean": mean, "max": most, "peak": list(peak), "map": values.tolist()}


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


def _evaluate_class_space(options: argparse.Namespace) -> None:
    from torchnle.evaluation import class_space

    found = class_space.measure(mlp=options.mlp, splits=options.splits, epochs=options.epochs)
    say(json.dumps(found, indent=1))


def _evaluate_architectures(options: argparse.Namespace) -> None:
    from torchnle.evaluation import architectures

    torch.set_num_threads(1)
    if options.overhead:
        say(json.dumps(architectures.measure_overhead(options.output), indent=2))
        return
    if not options.report:
        chosen = architectures.sample() if options.sample else architectures.cases(every_member=options.all)
        finished, memory = options.output / architectures.FINISHED, int(options.memory * 1e9)
        for record in architectures.sweep(chosen, finished, memory=memory, threads=options.threads):
            problems = " ".join(record["problems"])
            say(f"{record['status']:9} {record['key']}  {problems}")
    say(architectures.write_report(options.output))


def _print_description(result: Result) -> None:
    whole = result["whole"]
    say(f"{result['photo']}: {result['said']}  [{whole['score_kind']} {whole['score']:.3f}]")
    if "table" in result:
        say("\n".join(f"  {line}" for line in result["table"].splitlines()))
    _print_picture(result)


def _print_maps(result: Result) -> None:
    say(result["photo"])
    for entry in result["texts"]:
        row, column = entry["peak"]
        highest = f"highest {entry['max']:.3f} at ({row}, {column})"
        say(f"  {entry['text']}: mean {entry['mean']:.3f}, {highest}")
    _print_picture(result)


def _print_picture(result: Result) -> None:
    if "picture" in result:
        say(f"  picture: {result['picture']}")

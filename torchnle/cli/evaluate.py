"""``torchnle evaluate``: measure a translator of one's own.

``scenes``, ``photographs``, ``class-maps`` and ``milannotations``: each prints Markdown or JSON, and writes
both into a folder where one is given.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.cli.models import MODEL_HELP
from torchnle.cli.output import say
from torchnle.views import plots

if TYPE_CHECKING:
    from torchnle.data import Scenes  # imports all data sets

#: What a measurement found.
Found: TypeAlias = dict[str, Any]


def add(commands: Any) -> None:
    """Add the command with its subcommands."""
    evaluate = commands.add_parser("evaluate", help="measure a translator")
    benchmarks = evaluate.add_subparsers(required=True, metavar="BENCHMARK")
    scenes = benchmarks.add_parser("scenes", help="local naming, pointing and captions on composed scenes")
    add_subject(scenes, count=200)
    add_scenes(scenes)
    scenes.add_argument("--maps", type=int, metavar="N", help="make maps on N scenes only (default: all)")
    scenes.add_argument(
        "--rivals",
        type=int,
        default=16,
        metavar="N",
        help="phrases a query is set against in the contrast variants (default: %(default)s; 0 = none)",
    )
    scenes.add_argument(
        "--probe",
        type=int,
        default=3000,
        metavar="N",
        help="scenes the ridge probe learns from (default: %(default)s; 0 = none)",
    )
    scenes.set_defaults(run=_evaluate_scenes)
    photographs = benchmarks.add_parser("photographs", help="what is said of photographs, judged by WordNet")
    photographs.add_argument("folder", type=Path, metavar="FOLDER", help="the photographs")
    photographs.add_argument("truth", type=Path, metavar="TRUTH", help="JSON: what is in them")
    add_subject(photographs, count=None)
    photographs.add_argument(
        "--rounds", type=int, default=3, help="grids a photograph comes in, at most (default: %(default)s)"
    )
    photographs.add_argument(
        "--adapt", type=Path, metavar="FOLDER", help="first adapt the translator to all pictures of a folder"
    )
    photographs.add_argument(
        "--folds",
        type=int,
        default=1,
        metavar="K",
        help="read each of K folds adapted to the others' photographs (default: %(default)s, not adapted)",
    )
    add_batch(photographs)
    photographs.set_defaults(run=_evaluate_photographs)
    maps = benchmarks.add_parser("class-maps", help="insertion and deletion of class maps, against Grad-CAM")
    add_subject(maps, count=300)
    maps.add_argument(
        "--steps", type=int, default=28, help="parts the pixels change in (default: %(default)s)"
    )
    maps.add_argument("--contrast", action="store_true", help="also set the query against all other classes")
    maps.add_argument("--bfloat16", action="store_true", help="ask about perturbed images in bfloat16")
    maps.set_defaults(run=_evaluate_class_maps)
    units = benchmarks.add_parser("milannotations", help="sentences for annotated units against people's")
    units.add_argument("folder", type=Path, metavar="FOLDER", help="one network's annotations.csv and layers")
    add_subject(units, count=None)
    units.set_defaults(run=_evaluate_milannotations)


def add_subject(
    parser: argparse.ArgumentParser, *, count: int | None, translator: str = "class-names"
) -> None:
    """Add the options that say which model and translator are measured, on how many."""
    parser.add_argument(
        "--model", "--backbone", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)"
    )
    parser.add_argument(
        "--translator",
        default=translator,
        metavar="REF",
        help="a folder, a Hub id, or class-names (default: %(default)s)",
    )
    parser.add_argument(
        "--layer", action="append", default=[], help="layers to read (default: the translator's)"
    )
    parser.add_argument("--cutouts", type=Path, metavar="FOLDER", help="captioned cut-outs (default: shapes)")
    parser.add_argument(
        "--count", type=int, default=count, help="how many to measure on (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is measured on (default: %(default)s)")
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options by which `write_results` prints and writes down what was measured."""
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


def add_scenes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which scenes are composed."""
    parser.add_argument("--part", choices=("all", "train", "test"), default="all", help="of the cut-outs")
    parser.add_argument(
        "--objects", type=int, nargs=2, default=(2, 2), metavar="N", help="least and most (default: 2 2)"
    )
    parser.add_argument(
        "--scorer", metavar="REF", help="judges pictures and texts: class-names or open_clip:NAME[@TAG]"
    )
    add_batch(parser)


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add the option that bounds the rows in the language model."""
    parser.add_argument("--batch", type=int, metavar="N", help="rows in the language model at once")


def _evaluate_scenes(options: argparse.Namespace) -> None:
    from torchnle.evaluation import scenes, scorers
    from torchnle.language.text_encoder import TextEncoder

    backbone, lang = subject(options)
    found = scenes.measure(
        backbone,
        lang,
        scenes_of(options),
        encoder=TextEncoder.from_pretrained(),
        scorer=scorers.scorer_for(options.scorer, backbone) if options.scorer else None,
        probe=scenes_of(options, length=options.probe, seed=options.seed + 1) if options.probe else None,
        maps=options.maps,
        rivals=options.rivals,
        internal_batch_size=options.batch,
        progress=sys.stderr.isatty(),
    )
    write_results(options, "scenes", found, scenes.page)


def _evaluate_photographs(options: argparse.Namespace) -> None:
    from torchnle.evaluation import photographs

    known = photographs.read_photographs(options.folder, options.truth)[: options.count]
    found = photographs.measure(
        *subject(options),
        known,
        seed=options.seed,
        rounds=options.rounds,
        folds=options.folds,
        adapt_to=options.adapt,
        internal_batch_size=options.batch,
        progress=sys.stderr.isatty(),
    )
    if options.output:
        photographs.write_answers(options.output, found["said"])
    write_results(options, "summary", found["summary"], photographs.page)


def _evaluate_class_maps(options: argparse.Namespace) -> None:
    from torchnle.evaluation import class_maps

    backbone, lang = subject(options)
    pictures = class_maps.pictures(backbone, options.cutouts, options.count, seed=options.seed)
    found = class_maps.measure(
        backbone,
        lang,
        pictures,
        steps=options.steps,
        bfloat16=options.bfloat16,
        contrast=options.contrast,
        seed=options.seed,
        journal=options.output and options.output / "class_maps.jsonl",
        progress=sys.stderr.isatty(),
    )
    write_results(options, "class_maps", found, class_maps.page)


def _evaluate_milannotations(options: argparse.Namespace) -> None:
    from torchnle.evaluation import milannotations
    from torchnle.language.text_encoder import TextEncoder

    backbone, lang = subject(options)
    found = milannotations.measure(
        options.folder,
        backbone,
        lang,
        TextEncoder.from_pretrained(),
        count=options.count,
        progress=sys.stderr.isatty(),
    )
    write_results(options, "milannotations", found, milannotations.page)


def subject(options: argparse.Namespace) -> tuple[backbones.Backbone, LanguageAttribution]:
    """Load the backbone and attach the translator that the options name."""
    from torchnle.evaluation.subject import attach

    if options.output:
        plots.check_folder(options.output)
    backbone = backbones.load(options.model)
    return backbone, attach(backbone, options.translator, options.layer)


def scenes_of(options: argparse.Namespace, **changes: Any) -> Scenes:
    """Compose the scenes that the options ask for."""
    from torchnle.evaluation.scenes import composed

    chosen = {"length": options.count, "objects": tuple(options.objects), "seed": options.seed, **changes}
    return composed(options.cutouts, part=options.part, **chosen)


def write_results(options: argparse.Namespace, name: str, found: Found, page: Callable[[Found], str]) -> None:
    """Print what was measured and, where asked, write it down with its setting.

    Args:
        options: As they were given; `json` and `output` say how and where to.
        name: Of the files.
        found: What was measured.
        page: Makes Markdown of it.
    """
    from torchnle.evaluation import record

    given = {key: value for key, value in vars(options).items() if key not in ("run", "output", "json")}
    stated = {key: str(value) for key, value in given.items() if not _is_path(value)}
    data = {"setting": record.setting(), "options": stated, **found}
    say(json.dumps(record.plain(data), indent=1) if options.json else page(data))
    if options.output:
        record.write(options.output, name, data, page(data))


def _is_path(value: object) -> bool:
    """Return whether an option names a place on this machine, which is no part of a result."""
    return isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value))

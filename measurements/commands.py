"""The subcommands of ``python -m measurements``; each prints, and writes JSON and Markdown on request."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from measurements import text_decoder
from measurements.devil import evidence, repetition
from measurements.explorer import run as explorer
from measurements.folder import run as folder
from measurements.folder import start_up
from measurements.reliability import commands as reliability
from measurements.scale_out import run as scale_out
from measurements.units import run as dissect_units
from torchnle import backbones
from torchnle.cli.evaluate import (
    add_batch,
    add_output,
    add_scenes,
    add_subject,
    scenes_of,
    subject,
    write_results,
)
from torchnle.cli.models import MODEL_HELP
from torchnle.cli.output import say
from torchnle.data import load_cutouts, shapes
from torchnle.evaluation.subject import attach
from torchnle.methods.aligned.regression.class_embedding_mlp import EPOCHS
from torchnle.views import plots


def add(commands: Any) -> None:
    """Add every measurement to the subparsers."""
    _add_addressing(commands)
    _add_costs(commands)
    _add_on_scenes(commands)
    _add_architectures(commands)
    _add_class_space(commands)
    _add_scenes_map(commands)
    _add_lens(commands)
    text_decoder.add(commands)
    evidence.add(commands)
    repetition.add(commands)
    _add_call_path(commands)
    explorer.add(commands)
    folder.add(commands)
    scale_out.add(commands)
    start_up.add(commands)
    reliability.add(commands)
    dissect_units.add(commands)


def _add_call_path(benchmarks: Any) -> None:
    path = benchmarks.add_parser("call-path", help="the files that describe and saliency pass")
    add_output(path)
    path.set_defaults(run=_call_path)


def _call_path(options: argparse.Namespace) -> None:
    from measurements import call_path

    write_results(options, "call_path", call_path.measure(), call_path.page)


def _add_addressing(benchmarks: Any) -> None:
    addressing = benchmarks.add_parser(
        "addressing", help="how a language model understands a prefix, untrained"
    )
    addressing.add_argument(
        "--texts", type=Path, dest="file", metavar="FILE", help="one a line (default: made of class names)"
    )
    addressing.add_argument("--count", type=int, default=256, help="texts to say (default: %(default)s)")
    addressing.add_argument(
        "--steps", type=int, default=60, help="of training, from each start (default: %(default)s)"
    )
    addressing.add_argument("--batch", type=int, default=32, help="texts a step (default: %(default)s)")
    addressing.add_argument("--language-model", metavar="REF", help="a reference (default: the embedded one)")
    _add_common(addressing)
    addressing.set_defaults(run=_addressing)


def _add_costs(benchmarks: Any) -> None:
    costs = benchmarks.add_parser("costs", help="seconds of every method of explanation, on this machine")
    costs.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    costs.add_argument(
        "--captions",
        default="aligned-efficientnet-lite0-scenes",
        metavar="REF",
        help="a map of the model fitted to captions (default: %(default)s)",
    )
    costs.add_argument("--devil", metavar="REF", help="a trained DeViL translator (default: random weights)")
    costs.add_argument("--photo", type=Path, metavar="FILE", help="what is described (default: a cat)")
    costs.add_argument("--texts", type=int, default=1000, help="mapped at once (default: %(default)s)")
    costs.add_argument("--scenes", type=int, default=10_000, help="to solve for (default: %(default)s)")
    costs.add_argument("--rounds", type=int, default=5, help="of each timing (default: %(default)s)")
    costs.add_argument(
        "--limit", type=float, default=60, help="seconds after which no round starts (default: %(default)s)"
    )
    _add_common(costs)
    costs.set_defaults(run=_costs)


def _add_on_scenes(benchmarks: Any) -> None:
    objects = benchmarks.add_parser("class-objects", help="are scenes' objects that belong to a class named?")
    add_subject(objects, count=200)
    objects.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(0.3, 0.6),
        metavar="PART",
        help="an object's longer side, least and most, of the scene's (default: 0.3 0.6)",
    )
    add_batch(objects)
    objects.set_defaults(run=_class_objects)
    tables = benchmarks.add_parser(
        "devil-tables", help="DeViL's tables 2 and 4 and figure 7, on composed scenes"
    )
    add_subject(tables, count=200)
    add_scenes(tables)
    for name in ("no-dropout", "token-dropout"):
        tables.add_argument(f"--{name}", metavar="REF", help="the translator trained so, for table 2")
    tables.set_defaults(run=_devil_tables)


def _add_architectures(benchmarks: Any) -> None:
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
    sweep.set_defaults(run=_architectures)


def _add_class_space(benchmarks: Any) -> None:
    naming = benchmarks.add_parser("class-space", help="name held-out classes from the others' weights")
    naming.add_argument("--mlp", action="store_true", help="train the paper's network too: seconds a split")
    naming.add_argument("--splits", type=int, default=10, help="random splits (default: %(default)s)")
    naming.add_argument("--epochs", type=int, default=EPOCHS, help="of the network (default: %(default)s)")
    naming.set_defaults(run=_class_space)


def _add_scenes_map(benchmarks: Any) -> None:
    parser = benchmarks.add_parser("scenes-map", help="fit a map from text into features to composed scenes")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--stamps", type=Path, metavar="FOLDER", help="captioned cut-outs")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--model", help="as `torchnle describe` takes it (default: efficientnet-lite0)")
    parser.add_argument("--layer", action="append", dest="layers", help="repeat for more")
    parser.add_argument("--scenes", type=int, dest="count", help="how many (default: 8000)")
    parser.add_argument("--part", choices=("all", "train", "test"), help="of the cut-outs (default: all)")
    parser.add_argument("--classes", action="store_true", help="add the backbone's class names")
    parser.add_argument(
        "--decoder", metavar="REF", help="describes whole pictures in sentences (default: none)"
    )
    parser.add_argument(
        "--adapt", type=Path, metavar="FOLDER", help="pictures whose statistics are saved with it"
    )
    parser.set_defaults(run=_scenes_map)


def _add_lens(benchmarks: Any) -> None:
    lens = benchmarks.add_parser("lens", help="lower layers through the model's own upper part")
    lens.add_argument("--model", default="efficientnet-lite0", help=f"{MODEL_HELP} (default: %(default)s)")
    lens.add_argument("--layer", action="append", dest="layers", help="repeat for more")
    lens.add_argument("--stamps", type=Path, metavar="FOLDER", help="captioned cut-outs: naming on scenes")
    lens.add_argument("--translator", metavar="REF", help="a map of the head's layer, of --part train")
    lens.add_argument("--scenes", type=int, default=100, help="how many (default: %(default)s)")
    lens.add_argument("--photographs", type=Path, metavar="FOLDER", help="naming and pointing on these")
    lens.add_argument("--truth", type=Path, metavar="FILE", help="JSON: what is in the photographs")
    lens.add_argument("--kind", action="append", dest="kinds", help="of reading them (default: lens)")
    lens.add_argument(
        "--fitted-to", type=int, default=256, help="scenes to fit lenses to (default: %(default)s)"
    )
    lens.add_argument("--costs", action="store_true", help="time one location and all")
    _add_common(lens)
    lens.set_defaults(run=_lens)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of texts and training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    add_output(parser)


def _addressing(options: argparse.Namespace) -> None:
    from measurements import addressing
    from measurements.phrases import phrases
    from torchnle import hub
    from torchnle.language.model import LanguageModel
    from torchnle.language.text_encoder import TextEncoder

    _prepare(options)
    recipe = replace(
        addressing.START_RECIPE, steps=options.steps, batch_size=options.batch, seed=options.seed
    )
    if options.file:
        given = [line.strip() for line in options.file.read_text(encoding="utf-8").splitlines()]
    else:
        given = phrases(options.count + max(1, options.steps * options.batch), seed=options.seed)
    texts, rest = addressing.split([text for text in given if text], options.count, seed=options.seed)
    lm = LanguageModel.from_pretrained(options.language_model or hub.SMOLLM2)
    encoder = TextEncoder.from_pretrained()
    found = addressing.measure(lm, encoder, texts, rest, recipe=recipe, progress=sys.stderr.isatty())
    write_results(options, "addressing", found, addressing.page)


def _costs(options: argparse.Namespace) -> None:
    from measurements import costs
    from measurements.phrases import phrases
    from torchnle.language.text_encoder import TextEncoder
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
    from torchnle.translators.base import Translator

    _prepare(options)
    clock = costs.Clock(options.rounds, options.limit)
    backbone = backbones.load(options.model)
    found = costs.measure(
        backbone,
        costs.photograph(backbone, options.photo),
        [phrases(options.texts, seed=options.seed + turn) for turn in range(options.rounds + 1)],
        TextEncoder.from_pretrained(),
        TextDecoder.from_pretrained(),
        captions=Translator.from_pretrained(options.captions),
        devil=Translator.from_pretrained(options.devil) if options.devil else None,
        scenes=options.scenes,
        clock=clock,
        progress=sys.stderr.isatty(),
    )
    write_results(options, "costs", found, costs.page)


def _prepare(options: argparse.Namespace) -> None:
    if options.output:
        plots.check_folder(options.output)
    if options.threads < 1:
        raise ValueError(f"--threads {options.threads}: pass 1 or more.")
    torch.set_num_threads(options.threads)


def _class_objects(options: argparse.Namespace) -> None:
    from measurements import class_objects

    backbone, lang = subject(options)
    found = class_objects.measure(
        backbone,
        lang,
        shapes() if options.cutouts is None else load_cutouts(options.cutouts),
        count=options.count,
        scale=tuple(options.scale),
        seed=options.seed,
        internal_batch_size=options.batch,
        progress=sys.stderr.isatty(),
    )
    write_results(options, "class_objects", found, class_objects.page)


def _devil_tables(options: argparse.Namespace) -> None:
    from measurements import devil
    from torchnle.evaluation import scorers

    backbone, lang = subject(options)
    scenes = scenes_of(options)
    found: dict[str, Any] = {
        "translator": lang.translator.name,
        "scenes": {"count": len(scenes), "seed": scenes.seed},
    }
    trained = {
        name: attach(backbone, reference, options.layer)
        for name, reference in (("none", options.no_dropout), ("token", options.token_dropout))
        if reference
    }
    batch = {"internal_batch_size": options.batch}
    if len(lang.taps) > 1:
        found["table_2"] = devil.dropout_table(
            backbone, {**trained, "token and feature": lang}, scenes, **batch
        )
    found["table_4"] = devil.layer_table(backbone, lang, scenes, **batch)
    if options.scorer:
        scorer = scorers.scorer_for(options.scorer, backbone)
        found |= {
            "scorer": options.scorer,
            "figure_7": devil.crop_sizes(backbone, lang, scenes, scorer, **batch),
        }
    write_results(options, "devil_tables", found, devil.page)


def _class_space(options: argparse.Namespace) -> None:
    from measurements import class_space

    found = class_space.measure(mlp=options.mlp, splits=options.splits, epochs=options.epochs)
    say(json.dumps(found, indent=1))


def _architectures(options: argparse.Namespace) -> None:
    from measurements import architectures

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


def _scenes_map(options: argparse.Namespace) -> None:

    from measurements.scenes_map import fit_to_scenes

    names = ("model", "layers", "count", "stamps", "part", "seed", "decoder", "classes", "adapt")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    translator = fit_to_scenes(options.output, **chosen)
    say(json.dumps(translator.card, indent=1))
    say(f"translator: {options.output}")


def _lens(options: argparse.Namespace) -> None:
    from measurements import lens
    from measurements.costs import Clock, photograph
    from torchnle.evaluation.photographs import read_photographs
    from torchnle.evaluation.scenes.data import composed, images_of
    from torchnle.methods.aligned.translator import MapTranslator

    _prepare(options)
    backbone = backbones.load(options.model)
    fitted_to = composed(options.stamps, objects=(1, 3), seed=options.seed + 2, length=options.fitted_to)[:]
    subject = lens.Subject(backbone, options.layers or lens.LAYERS, images_of(backbone, fitted_to))
    found: dict[str, Any] = {}
    if options.stamps:
        reference = options.translator
        translator = MapTranslator.from_pretrained(reference) if reference else None
        found["scenes"] = lens.measure_scenes(
            subject, options.stamps, translator, count=options.scenes, seed=options.seed
        )
    if options.photographs:
        photographs = read_photographs(options.photographs, options.truth)
        found["photographs"] = lens.measure_photographs(subject, photographs, options.kinds or ["lens"])
    if options.costs:
        clock = Clock(rounds=3, limit=60)
        found["costs"] = lens.measure_costs(subject, photograph(backbone), clock)
    write_results(options, "lens", found, lens.page)

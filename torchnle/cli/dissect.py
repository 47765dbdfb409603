"""``torchnle dissect MODEL --layer L --probe FOLDER``: label the units of a layer."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from torchnle import backbones, images
from torchnle.cli.models import MODEL_HELP, add_own_options, load_backbone
from torchnle.cli.output import say
from torchnle.types import Labeller
from torchnle.vision import taps

#: With so many images a correlation of .18 is reliable.
_ENOUGH = 500


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("dissect", help="label the units of a layer by what excites them")
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"{MODEL_HELP}; or pass --checkpoint")
    parser.add_argument("--layer", required=True, metavar="NAME", help="`torchnle layers` lists them")
    parser.add_argument("--probe", type=Path, required=True, metavar="FOLDER", help="images to probe with")
    parser.add_argument(
        "--translator",
        metavar="REF",
        help="a saved one, for the words (default: fitted to class names)",
    )
    parser.add_argument("--units", type=int, nargs="+", metavar="N", help="label these only (default: all)")
    parser.add_argument(
        "--exemplars",
        type=int,
        default=10,
        metavar="K",
        help="describe a unit by the K images that excite it most (default: %(default)s)",
    )
    parser.add_argument(
        "--summary",
        choices=("mean", "max", "class token"),
        default="mean",
        help="a unit's activation in an image, from those at its locations (default: %(default)s)",
    )
    parser.add_argument(
        "--by", choices=get_args(Labeller), help="label by another method (default: Describe-and-Dissect)"
    )
    parser.add_argument(
        "--labels",
        type=int,
        default=1,
        metavar="N",
        help="give a unit up to N labels, if it responds to several things (default: %(default)s)",
    )
    parser.add_argument("--crops", action="store_true", help="add attention crops to the exemplars")
    parser.add_argument("--colours", action="store_true", help="add the colour that exemplars share")
    parser.add_argument("--chat", action="store_true", help="summarise with the embedded language model")
    parser.add_argument("--address", metavar="URL", help="summarise through an OpenAI-compatible address")
    parser.add_argument("--chat-model", default="default", metavar="NAME", help="the model at that address")
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="images at once (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep results of steps; a run that was stopped goes on",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the report (HTML, JSON) here")
    parser.add_argument("--find", metavar="TEXT", help="print the units nearest to a text only")
    parser.add_argument("--find-picture", type=Path, metavar="FILE", help="print the units that it excites")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    add_own_options(parser)
    parser.set_defaults(run=_dissect)


def _dissect(options: argparse.Namespace) -> None:
    from torchnle.methods.dissect.labels import Origin
    from torchnle.methods.dissect.probing.images import ProbingSet
    from torchnle.methods.dissect.probing.settings import ProbeSettings
    from torchnle.methods.dissect.report.pages import write_report
    from torchnle.methods.dissect.run import DissectSettings, dissect

    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
    if (options.model is None) == (options.checkpoint is None):
        raise ValueError("pass either a MODEL by name, or --checkpoint FILE of your own, and not both.")
    backbone = load_backbone(options)
    probing_set = ProbingSet(options.probe, backbone.preprocess)
    summariser, usage = _summariser(options)
    found = dissect(
        backbone.model,
        options.layer,
        probing_set,
        class_names=None if options.translator else backbone.class_names,
        translator=options.translator,
        only=options.units,
        summariser=summariser,
        probing=ProbeSettings(summary=options.summary, k=options.exemplars, batch_size=options.batch),
        settings=DissectSettings(
            labels=options.labels, crops=options.crops, colours=options.colours, labeller=options.by
        ),
        cache=options.cache,
        progress=sys.stderr.isatty(),
    )
    found.origin = replace(found.origin or Origin(), model=backbone.name)
    shown = _shown(found, backbone, options)
    if options.json:
        say(json.dumps(found.to_dict() if shown is found else [vars(label) for label in shown], indent=1))
    else:
        for label in shown:
            say(str(label))
    _hint(found, probing_set)
    if usage is not None:
        say(usage.line(), error=True)
    if options.output:
        files = write_report(found, options.output)
        (options.output / "labels.json").write_text(json.dumps(found.to_dict()) + "\n", encoding="utf-8")
        say(f"report: {files[0]}", error=options.json)


def _hint(found: Any, probing_set: Any) -> None:
    """Say why no label is reliable, where the images are too few for that."""
    if not found.reliable and len(probing_set) < _ENOUGH:
        say(
            f"no label is reliable: {len(probing_set)} images are few, and a label must correlate with its "
            f"unit by more than {min(1.0, 4 / len(probing_set) ** 0.5):.2f}. Probe with {_ENOUGH} or more.",
            error=True,
        )


def _shown(found: Any, backbone: backbones.Backbone, options: argparse.Namespace) -> Any:
    """All labels, or those near to a text, or those of the units that a picture excites most."""
    if options.find_picture:
        from torchnle.methods.dissect.exemplars.pool import UnitRunner
        from torchnle.methods.dissect.probing.settings import ProbeSettings

        (tap,) = taps.resolve(backbone.model, options.layer)
        settings = ProbeSettings(summary=options.summary)
        runner = UnitRunner(backbone.model, tap, backbone.preprocess, settings=settings)
        activations = runner.activations([images.open_image(options.find_picture)])[0]
        return [label for label, _ in found.find_active(activations)]
    return found if options.find is None else found.find(options.find)


def _summariser(options: argparse.Namespace) -> tuple[Any, Any]:
    """The summariser asked for, and what counts the calls of a served one."""
    from torchnle.methods.dissect.candidates.summarisers import ChatSummariser

    if options.address:
        from torchnle.methods.dissect.candidates.served_chat import ServedChat

        served = ServedChat(options.address, options.chat_model)
        return ChatSummariser(served), served.usage
    if options.chat:
        from torchnle.methods.dissect.candidates.local_chat import LocalChat

        return ChatSummariser(LocalChat()), None
    return None, None

"""``torchnle explain PHOTO...``: why a classifier predicts what it predicts, in a sentence."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from PIL.Image import Image

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset.explain import explain_dataset
from torchnle.cli.folders import add_lines, write_lines
from torchnle.cli.output import say
from torchnle.cli.photos import Result, add_options, for_each


def add(commands: Any) -> None:
    """Add the command."""
    explain = commands.add_parser("explain", help="say why a classifier predicts what it does on photos")
    add_options(explain)
    explain.add_argument("--target", metavar="CLASS", help="explain this class instead of the predicted one")
    against = explain.add_mutually_exclusive_group()
    against.add_argument("--rather-than", metavar="CLASS", help="set the prediction against this class")
    against.add_argument("--truth", metavar="CLASS", help="what the photos show: say where to look if wrong")
    explain.add_argument(
        "--unwanted", action="append", default=[], metavar="WORD", help="never say this word (repeatable)"
    )
    explain.add_argument("--bank", type=Path, metavar="FILE", help="concepts: .txt, or .json as published")
    explain.add_argument(
        "--concepts", type=int, default=5, metavar="N", help="how many (default: %(default)s)"
    )
    explain.add_argument(
        "--colours", action="store_true", help="name the colour of what was looked at, if sure"
    )
    add_lines(explain)
    explain.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> None:
    from torchnle.methods.zero_shot.banks import as_bank

    bank = None if options.bank is None else as_bank(options.bank)  # a bad file is told before any model runs
    if options.lines:
        asked_of_all = {
            "target": options.target,
            "rather_than": options.rather_than,
            "truth": options.truth,
            "unwanted": options.unwanted,
            "bank": bank,
            "count": options.concepts,
            "colours": options.colours,
        }
        write_lines(options, partial(explain_dataset, **asked_of_all))
        return

    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        asked = {"target": options.target, "rather_than": options.rather_than}
        read = lang.read(image)  # once for both
        (why,) = lang.explain(
            read, truth=options.truth, unwanted=options.unwanted, colours=options.colours, **asked
        )
        (shown,) = lang.concepts(read, bank, count=options.concepts, **asked)
        concepts = [[text, score] for text, score in shown.found]
        return {"photo": str(path), "said": str(why), **why.to_dict(), "concepts": concepts}

    for_each(options, work, _print)


def _print(result: Result) -> None:
    say(f"{result['photo']}: {result['said']}")
    say(f"  fits better than {result['percentile']:.0f} % of other sentences, cosine {result['score']:.2f}")
    say("  concepts: " + ", ".join(text for text, _ in result["concepts"]))

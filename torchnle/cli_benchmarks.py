"""``torchnle evaluate addressing`` and ``costs``: what explanations rest on, and what they take."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torchnle import backbones, visualization
from torchnle.cli_evaluate import leave


def add(benchmarks: Any, model_help: str) -> None:
    """Add the commands.

    Args:
        benchmarks: The subparsers of ``evaluate``.
        model_help: How models are named.
    """
    address = benchmarks.add_parser("addressing", help="how a language model understands a prefix, untrained")
    address.add_argument(
        "--texts", type=Path, dest="file", metavar="FILE", help="one a line (default: made of class names)"
    )
    address.add_argument("--count", type=int, default=256, help="texts to say (default: %(default)s)")
    address.add_argument(
        "--steps", type=int, default=60, help="of training, from each start (default: %(default)s)"
    )
    address.add_argument("--batch", type=int, default=32, help="texts a step (default: %(default)s)")
    address.add_argument("--language-model", metavar="REF", help="a reference (default: the embedded one)")
    _add_common(address)
    address.set_defaults(run=_addressing)
    costs = benchmarks.add_parser("costs", help="seconds of every way of explaining, on this machine")
    costs.add_argument("--model", default="efficientnet-lite0", help=f"{model_help} (default: %(default)s)")
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
        "--limit", type=float, default=60, help="seconds after which no round begins (default: %(default)s)"
    )
    _add_common(costs)
    costs.set_defaults(run=_costs)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of texts and training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


def _addressing(options: argparse.Namespace) -> None:
    from torchnle import hub
    from torchnle.evaluation import addressing
    from torchnle.evaluation.phrases import phrases
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
    leave(options, "addressing", found, addressing.page)


def _costs(options: argparse.Namespace) -> None:
    from torchnle.evaluation import costs
    from torchnle.evaluation.phrases import phrases
    from torchnle.language.text_encoder import TextEncoder
    from torchnle.translators.base import Translator
    from torchnle.translators.text_decoder import TextDecoder

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
    leave(options, "costs", found, costs.page)


def _prepare(options: argparse.Namespace) -> None:
    if options.output:
        visualization.check_folder(options.output)
    if options.threads < 1:
        raise ValueError(f"--threads {options.threads}: pass 1 or more.")
    torch.set_num_threads(options.threads)

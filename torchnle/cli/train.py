"""`torchnle train`: the subcommands that train translators."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchnle.cli.output import say

if TYPE_CHECKING:
    from torchnle.training.log import RunLog

_SHOWN = 10


def add(commands: Any) -> None:
    """Add the command with its subcommands; without one, it trains DeViL."""
    parser = commands.add_parser("train", help="train a translator")
    _add_recipe(parser, _devil)
    methods = parser.add_subparsers(required=False, metavar="METHOD")
    _add_recipe(
        methods.add_parser("devil", help="a DeViL translator, from a recipe file (the default)"), _devil
    )
    _add_recipe(methods.add_parser("texplain", help="a TExplain translator, from a recipe file"), _texplain)
    _add_text_decoder(methods.add_parser("text-decoder", help="the text decoder, on text alone"))


def _add_recipe(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a recipe: a file, or a shipped one, as shapes.toml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="change a value of the recipe (training.steps=100); repeat for more",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write for TensorBoard too")
    parser.set_defaults(run=run)


def _add_text_decoder(parser: argparse.ArgumentParser) -> None:
    _add_sources(parser)
    parser.add_argument("--encoder", metavar="REFERENCE", help="whose embeddings it reads")
    parser.add_argument("--language-model", metavar="REFERENCE", help="what it speaks through")
    parser.add_argument("--wordnet", type=Path, metavar="FOLDER", help="holds index.noun and data.noun")
    parser.add_argument("--steps", type=int, help="through the language model (default: the recipe's)")
    parser.add_argument("--word-steps", type=int, help="before, without it (default: the recipe's)")
    parser.add_argument(
        "--most", type=int, metavar="TEXTS", help="to train on, beside known phrases (default: all)"
    )
    parser.add_argument("--start", metavar="REFERENCE", help="a trained decoder, which training continues")
    parser.add_argument("--learning-rate", type=float, help="AdamW's (default: the recipe's)")
    parser.add_argument("--warmup", type=int, help="its steps to the full rate (default: the recipe's)")
    parser.add_argument("--noise", type=float, help="the most noise on embeddings (default: the recipe's)")
    parser.add_argument(
        "--known", type=float, metavar="SHARE", help="of known phrases (default: the recipe's)"
    )
    parser.set_defaults(run=_text_decoder)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--stamps", type=Path, metavar="FOLDER", help="captioned cut-outs")
    parser.add_argument("--seed", type=int)


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; what was not is left to the defaults of what is called."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _text_decoder(options: argparse.Namespace) -> None:
    from torchnle.methods.aligned.decoder.run import train_text_decoder
    from torchnle.methods.aligned.decoder.training import Recipe

    changed = _given(options, "steps", "word_steps", "seed", "learning_rate", "warmup", "noise", "known")
    sources = _given(options, "encoder", "language_model", "wordnet", "stamps", "most", "start")
    recipe = Recipe(**changed)
    found = train_text_decoder(options.output, recipe, **sources, progress=not options.quiet)
    say(json.dumps(found, indent=1))
    say(f"decoder: {options.output / 'decoder'}")


def _devil(options: argparse.Namespace) -> None:
    _check_config(options)
    from torchnle.methods.devil.training import run

    recipe = run.Run.read(options.config, options.set)
    _, log = run.train(recipe, tensorboard=options.tensorboard, progress=not options.quiet)
    _say_done(recipe.output, log)


def _texplain(options: argparse.Namespace) -> None:
    _check_config(options)
    from torchnle.methods.texplain.training import run

    recipe = run.Run.read(options.config, options.set)
    _, log = run.train(recipe, tensorboard=options.tensorboard, progress=not options.quiet)
    _say_done(recipe.output, log)


def _check_config(options: argparse.Namespace) -> None:
    if options.config is None:
        raise ValueError("torchnle train needs --config FILE, a recipe such as shapes.toml.")


def _say_done(output: Path, log: RunLog) -> None:
    for line in _unreadable(log.unreadable):
        say(line, error=True)
    say(f"translator: {output / 'translator'}")


def _unreadable(found: dict[int, str]) -> list[str]:
    """The images that were skipped: how many, and which."""
    if not found:
        return []
    listed = [f"  {why}" for _, why in sorted(found.items())[:_SHOWN]]
    more = [f"  ... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"{len(found)} images could not be read and were skipped:", *listed, *more]

"""`torchnle train`: the subcommands that train translators."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_SHOWN = 10


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give the `train` command its subcommands; without one, it trains DeViL."""
    _add_devil(parser)
    methods = parser.add_subparsers(required=False, metavar="METHOD")
    _add_devil(methods.add_parser("devil", help="a DeViL translator, from a recipe file (the default)"))


def _add_devil(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="a recipe, such as recipes/shapes.toml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="change a value of the recipe (training.steps=100); repeat for more",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write for TensorBoard too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_devil)


def _devil(options: argparse.Namespace) -> None:
    if options.config is None:
        raise ValueError("torchnle train needs --config FILE, a recipe such as recipes/shapes.toml.")
    from torchnle.training import run

    recipe = run.Run.read(options.config, options.set)
    _, log = run.train(recipe, tensorboard=options.tensorboard, progress=not options.quiet)
    for line in _unreadable(log.unreadable):
        print(line, file=sys.stderr)
    print(f"translator: {recipe.output / 'translator'}")


def _unreadable(found: dict[int, str]) -> list[str]:
    """The images that were skipped: how many, and which."""
    if not found:
        return []
    listed = [f"  {why}" for _, why in sorted(found.items())[:_SHOWN]]
    more = [f"  ... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"{len(found)} images could not be read and were skipped:", *listed, *more]

"""The command ``torchnle``: describe, saliency, explain, explore, words, audit, ...."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence

from torchnle.cli import audit, describe, dissect, evaluate, explain, explore, layers, saliency, train, words
from torchnle.cli.noise import add_options, chosen_noise
from torchnle.cli.output import Parser, say
from torchnle.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 on bad input, told in one sentence).

    Example:
        >>> main(["describe", "no-such-photo.png"])
        2
    """
    return run(build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Run the chosen command; returns the exit status (2 on bad input, told in one sentence)."""
    verbose = getattr(options, "verbose", False)
    try:
        with chosen_noise(quiet=getattr(options, "quiet", False), verbose=verbose):
            options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if verbose:
            say(traceback.format_exc(), error=True)
        say(f"torchnle: {error}", error=True)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line with all its commands.

    Example:
        >>> build_parser().parse_args(["layers", "timm:resnet18", "--quiet"]).quiet
        True
    """
    parser = Parser(
        prog="torchnle", description="What does this layer, this location, this class mean, in words?"
    )
    parser.add_argument("--version", action="version", version=f"torchnle {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (describe, saliency, explain, explore, words, audit, layers, dissect, train, evaluate):
        command.add(commands)
    add_options(parser)
    return parser

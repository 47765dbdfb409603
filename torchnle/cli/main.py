"""The command ``torchnle``: describe, saliency, explain, explore, words, audit, ...."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torchnle.cli import audit, describe, dissect, evaluate, explain, explore, layers, saliency, train, words
from torchnle.cli.output import Parser, said_warnings, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 on bad input, told in one sentence).

    Example:
        >>> main(["describe", "no-such-photo.png"])
        2
    """
    return run(_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Run the chosen command; returns the exit status (2 on bad input, told in one sentence)."""
    try:
        with said_warnings():
            options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        say(f"torchnle: {error}", error=True)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="torchnle", description="What does this layer, this location, this class mean, in words?"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (describe, saliency, explain, explore, words, audit, layers, dissect, train, evaluate):
        command.add(commands)
    return parser

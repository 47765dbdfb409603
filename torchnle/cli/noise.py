"""Noise on the terminal: progress bars, warnings and tracebacks, by ``--quiet`` and ``--verbose``."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tqdm import tqdm

from torchnle.cli.output import said_warnings

_QUIET = "no progress bars and no warnings: results and errors only"
_VERBOSE = "also notes, warnings of other libraries, and where an error comes from"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet`` and ``--verbose`` to a parser and, without a default, to every command below it."""
    parser.set_defaults(quiet=False, verbose=False)
    _add(parser)


def _add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    for name, text in (("--quiet", _QUIET), ("--verbose", _VERBOSE)):
        group.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _add(command)


@contextmanager
def chosen_noise(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Show bars on terminals only, and as many warnings as were asked for, while the context lasts.

    Args:
        quiet: No bars and no warnings.
        verbose: Also what torchnle notes, and the warnings of other libraries about their future.

    Example:
        >>> with chosen_noise(quiet=True):
        ...     list(tqdm(range(3)))
        [0, 1, 2]
    """
    with ExitStack() as stack:
        if quiet or not sys.stderr.isatty():
            stack.enter_context(without_bars())
        stack.enter_context(warnings.catch_warnings())
        if not verbose:
            for kind in (FutureWarning, DeprecationWarning, *([UserWarning] if quiet else [])):
                warnings.simplefilter("ignore", kind)
        level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
        stack.enter_context(said_warnings(level))
        yield


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence every bar of tqdm, those of transformers and of the Hub's client among them."""
    shown = tqdm.__init__

    def silent(self: tqdm[Any], *arguments: Any, **options: Any) -> None:
        shown(self, *arguments, **{**options, "disable": True})

    tqdm.__init__ = silent
    try:
        yield
    finally:
        tqdm.__init__ = shown

"""Output of the command line: texts of others are shown, and never steer the terminal."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from torchnle.hub.report import hide_secrets
from torchnle.language.texts import visible


class Parser(ArgumentParser):
    """Says what is wrong with arguments, whose file names others may have chosen, and what may be meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse what is not known with the usage of the command that it was given to."""
        self._given = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_one_file(found, unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print usage, the message and the options that may be meant, and leave with status 2."""
        super().error(visible(message + self._meant()))

    def _meant(self) -> str:
        """Suggest options that are spelled like those given that are not known."""
        known = list(self._option_string_actions)
        names = [each.partition("=")[0] for each in self._given if each.startswith("--")]
        wrong = [each for each in names if not any(name.startswith(each) for name in known)]
        near = [name for each in wrong for name in get_close_matches(each, known, n=1)]
        return f"\nDid you mean {' '.join(near)}?" if near else ""


def _one_file(found: Any, unknown: Sequence[str]) -> str:
    """Say what ``--class-names`` takes, where names stand behind it."""
    if getattr(found, "class_names", None) is None or any(each.startswith("-") for each in unknown):
        return ""
    return "\n--class-names takes one FILE, with a name a line in the order of the outputs."


def say(text: object = "", *, error: bool = False) -> None:
    r"""Print a text, with control characters and what the terminal's encoding lacks written out.

    Args:
        text: What is printed.
        error: On standard error, without the passwords in addresses.

    Example:
        >>> say("a cat\x1b[2J")
        a cat\x1b[2J
    """
    stream = sys.stderr if error else sys.stdout
    shown = visible(hide_secrets(str(text)) if error else str(text))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


@contextmanager
def said_warnings(level: int = logging.WARNING) -> Iterator[None]:
    """Say what torchnle logs as `say` says it, where nobody else listens.

    Args:
        level: The least important messages that are said.
    """
    logger, handler = logging.getLogger("torchnle"), _Said(level)
    before = logger.level
    logger.addHandler(handler)
    if level < logger.getEffectiveLevel():
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            say(record.getMessage(), error=True)

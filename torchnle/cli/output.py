"""Output of the command line: texts of others are shown, and never steer the terminal."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from torchnle.hub.report import hide_secrets
from torchnle.language.texts import visible


class Parser(ArgumentParser):
    """Says what is wrong with arguments, whose file names others may have chosen."""

    def error(self, message: str) -> NoReturn:
        """Print usage and the message, and leave with status 2."""
        super().error(visible(message))


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

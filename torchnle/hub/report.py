"""Errors of unresolved references, without passwords or tokens in their messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: User and password as they are written, and with a "/" in the password that should have been "%2F".
_USER = re.compile(r"(?<=://)(?:[^\s/?#@:]*:(?!\d+(?:[/?#\s]|$))\S*|[^\s/?#]*)@")
#: A query behind an address, or behind a path alone, as urllib3 writes it ("exceeded with url: /?token=abc").
_QUERY = re.compile(r"((?:://|url: )[^\s?#'\"<>]*)\?[^\s#'\"<>]+")


def unresolved(reference: str, tried: Sequence[str]) -> FileNotFoundError:
    """Build the FileNotFoundError of a reference that cannot be resolved, which lists each attempt.

    Args:
        reference: What the user gave.
        tried: One clause an attempt, "where: what happened", in order.

    Example:
        >>> print(unresolved("org/name", ["the path /org/name: does not exist"]))
        'org/name' could not be found. Tried, in order:
          1. the path /org/name: does not exist
        Check the spelling and the network, or pass the path of a folder that holds the files.
    """
    steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(tried, start=1))
    return FileNotFoundError(
        hide_secrets(
            f"{reference!r} could not be found. Tried, in order:\n{steps}\n"
            "Check the spelling and the network, or pass the path of a folder that holds the files."
        )
    )


def hide_secrets(text: str) -> str:
    """Replace what may be secret in every address of a text: user, password and query.

    Example:
        >>> hide_secrets("GET https://bob:s3cret@host/a.tar?token=abc failed")
        'GET https://***@host/a.tar?*** failed'
        >>> hide_secrets("Max retries exceeded with url: ?token=abc")
        'Max retries exceeded with url: ?***'
    """
    return _QUERY.sub(r"\1?***", _USER.sub("***@", text))


def in_short(error: BaseException) -> str:
    """Format an error as its class and its first line, shortened, without secrets.

    Example:
        >>> in_short(OSError("disk full" + chr(10) + "and more"))
        'OSError: disk full'
    """
    lines = hide_secrets(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def cause(error: BaseException) -> BaseException | None:
    """Return the error as the cause of another one; None if its traceback would show a secret.

    Example:
        >>> cause(OSError("no route to http://bob:s3cret@host")) is None
        True
    """
    link: BaseException | None = error
    while link is not None:
        if hide_secrets(str(link)) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error

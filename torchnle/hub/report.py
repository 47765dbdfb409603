"""The one error for a reference that led nowhere: everything that was tried, in order."""

from __future__ import annotations

from collections.abc import Sequence


def unresolved(reference: str, tried: Sequence[str]) -> FileNotFoundError:
    """Build the error that lists each attempt.

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
        f"{reference!r} could not be found. Tried, in order:\n{steps}\n"
        "Check the spelling and the network, or pass the path of a folder that holds the files."
    )


def in_short(error: BaseException) -> str:
    """An error's class and first line, cut to a readable length.

    Example:
        >>> in_short(OSError("disk full" + chr(10) + "and more"))
        'OSError: disk full'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__

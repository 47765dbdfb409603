"""The results of a run over many pictures, one line per picture, as an iterator and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from torchnle.attr.dataset.tables import to_frame

if TYPE_CHECKING:
    import pandas

#: One line of the answer: plain values by name.
Line: TypeAlias = dict[str, Any]


class Lines(Iterator[Line]):
    """An iterator over the results of a run, one line per picture, computed batch by batch on demand.

    Args:
        found: Yields the lines.
        total: How many there will be.

    Attributes:
        total: How many lines there are in all.
        kept: How many of them a journal held already; known from the first line on.

    Example:
        >>> lines = Lines(iter([{"file": "a.jpg", "text": "a cat"}]), 1)
        >>> lines.total, next(lines)["text"]
        (1, 'a cat')
    """

    def __init__(self, found: Iterator[Line], total: int) -> None:
        self._found, self.total, self.kept = found, total, 0

    def __next__(self) -> Line:
        """Return the next line."""
        return next(self._found)

    def to_frame(self) -> pandas.DataFrame:
        """Compute the remaining lines and return them as a pandas DataFrame, one row per picture.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return to_frame(self)

"""Lines: the answer of a run over many pictures, one line a picture, as an iterator and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from torchnle.attr.dataset.tables import to_frame

if TYPE_CHECKING:
    import pandas

#: One line of the answer: plain values by name.
Line: TypeAlias = dict[str, Any]


class Lines(Iterator[Line]):
    """An iterator over lines, a picture each, which are computed batch by batch as they are asked for.

    Args:
        found: Yields the lines.
        total: How many there will be.

    Attributes:
        total: How many lines there are in all.

    Example:
        >>> lines = Lines(iter([{"file": "a.jpg", "text": "a cat"}]), 1)
        >>> lines.total, next(lines)["text"]
        (1, 'a cat')
    """

    def __init__(self, found: Iterator[Line], total: int) -> None:
        self._found, self.total = found, total

    def __next__(self) -> Line:
        """Return the next line."""
        return next(self._found)

    def to_frame(self) -> pandas.DataFrame:
        """Return the lines that are left as a pandas DataFrame, a row a picture.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return to_frame(self)

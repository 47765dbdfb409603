"""Description: the result for one location, with its words and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, overload

from torchnle.types import ScoreKind


@dataclass(frozen=True)
class Description:
    """Words for one location of one layer of one image.

    Args:
        text: The words.
        score: The raw score of the words, of the kind `score_kind`.
        score_kind: "log_prob" = log-probability of the text in nats; "cosine" = a cosine similarity;
            "projection" = the projection of a whitened feature on the text's unit direction, in units of
            the features.
        layer: The layer that was read; several names joined by "+" if they were read together.
        image: The index of the image in the batch.
        location: (row, column) on the layer's grid; None for the whole image or a mask.
        phrases: The most probable phrases with their probabilities, the best first, if the translator
            ranks phrases; of `top_texts`, the next best texts with their scores.
        probability: The probability, between 0 and 1, that the text is true of the picture at this location,
            among a vocabulary; None if the translator estimates none.
        unsure: True if `probability` is too low to rely on the text.

    Example:
        >>> print(Description("a tabby cat", -1.25, layer="layer4", location=(3, 4), probability=0.62))
        layer4 (3, 4): a tabby cat (62%)  [log_prob -1.25]
    """

    text: str
    score: float
    score_kind: ScoreKind = "log_prob"
    layer: str = ""
    image: int = 0
    location: tuple[int, int] | None = None
    phrases: tuple[tuple[str, float], ...] = ()
    probability: float | None = None
    unsure: bool = False

    @property
    def marked_text(self) -> str:
        """The text followed by its probability and "unsure", as every view shows it.

        Example:
            >>> Description("a cat", 0.2, probability=0.31, unsure=True).marked_text
            'a cat (31%, unsure)'
        """
        marks = [] if self.probability is None else [f"{self.probability:.0%}"]
        marks += ["unsure"] * self.unsure
        return f"{self.text} ({', '.join(marks)})" if marks else self.text

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values that `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        where = "" if self.location is None else f" {self.location}"
        return f"{self.layer}{where}: {self.marked_text}  [{self.score_kind} {self.score:.2f}]"

    def _repr_html_(self) -> str:
        where = "whole image" if self.location is None else f"at {self.location}"
        return (
            f"<p><b>{escape(self.marked_text)}</b> <small>{escape(self.layer)}, {where}, "
            f"{self.score_kind} {self.score:.2f}</small></p>"
        )


class DescriptionGrid(Sequence[Description]):
    """The descriptions of all locations of one layer of one image, in row-major order.

    Args:
        descriptions: One per location, row by row.
        grid: (rows, columns).

    Raises:
        ValueError: If their number is not rows * columns.

    Example:
        >>> cells = [Description(w, 0.0, layer="l", location=(0, i)) for i, w in enumerate(["sky", "sea"])]
        >>> grid = DescriptionGrid(cells, (1, 2))
        >>> grid[0, 1].text, len(grid)
        ('sea', 2)
        >>> print(grid)
        sky | sea
    """

    def __init__(self, descriptions: Sequence[Description], grid: tuple[int, int]) -> None:
        if len(descriptions) != grid[0] * grid[1]:
            raise ValueError(f"{len(descriptions)} descriptions do not fill a {grid[0]}x{grid[1]} grid.")
        self._descriptions = tuple(descriptions)
        self.grid = grid

    @overload
    def __getitem__(self, index: int | tuple[int, int]) -> Description: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Description]: ...
    def __getitem__(self, index: int | slice | tuple[int, int]) -> Description | Sequence[Description]:
        if isinstance(index, tuple):
            rows, columns = self.grid
            row, column = index
            if not (-rows <= row < rows and -columns <= column < columns):
                raise IndexError(f"{index} lies outside the {rows}x{columns} grid.")
            return self._descriptions[(row % rows) * columns + column % columns]
        return self._descriptions[index]

    def __len__(self) -> int:
        return len(self._descriptions)

    def __iter__(self) -> Iterator[Description]:
        return iter(self._descriptions)

    def __repr__(self) -> str:
        return f"DescriptionGrid({self.grid[0]}x{self.grid[1]}, layer={self._descriptions[0].layer!r})"

    def _table(self) -> list[tuple[Description, ...]]:
        columns = self.grid[1]
        return [self._descriptions[i : i + columns] for i in range(0, len(self), columns)]

    def __str__(self) -> str:
        widths = [max(len(row[c].marked_text) for row in self._table()) for c in range(self.grid[1])]
        lines = (
            " | ".join(cell.marked_text.ljust(w) for cell, w in zip(row, widths, strict=True))
            for row in self._table()
        )
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{escape(cell.marked_text)}</td>" for cell in row) for row in self._table())
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

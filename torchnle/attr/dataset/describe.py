"""Descriptions of any number of pictures, in batches, with a journal from which a killed run resumes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor

from torchnle.attr.dataset.lines import Line, Lines
from torchnle.attr.dataset.picture_list import Given
from torchnle.attr.dataset.run import Answer, Draw, Options, Work, run
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.description import Description
from torchnle.public_calls import checked


@checked
def describe_dataset(
    lang: LanguageAttribution[Any],
    files: Given,
    *,
    where: Literal["all"] | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    journal: str | os.PathLike[str] | None = None,
    process: int | None = None,
    processes: int | None = None,
    draw: Draw | None = None,
) -> Lines:
    """Describe pictures one batch after the other; memory does not grow with their number.

    A picture that cannot be read gives a line with an "error" and is skipped. Under torchrun each process
    reads its share of the batches and yields its own lines; the journal then holds those of all, as if one
    process had written it.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`, which knows the preprocessing; one layer is read.
        files: A folder, a glob, a list of paths (a ".txt"), tar shards, or several of these or of files, in
            the order of the answer; see `PictureList`.
        where: None = whole pictures; "all" = also every location of the layer's grid.
        batch_size: Pictures in the model at once; None = 4 on a processor, where larger batches are slower,
            and 32 on a GPU. With the same batch size the lines are the same to the bit.
        workers: Processes that decode; 0 = this one.
        journal: A JSONL file to which each batch is appended. A killed run resumes after the last whole
            batch; earlier lines are read from the journal.
        process: The number of this process; None = torchrun's RANK, or 0.
        processes: How many processes share the files; None = torchrun's WORLD_SIZE, or 1.
        draw: Called with each picture's number and its (description, grid or None) before its line is
            written; what it returns is added to the line.

    Returns:
        `Lines`, an iterator over one line per picture: "file", and "text", "probability", "unsure", "score",
        "phrases", or "error"; ``.to_frame()`` makes a pandas DataFrame.

    Raises:
        ValueError: If the attribution has no preprocessing or reads several layers, `batch_size` is not
            positive, `where` is neither None nor "all", a folder holds no picture, or the journal is of other
            files or settings.

    Example:
        >>> lines = describe_dataset(lang, "photographs", workers=4)  # doctest: +SKIP
        >>> next(lines)["text"]  # doctest: +SKIP
        'a tabby cat'
    """
    if where not in (None, "all"):
        raise ValueError(f"where={where!r}; pass None for whole pictures, or 'all' for every location too.")

    def answer(x: Tensor) -> Iterator[Answer]:
        features = lang.read(x)
        wholes = lang.describe_features(features)
        grids = lang.describe_features(features, where="all") if where == "all" else [None] * len(wholes)
        for whole, grid in zip(wholes, grids, strict=True):
            cells = {} if grid is None else {"grid": list(grid.grid), "locations": [_values(c) for c in grid]}
            yield _values(whole) | cells, (whole, grid)

    options = Options(batch_size, workers, journal, process, processes, draw)
    return run(lang, files, Work("descriptions", answer, {"where": where}), options)


def _values(word: Description) -> Line:
    return {
        "text": word.text,
        "probability": word.probability,
        "unsure": word.unsure,
        "score": word.score,
        "phrases": [list(phrase) for phrase in word.phrases],
    }

"""Describe any number of picture files, in batches, with a journal from which a killed run resumes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchnle import images
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.description import Description, DescriptionGrid
from torchnle.journal import LineJournal
from torchnle.public_calls import checked
from torchnle.vision.running import device_of

#: One line of the answer: plain values by name.
Line = dict[str, Any]


@checked
def describe_dataset(
    lang: LanguageAttribution,
    files: Iterable[str | os.PathLike[str]],
    *,
    where: Literal["all"] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    journal: str | os.PathLike[str] | None = None,
) -> Iterator[Line]:
    """Describe picture files one batch after the other; memory does not grow with their number.

    A file that cannot be read gives a line with an "error" and is skipped. ``pandas.DataFrame(lines)`` or
    ``datasets.Dataset.from_list(list(lines))`` convert the answer to a table.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`, which knows the preprocessing; one layer is read.
        files: The files, in the order of the answer.
        where: None = whole pictures; "all" = also every location of the layer's grid.
        batch_size: Pictures in the model at once. With the same batch size the lines are the same to the bit.
        workers: Processes that decode; 0 = this one.
        journal: A JSONL file to which each batch is appended. A killed run resumes after the last whole
            batch; earlier lines are read from the journal.

    Yields:
        One line a file: "file", and "text", "probability", "unsure", "score", "phrases", or "error".

    Raises:
        ValueError: If the attribution has no preprocessing or reads several layers, `batch_size` is not
            positive, `where` is neither None nor "all", or the journal is of other files or settings.

    Example:
        >>> lines = describe_dataset(lang, sorted(folder.glob("*.jpg")))  # doctest: +SKIP
        >>> next(lines)["text"]  # doctest: +SKIP
        'a tabby cat'
    """
    listed = [os.fspath(file) for file in files]
    _check(lang, batch_size, where)
    layer = lang.taps[0].reference
    setting = {
        "torchnle": "descriptions",
        "files": len(listed),
        "layer": layer,
        "translator": lang.translator.name,
        "where": where,
        "batch_size": batch_size,
    }
    kept = LineJournal(None if journal is None else Path(journal), setting, "descriptions")
    done = _finished(kept, listed, batch_size)
    yield from done
    loader = DataLoader(
        _Decoded(listed[len(done) :], lang), batch_size=batch_size, num_workers=workers, collate_fn=list
    )
    for batch in loader:
        lines = _described(lang, batch, where)
        kept.append(lines)
        yield from lines


@dataclass(frozen=True)
class _Decoded(Dataset[tuple[str, Tensor | str]]):
    """Each file with its preprocessed picture, or the error of reading it."""

    files: Sequence[str]
    lang: LanguageAttribution

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[str, Tensor | str]:
        file, preprocess = self.files[index], self.lang.preprocess
        try:
            picture = images.open_image(file)
        except ValueError as error:
            return file, str(error)
        return file, preprocess(picture) if preprocess is not None else ""


def _described(
    lang: LanguageAttribution, batch: Sequence[tuple[str, Tensor | str]], where: Literal["all"] | None
) -> list[Line]:
    read = [x for _, x in batch if isinstance(x, Tensor)]
    features = lang.read(torch.stack(read).to(device_of(lang.taps[0].module))) if read else None
    wholes = iter(lang.describe_features(features) if features else [])
    grids = iter(lang.describe_features(features, where="all") if features and where == "all" else [])
    return [_line(file, x, wholes, grids, where) for file, x in batch]


def _line(
    file: str,
    found: Tensor | str,
    wholes: Iterator[Description],
    grids: Iterator[DescriptionGrid],
    where: Literal["all"] | None,
) -> Line:
    if isinstance(found, str):
        return {"file": file, "error": found}
    line = {"file": file, **_values(next(wholes))}
    if where == "all":
        grid = next(grids)
        line |= {"grid": list(grid.grid), "locations": [_values(cell) for cell in grid]}
    return line


def _values(word: Description) -> Line:
    return {
        "text": word.text,
        "probability": word.probability,
        "unsure": word.unsure,
        "score": word.score,
        "phrases": [list(phrase) for phrase in word.phrases],
    }


def _finished(journal: LineJournal, files: Sequence[str], batch_size: int) -> list[Line]:
    """Return the lines of the whole batches that the journal holds, and cut off the rest."""
    if [line.get("file") for line in journal.lines] != list(files[: len(journal.lines)]):
        journal.refuse("other files")
    count = len(journal.lines)
    journal.keep(count if count == len(files) else count // batch_size * batch_size)
    return journal.lines


def _check(lang: LanguageAttribution, batch_size: int, where: object) -> None:
    if where not in (None, "all"):
        raise ValueError(f"where={where!r}; pass None for whole pictures, or 'all' for every location too.")
    if lang.preprocess is None:
        raise ValueError(
            "this attribution knows no preprocessing, so it cannot read files. Make it with "
            "LanguageAttribution.from_backbone(Backbone.of(model, transform, class_names))."
        )
    if lang.several:
        raise ValueError(f"layers {[tap.name for tap in lang.taps]} are read; pass one that reads one layer.")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; pass 1 or more.")

"""Describe any number of picture files, in batches, with a journal from which a killed run resumes."""

from __future__ import annotations

import json
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
from torchnle.vision.arguments import checked
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
            positive, or the journal is of other files or settings.

    Example:
        >>> lines = describe_dataset(lang, sorted(folder.glob("*.jpg")))  # doctest: +SKIP
        >>> next(lines)["text"]  # doctest: +SKIP
        'a tabby cat'
    """
    listed = [os.fspath(file) for file in files]
    _check(lang, batch_size)
    layer = lang.taps[0].reference
    setting = {
        "torchnle": "descriptions",
        "files": len(listed),
        "layer": layer,
        "translator": lang.translator.name,
        "where": where,
        "batch_size": batch_size,
    }
    kept = _Journal(None if journal is None else Path(journal), setting, batch_size)
    done = kept.whole_batches(listed)
    yield from kept.lines(done)
    loader = DataLoader(
        _Decoded(listed[done:], lang), batch_size=batch_size, num_workers=workers, collate_fn=list
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


class _Journal:
    """Lines of JSON, the first of which holds the setting; batches are appended whole."""

    def __init__(self, file: Path | None, setting: Line, batch_size: int) -> None:
        self.file, self.setting, self.batch_size = file, setting, batch_size
        self.kept: list[Line] = []

    def whole_batches(self, files: Sequence[str]) -> int:
        """Read the journal up to its last whole batch, cut off the rest, and count the finished files."""
        if self.file is None:
            return 0
        begun = json.dumps(self.setting)
        found = _whole_lines(self.file, begun) if self.file.is_file() else []
        if not found:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(f"{begun}\n", encoding="utf-8")
            return 0
        head, *lines = found
        first, *kept = [_parsed(self.file, number, line) for number, line in enumerate([head, *lines], 1)]
        if first != self.setting or [line.get("file") for line in kept] != list(files[: len(kept)]):
            raise ValueError(
                f"{self.file} holds descriptions of other files or settings: {head}. Give another file, or "
                "remove it."
            )
        done = len(kept) if len(kept) == len(files) else len(kept) // self.batch_size * self.batch_size
        self.kept = kept[:done]
        os.truncate(self.file, len("".join(f"{line}\n" for line in [head, *lines[:done]]).encode()))
        return done

    def lines(self, count: int) -> list[Line]:
        """Return the first lines, as they were read."""
        return self.kept[:count]

    def append(self, lines: Sequence[Line]) -> None:
        """Append one batch in one write."""
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as out:
                out.write("".join(json.dumps(line) + "\n" for line in lines))


def _whole_lines(file: Path, head: str) -> list[str]:
    """Return the lines of a journal that are whole; none where a killed run had only begun the first.

    Raises:
        ValueError: If the file is another one.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no journal: it is not UTF-8 text. Give another file.") from error
    lines = text.split("\n")[:-1]
    if not lines and not head.startswith(text):
        raise ValueError(f"{file} is no journal: it holds no whole line. Remove it, or give another file.")
    return lines


def _parsed(file: Path, number: int, line: str) -> Line:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{file}, line {number}, is damaged: {error}. Remove the file to begin anew."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}, line {number}, is no description. Remove the file to begin anew.")
    return found


def _check(lang: LanguageAttribution, batch_size: int) -> None:
    if lang.preprocess is None:
        raise ValueError(
            "this attribution knows no preprocessing, so it cannot read files. Make it with "
            "LanguageAttribution.from_backbone(Backbone.of(model, transform, class_names))."
        )
    if lang.several:
        raise ValueError(f"layers {[tap.name for tap in lang.taps]} are read; pass one that reads one layer.")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; pass 1 or more.")

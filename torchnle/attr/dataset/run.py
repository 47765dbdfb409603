"""A run over many pictures: decoded ahead, computed in batches, kept in a journal, shared by processes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchnle.attr.construction.saved_reading import lens_tensors
from torchnle.attr.dataset.decoding import Decoded, decode, threads_beside
from torchnle.attr.dataset.lines import Line, Lines
from torchnle.attr.dataset.picture_list import Given, PictureList
from torchnle.attr.dataset.share import Share, await_all, join, remove
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.hub.digest import digest_module, digest_tensors
from torchnle.journal import LineJournal
from torchnle.vision.running import device_of, like_weights, unwrap

#: The answer for one picture: its line without the file, and what a drawing of it needs.
Answer: TypeAlias = tuple[Line, Any]
#: Draws a picture's answer, given its number, and returns what is added to its line.
Draw: TypeAlias = Callable[[int, Any], Line]
_PATIENCE = 3600.0
#: Pictures at once on a processor: activations of more leave its caches, and each picture costs more.
_ON_PROCESSOR = 4
_ON_DEVICE = 32
#: Pictures that may be decoded before the model takes them, at least.
_LEAST_AHEAD = 16


@dataclass(frozen=True)
class Work:
    """The computation on each batch of pictures of a run, and what its results depend on.

    Args:
        what: What the lines are, in messages and in the journal: "descriptions".
        answer: Answers a batch (N, C, H, W), one `Answer` a picture.
        setting: Everything besides model, files and batch size that the lines depend on, as JSON keeps it.
    """

    what: str
    answer: Callable[[Tensor], Iterable[Answer]]
    setting: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """The settings of a run over many pictures: batches, workers, journal, processes.

    Args:
        batch_size: Pictures in the model at once; None = `suitable_batch`. With the same batch size
            and number of workers the lines are the same to the bit.
        workers: Processes that decode; 0 = this one. On few processors the model then takes fewer threads,
            which may change the last bits of scores.
        journal: A JSONL file to which each batch is appended, and from which a killed run resumes.
        process: The number of this process; None = torchrun's RANK, or 0.
        processes: How many share the run; None = torchrun's WORLD_SIZE, or 1.
        draw: Draws each picture's answer before its line is written.
        patience: Seconds without progress after which other processes are no longer waited for.
    """

    batch_size: int | None = None
    workers: int = 0
    journal: str | os.PathLike[str] | None = None
    process: int | None = None
    processes: int | None = None
    draw: Draw | None = None
    patience: float = _PATIENCE


def run(lang: LanguageAttribution[Any], files: Given, work: Work, options: Options) -> Lines:
    """Build the iterator of a run over pictures; nothing is read before its first line is requested.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`; one layer is read.
        files: The pictures, as `PictureList` takes them.
        work: The work on each batch.
        options: How it goes.

    Raises:
        ValueError: If the attribution has no preprocessing or reads several layers, the batch size is not
            positive, or the pictures cannot be listed.
    """
    if lang.preprocess is None:
        raise ValueError(
            "this attribution knows no preprocessing, so it cannot read files. Make it with "
            "LanguageAttribution.from_backbone(Backbone.of(model, transform, class_names))."
        )
    if lang.several:
        raise ValueError(f"layers {[tap.name for tap in lang.taps]} are read; pass one that reads one layer.")
    size = (
        suitable_batch(device_of(lang.taps[0].module)) if options.batch_size is None else options.batch_size
    )
    if size < 1:
        raise ValueError(f"batch_size={size}; pass 1 or more.")
    pictures = files if isinstance(files, PictureList) else PictureList(files)
    made = _Run(lang, pictures, work, options, size, Share.chosen(options.process, options.processes))
    total = made.count(range(made.batches)[made.share.process :: made.share.processes])

    def kept(count: int) -> None:
        lines.kept += count

    lines = Lines(made.lines(kept), total)
    return lines


def suitable_batch(device: torch.device) -> int:
    """Choose how many pictures a model takes at once: few on a processor, more on a GPU.

    Example:
        >>> suitable_batch(torch.device("cpu")), suitable_batch(torch.device("cuda"))
        (4, 32)
    """
    return _ON_PROCESSOR if device.type == "cpu" else _ON_DEVICE


@dataclass(frozen=True)
class _Run:
    lang: LanguageAttribution[Any]
    pictures: PictureList
    work: Work
    options: Options
    size: int
    share: Share

    @property
    def batches(self) -> int:
        return -(-len(self.pictures) // self.size)

    @cached_property
    def setting(self) -> dict[str, Any]:
        """Everything that the lines depend on; hashed only where there is a journal."""
        if self.options.journal is None:
            return {}
        model = unwrap(self.lang.forward_func)
        return {
            "torchnle": self.work.what,
            "files": len(self.pictures),
            "layer": self.lang.taps[0].reference,
            "model": "" if model is None else digest_module(model),
            "translator": self.lang.translator.fingerprint,
            "lenses": digest_tensors(lens_tensors(self.lang.taps, self.lang.reading).values()),
            "batch_size": self.size,
            **self.work.setting,
        }

    def pictures_of(self, batch: int) -> range:
        return range(batch * self.size, min((batch + 1) * self.size, len(self.pictures)))

    def count(self, batches: Iterable[int]) -> int:
        return sum(len(self.pictures_of(batch)) for batch in batches)

    def lines(self, found: Callable[[int], None]) -> Iterator[Line]:
        """Yield this process's lines: those of its batches, found in the journal or computed."""
        file = None if self.options.journal is None else Path(self.options.journal)
        if file is not None:
            self.share.check_leftovers(file)
        line_journal = LineJournal(file, self.setting, self.work.what)
        first = self._whole_batches(line_journal, range(self.batches))
        found(self.count(self.share.of(first)))
        yield from self._journalled(line_journal, range(self.batches), self.share.of(first))
        if self.share.processes == 1:
            line_journal.keep(self.count(range(first)))
            yield from self._computed(line_journal, range(first, self.batches))
        elif file is None or first < self.batches:
            yield from self._part(line_journal, file, first, found)
        elif self.share.process == 0:
            remove(self.share, file)

    def _part(
        self, line_journal: LineJournal, file: Path | None, first: int, found: Callable[[int], None]
    ) -> Iterator[Line]:
        """Yield the lines of this process's batches behind those in the journal; the first joins all."""
        own = self.share.of(self.batches, first)
        setting = {**self.setting, "process": self.share.process, "first": first}
        finished = None if file is None else self.share.finished(file)
        done = finished is not None and finished.exists()
        path = finished if done else None if file is None else self.share.file(file)
        part = LineJournal(path, setting, self.work.what)
        begun = self._whole_batches(part, own)
        found(self.count(own[:begun]))
        yield from self._journalled(part, own, range(begun))
        if not done:
            part.keep(self.count(own[:begun]))
            yield from self._computed(part, own[begun:])
        if file is None or finished is None:
            return
        if not done:
            self.share.file(file).replace(finished)
        if self.share.process == 0:
            await_all(self.share, file, self.options.patience)
            sizes = [len(self.pictures_of(batch)) for batch in range(first, self.batches)]
            join(self.share, line_journal, self.count(range(first)), self.setting, sizes)

    def _whole_batches(self, journal: LineJournal, batches: Sequence[int]) -> int:
        """Count the whole batches that a journal holds; refuse one of other files."""
        numbers = (number for batch in batches for number in self.pictures_of(batch))
        for number, line in zip(numbers, journal.values(), strict=False):
            if line.get("file") != self.pictures.name(number):
                journal.refuse("other files")
        if len(journal) > self.count(batches):
            journal.refuse("other files")
        whole = len(journal) // self.size
        return len(batches) if len(journal) == self.count(batches) else whole

    def _journalled(self, journal: LineJournal, batches: Sequence[int], chosen: range) -> Iterator[Line]:
        """Yield the lines of a journal of these batches, of those at the chosen positions."""
        for position in chosen:
            yield from islice(journal.values(position * self.size), len(self.pictures_of(batches[position])))

    def _computed(self, journal: LineJournal, batches: Sequence[int]) -> Iterator[Line]:
        numbers = array("q", (number for batch in batches for number in self.pictures_of(batch)))
        preprocess = self.lang.preprocess
        if not numbers or preprocess is None:
            return
        ahead, workers = max(2 * self.size, _LEAST_AHEAD), self.options.workers
        decoded = decode(self.pictures, numbers, preprocess, workers=workers, ahead=ahead)
        for batch in batches:
            lines = self._answered(list(islice(decoded, len(self.pictures_of(batch)))))
            journal.append(lines)
            yield from lines

    def _answered(self, batch: Sequence[Decoded]) -> list[Line]:
        read = [x for _, x in batch if isinstance(x, Tensor)]
        models: list[Any] = [self.lang.forward_func, *(tap.module for tap in self.lang.taps)]
        with torch.no_grad(), threads_beside(self.options.workers):
            answers = iter(self.work.answer(like_weights(torch.stack(read), *models)) if read else ())
            return [self._line(number, found, answers) for number, found in batch]

    def _line(self, number: int, found: Tensor | str, answers: Iterator[Answer]) -> Line:
        name = self.pictures.name(number)
        if isinstance(found, str):
            return {"file": name, "error": found}
        line, drawn = next(answers)
        draw = self.options.draw
        return {"file": name, **line, **({} if draw is None else draw(number, drawn))}

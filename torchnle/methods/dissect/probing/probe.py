"""Run a probing set through a model once, for all chosen layers and units together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torchnle.hub.digest import digest_module
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.store import Store, key_of
from torchnle.methods.dissect.probing.streams import Activations, Evidence, Streams
from torchnle.methods.dissect.probing.units import Channels, Units
from torchnle.methods.dissect.words import TextScores
from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read
from torchnle.vision.running import device_of, unwrap
from torchnle.vision.taps import LayerChoice, Tap

#: Seconds between two looks for another process's part.
_PAUSE = 0.2


@dataclass(frozen=True)
class EvidenceLayer:
    """The layer whose features a translator describes, which may differ from the units' layer.

    Args:
        tap: The layer.
        reading: How its features are read.
        scores: Texts to score on every image.
    """

    tap: Tap
    reading: Reading = field(default_factory=Reading)
    scores: TextScores | None = None


@dataclass(frozen=True)
class ProbeRecord:
    """The record of a probing run, layer by layer.

    Args:
        layers: By the layer's name.
        images: How many images were read.
        unreadable: Why others were not, by their numbers.
    """

    layers: Mapping[str, LayerRecord]
    images: int
    unreadable: Mapping[int, str]


def probe(
    model: Callable[..., Any],
    layers: LayerChoice,
    probing_set: ProbingSet,
    *,
    units: Units | Mapping[str, Units] | None = None,
    settings: ProbeSettings | None = None,
    evidence: EvidenceLayer | None = None,
    reading: Reading | None = None,
    cache: Path | None = None,
    process: int | None = None,
    processes: int | None = None,
    patience: float = 3600.0,
    progress: bool = False,
) -> ProbeRecord:
    """Run a probing set through a model once, and record the exemplars and statistics of every unit.

    Batches do not depend on the number of processes, nor the record on their order: a resumed run, and
    several processes, give the same bits as one undisturbed run.

    Args:
        model: The vision model.
        layers: The layers whose units are probed.
        probing_set: The images.
        units: The units of a layer, or of each layer by its name; None = the channels.
        settings: What is kept.
        evidence: The layer that words are found in.
        reading: How to read a layer whose layout is ambiguous.
        cache: A folder to keep the state in, under a hash of model, images, units and settings.
        process: The number of this process; None = torchrun's RANK, or 0.
        processes: How many there are; None = torchrun's WORLD_SIZE, or 1. Each reads a part of the batches,
            and all return the same record.
        patience: Seconds to wait for other processes.
        progress: Whether a bar shows.

    Raises:
        ValueError: If there are fewer images than `settings.k` asks for, or none can be read, or several
            processes have no common folder.
        TimeoutError: If another process does not finish.

    Example:
        >>> found = probe(model, "layer", ProbingSet(list(images)), settings=ProbeSettings(k=1))
        >>> found.layers["layer"].images.shape
        torch.Size([6, 1])
    """
    run = _Run(model, layers, probing_set, units, settings or ProbeSettings(), evidence, reading or Reading())
    number = int(os.environ.get("RANK", 0)) if process is None else process
    count = int(os.environ.get("WORLD_SIZE", 1)) if processes is None else processes
    if count > 1 and cache is None:
        raise ValueError(f"{count} processes share their results through a folder; pass cache=.")
    stores = run.stores(cache, count)
    own = run.part(number, count, stores[number] if stores else None, progress)
    for other, store in enumerate(stores or ()):
        if other != number:
            own.merge(run.loaded(*_awaited(store, patience)))
    return own.record(run)


@dataclass
class _Part:
    """The state of a range of batches."""

    streams: dict[str, Streams]
    unreadable: dict[int, str]
    next: int

    def merge(self, other: _Part) -> None:
        self.unreadable |= other.unreadable
        for name, streams in other.streams.items():
            if name in self.streams:
                self.streams[name].merge(streams)
            else:
                self.streams[name] = streams

    def record(self, run: _Run) -> ProbeRecord:
        if not self.streams:
            first = next(iter(self.unreadable.values()), "")
            raise ValueError(f"none of the {len(run.images)} images of the probing set can be read. {first}")
        count = len(run.images) - len(self.unreadable)
        run.check_enough(count)
        texts = () if run.evidence is None or run.evidence.scores is None else run.evidence.scores.texts
        layers = {name: LayerRecord(name, streams, texts) for name, streams in self.streams.items()}
        return ProbeRecord(layers, count, dict(sorted(self.unreadable.items())))


class _Run:
    """A run's inputs, and the reading of its batches."""

    def __init__(
        self,
        model: Callable[..., Any],
        layers: LayerChoice,
        images: ProbingSet,
        units: Units | Mapping[str, Units] | None,
        settings: ProbeSettings,
        evidence: EvidenceLayer | None,
        reading: Reading,
    ) -> None:
        self.model, self.images, self.settings = model, images, settings
        self.taps = taps.resolve(model, layers)
        given = units if isinstance(units, Mapping) else {tap.name: units for tap in self.taps}
        self.units = {tap.name: given.get(tap.name) or Channels() for tap in self.taps}
        self.evidence, self.reading = evidence, reading
        self.check_enough(len(images))

    def check_enough(self, count: int) -> None:
        """Refuse fewer images than exemplars."""
        if count < self.settings.k:
            raise ValueError(
                f"the probing set has {count} readable images, fewer than the k={self.settings.k} exemplars "
                f"of a unit; pass more images, or k={max(1, count)}."
            )

    @property
    def batches(self) -> int:
        return -(-len(self.images) // self.settings.batch_size)

    def range_of(self, process: int, processes: int) -> tuple[int, int]:
        return self.batches * process // processes, self.batches * (process + 1) // processes

    def stores(self, cache: Path | None, processes: int) -> list[Store] | None:
        if cache is None:
            return None
        key = self._key()
        return [Store(Path(cache), key, *self.range_of(p, processes)) for p in range(processes)]

    def part(self, process: int, processes: int, store: Store | None, progress: bool) -> _Part:
        """Read a process's batches, from where a former run was stopped."""
        first, last = self.range_of(process, processes)
        kept = None if store is None else store.read()
        part = _Part({}, {}, first) if kept is None else self.loaded(*kept)
        saved = time.monotonic()
        for batch in tqdm(range(part.next, last), desc="probing", unit="batch", disable=not progress):
            self._add(part, batch)
            part.next = batch + 1
            due = time.monotonic() - saved >= self.settings.save_every or part.next == last
            if store is not None and due:
                done = store.write(*_state(part))
                if not done and processes > 1:
                    raise OSError(f"this process's part could not be written to {store.file}.")
                saved = time.monotonic()
        return part

    def loaded(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> _Part:
        streams: dict[str, Streams] = {}
        for name, units in facts["units"].items():
            streams[name] = self._streams(units)
            prefix = f"{name}|"
            own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            streams[name].load(own)
        unreadable = {int(number): why for number, why in facts["unreadable"].items()}
        return _Part(streams, unreadable, facts["next"])

    def _streams(self, units: int) -> Streams:
        return Streams(units, self.settings.k, self.settings.wide, self.settings.sample, self.settings.table)

    def _add(self, part: _Part, batch: int) -> None:
        numbers, tensors = self._opened(part, batch)
        if not tensors:
            return
        activations, evidence = self.read(torch.tensor(numbers), torch.stack(tensors))
        for name, found in activations.items():
            if name not in part.streams:
                part.streams[name] = self._streams(found.local.shape[2])
            part.streams[name].add(batch, found, evidence)

    def _opened(self, part: _Part, batch: int) -> tuple[list[int], list[Tensor]]:
        size = self.settings.batch_size
        numbers, tensors = [], []
        for number in range(batch * size, min((batch + 1) * size, len(self.images))):
            try:
                tensors.append(self.images.tensor(number))
                numbers.append(number)
            except ValueError as error:  # noqa: PERF203
                part.unreadable[number] = str(error)
        return numbers, tensors

    @torch.no_grad()
    def read(self, numbers: Tensor, images: Tensor) -> tuple[dict[str, Activations], Evidence | None]:
        """Read the layers' units and the evidence layer in one forward."""
        taps = dict.fromkeys([*self.taps, *([] if self.evidence is None else [self.evidence.tap])])
        given = images.to(device_of(self.model))
        features = dict(zip(taps, read(self.model, list(taps), given, reading=self.reading), strict=True))
        found = {tap.name: self._units(numbers, features[tap]) for tap in self.taps}
        if self.evidence is None:
            return found, None
        return found, _evidence(self.evidence, features[self.evidence.tap])

    def _units(self, numbers: Tensor, features: Features) -> Activations:
        units = self.units[features.layer]
        local = units(features.tokens)
        first = None if features.extra is None else units(features.extra[:, :1])[:, 0]
        return Activations(numbers, local, self.settings.pool(local, first), features.grid)

    def _key(self) -> str:
        root = unwrap(self.model)
        weights = "" if root is None else digest_module(root)
        units = [(tap.reference, getattr(self.units[tap.name], "fingerprint", None)) for tap in self.taps]
        if missing := [name for name, mark in units if mark is None]:
            raise ValueError(
                f"the units of {missing} have no fingerprint to be kept by; wrap them in EncodedUnits(...)."
            )
        evidence = self.evidence
        words = (
            None
            if evidence is None
            else (evidence.tap.reference, evidence.scores and evidence.scores.fingerprint)
        )
        settings = replace(self.settings, save_every=0.0)
        return key_of([weights, units, words, settings, self.images.fingerprint, len(self.images)])


def _evidence(layer: EvidenceLayer, features: Features) -> Evidence:
    everywhere = layer.reading.pool(features, "all" if features.grid else None)
    pooled = layer.reading.pool(features, None).rows
    scores = None if layer.scores is None else layer.scores(pooled)
    return Evidence(everywhere.tokens, features.grid, pooled, scores)


def _state(part: _Part) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"{name}|{key}": t for name, each in part.streams.items() for key, t in each.state().items()}
    units = {name: each.units for name, each in part.streams.items()}
    return tensors, {"units": units, "unreadable": part.unreadable, "next": part.next}


def _awaited(store: Store, patience: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Another process's finished part."""
    until = time.monotonic() + patience
    while (saved := store.read()) is None or saved[1]["next"] != store.last:
        if time.monotonic() > until:
            raise TimeoutError(
                f"the process of batches {store.first} to {store.last} did not finish in {patience} s."
            )
        time.sleep(_PAUSE)
    return saved

"""Supplies of features and captions, by the indices of their pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchnle.data.captions import CaptionSource
from torchnle.language.texts import check_captions
from torchnle.vision import reading as readers
from torchnle.vision import taps
from torchnle.vision.reading import Reading

#: How many pairs after an unreadable one are tried as its replacement.
_TRIES = 100


@dataclass(frozen=True)
class Batch:
    """Features and captions of some pairs.

    Args:
        tokens: Each layer's local features, (B, L, D) by name, not yet pooled.
        captions: All captions of each image.
        items: The numbers of the pairs, for messages.
        unreadable: The errors of images that could not be read, by number; their successors replace them.
        known: Whether each pair has a layer, (B,) by name; layers without an entry are known for all pairs.
    """

    tokens: Mapping[str, Float[Tensor, "B _ _"]]
    captions: Sequence[tuple[str, ...]]
    items: Sequence[int]
    unreadable: Mapping[int, str] = field(default_factory=dict)
    known: Mapping[str, Bool[Tensor, "B"]] = field(default_factory=dict)


class Supply(Protocol):
    """A source of batches by the numbers of their pairs."""

    @property
    def location_counts(self) -> Mapping[str, int]:
        """The number of locations of each layer."""

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of channels of each layer."""

    def __len__(self) -> int: ...

    def batches(self, numbers: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batches of these numbers, in order."""


class LiveFeatures:
    """A supply that runs the vision model on every image when its pair is read.

    Args:
        model: The vision model, on its device.
        layers: The layers that are read.
        source: Images and captions.
        preprocess: Converts an RGB image to the model's input, (3, H, W), of one size for all.
        reading: Overrides for a layer with an ambiguous layout.
        workers: Processes that read and preprocess images; 0 = this one.
        extra: Put class and register tokens before the locations, for networks that read a whole image.

    Raises:
        ValueError: If there is no pair, or no image can be read.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        layers: taps.LayerChoice,
        source: CaptionSource,
        preprocess: Callable[[Image.Image], Tensor],
        *,
        reading: Reading | None = None,
        workers: int = 0,
        extra: bool = False,
    ) -> None:
        if not len(source):
            raise ValueError("there is no image with a caption to train on.")
        self.model, self.taps, self.reading = model, taps.resolve(model, layers), reading
        self.source, self.preprocess, self.workers, self.extra = source, preprocess, workers, extra
        self._shapes: dict[str, tuple[int, int]] = {}
        next(iter(self.batches([[0]])))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def location_counts(self) -> dict[str, int]:
        """The number of locations of each layer."""
        return {layer: count for layer, (count, _) in self._shapes.items()}

    @property
    def widths(self) -> dict[str, int]:
        """The number of channels of each layer."""
        return {layer: width for layer, (_, width) in self._shapes.items()}

    def batches(self, numbers: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Read images ahead, in other processes if there are any, and run the model on each batch."""
        loader = DataLoader(
            _Images(self.source, self.preprocess),
            batch_sampler=numbers,  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=list,
        )
        return map(self._read, loader)

    @torch.no_grad()
    def _read(self, items: list[_Item]) -> Batch:
        images = torch.stack([item.pixels for item in self._of_one_size(items)])
        device = next(self.model.parameters(), torch.empty(0)).device
        features = readers.read(self.model, self.taps, images.to(device), reading=self.reading)
        tokens = {f.layer: f.every_token if self.extra else f.tokens for f in features}
        self._check_shapes(tokens)
        unreadable = {number: why for item in items for number, why in item.unreadable.items()}
        return Batch(tokens, [item.captions for item in items], [item.number for item in items], unreadable)

    def _of_one_size(self, items: list[_Item]) -> list[_Item]:
        sizes = {tuple(item.pixels.shape): item.number for item in items}
        if len(sizes) > 1:
            listed = ", ".join(f"{size} (pair {number})" for size, number in sizes.items())
            raise ValueError(
                f"images of one batch must have one size; the preprocessing gave {listed}. Resize all of "
                "them to the same."
            )
        return items

    def _check_shapes(self, tokens: Mapping[str, Tensor]) -> None:
        found = {layer: (x.shape[1], x.shape[2]) for layer, x in tokens.items()}
        first = self._shapes or found
        for layer, (count, width) in found.items():
            if first[layer][1] != width:
                raise ValueError(
                    f"layer '{layer}' gave {first[layer][1]} channels for the first image and {width} now; "
                    "a translator reads one width. Choose another layer."
                )
            if first[layer][0] != count:
                raise ValueError(
                    f"layer '{layer}' gave {first[layer][0]} locations for the first image and {count} now: "
                    "its size changes with the input. Preprocess all images to one size."
                )
        self._shapes = found


@dataclass(frozen=True)
class _Item:
    number: int
    pixels: Tensor
    captions: tuple[str, ...]
    unreadable: dict[int, str]


class _Images(Dataset[_Item]):
    """Preprocessed images; an unreadable one is replaced by the next readable one."""

    def __init__(self, source: CaptionSource, preprocess: Callable[[Image.Image], Any]) -> None:
        self.source, self.preprocess = source, preprocess

    def __getitem__(self, number: int) -> _Item:
        unreadable: dict[int, str] = {}
        for step in range(min(_TRIES, len(self.source))):
            tried = (number + step) % len(self.source)
            try:
                pair = self.source[tried]
                captions = check_captions(pair.captions, f"pair {tried}")
            except ValueError as error:
                unreadable[tried] = str(error)
                continue
            return _Item(number, self.preprocess(pair.image.convert("RGB")), captions, unreadable)
        raise ValueError(
            f"none of the {len(unreadable)} images from number {number} on can be read: "
            f"{next(iter(unreadable.values()))}"
        )

"""The pool of exemplars and their attention crops, ranked by the model's activations (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.methods.dissect.exemplars.crops import attention_crops
from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.exemplars.masks import active, resized
from torchnle.methods.dissect.probing.images import Transform
from torchnle.methods.dissect.probing.probe import EvidenceLayer
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.units import Channels, Units
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read
from torchnle.vision.running import device_of
from torchnle.vision.taps import Tap


class UnitRunner:
    """Runs a model on pictures and reads the activations of one layer's units and the evidence features.

    Args:
        model: The vision model.
        tap: The units' layer.
        transform: Turns an RGB image into the model's input.
        units: As `probe`.
        settings: As `probe`; of which the summary and the batch size are used.
        evidence: As `probe`.
        reading: As `probe`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        tap: Tap,
        transform: Transform,
        *,
        units: Units | None = None,
        settings: ProbeSettings | None = None,
        evidence: EvidenceLayer | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.model, self.tap, self.transform = model, tap, transform
        self.units: Units = units or Channels()
        self.settings, self.evidence, self.reading = (
            settings or ProbeSettings(),
            evidence,
            reading or Reading(),
        )

    def activations(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "P U"]:
        """Read every unit's summarised activation in every picture."""
        return self.read(pictures)[0]

    @torch.no_grad()
    def read(
        self, pictures: Sequence[Image.Image]
    ) -> tuple[Float[Tensor, "P U"], Float[Tensor, "P E"] | None]:
        """Read every unit's summarised activation in every picture, and its pooled evidence feature."""
        activations, vectors = [], []
        for start in range(0, len(pictures), self.settings.batch_size):
            features = self._features(pictures[start : start + self.settings.batch_size])
            activations.append(self._pooled(features[self.tap]).float().cpu())
            if self.evidence is not None:
                vectors.append(
                    self.evidence.reading.pool(features[self.evidence.tap], None).rows.float().cpu()
                )
        return torch.cat(activations), torch.cat(vectors) if vectors else None

    @torch.no_grad()
    def exemplars(
        self, pictures: Sequence[Image.Image], unit: int, numbers: Sequence[int], boxes: Sequence[Any]
    ) -> list[Exemplar]:
        """Read pictures as exemplars of a unit: activation, map, and evidence where the map is high."""
        found: list[Exemplar] = []
        for start in range(0, len(pictures), self.settings.batch_size):
            part = pictures[start : start + self.settings.batch_size]
            features = self._features(part)
            own = features[self.tap]
            maps = self.units(own.tokens)[..., unit].float().cpu()
            evidence = self._evidence(maps, own.grid, features)
            values = self._pooled(own)[:, unit].tolist()
            for i, picture in enumerate(part):
                shaped = None if own.grid is None else maps[i].view(own.grid)
                row = None if evidence is None else evidence[i]
                at = start + i
                found.append(Exemplar(numbers[at], values[i], picture, shaped, row, boxes[at]))
        return found

    @torch.no_grad()
    def evidence_at(self, picture: Image.Image) -> tuple[Float[Tensor, "M E"], tuple[int, int] | None]:
        """Read the evidence features at every location of one picture, and their grid.

        Raises:
            ValueError: If there is no evidence layer.
        """
        if self.evidence is None:
            raise ValueError("there is no evidence layer; pass evidence=.")
        (found,) = read(
            self.model,
            [self.evidence.tap],
            self.transform(picture)[None].to(device_of(self.model)),
            reading=self.reading,
        )
        everywhere = self.evidence.reading.pool(found, "all" if found.grid else None)
        return everywhere.tokens[0].float().cpu(), found.grid

    def _features(self, pictures: Sequence[Image.Image]) -> dict[Tap, Features]:
        """Read the units' layer and the evidence layer in one forward."""
        taps = list(dict.fromkeys([self.tap, *([] if self.evidence is None else [self.evidence.tap])]))
        batch = torch.stack([self.transform(picture) for picture in pictures]).to(device_of(self.model))
        return dict(zip(taps, read(self.model, taps, batch, reading=self.reading), strict=True))

    def _pooled(self, features: Features) -> Float[Tensor, "B U"]:
        local = self.units(features.tokens)
        first = None if features.extra is None else self.units(features.extra[:, :1])[:, 0]
        return self.settings.pool(local, first)

    def _evidence(
        self, maps: Float[Tensor, "B L"], grid: tuple[int, int] | None, features: dict[Tap, Features]
    ) -> Float[Tensor, "B E"] | None:
        if self.evidence is None:
            return None
        other = features[self.evidence.tap]
        tokens = self.evidence.reading.pool(other, "all" if other.grid else None).tokens.float().cpu()
        return torch.einsum("nl,nld->nd", resized(active(maps).float(), grid, other.grid), tokens)


def with_crops(
    found: Sequence[Exemplar], unit: int, runner: UnitRunner, *, count: int, most: int = 4
) -> list[Exemplar]:
    """Add attention crops to a unit's exemplars, and keep the most active of both.

    Args:
        found: The exemplars.
        unit: The unit's index.
        runner: Runs the model.
        count: The number to keep (the paper's K).
        most: The largest number of crops per image.
    """
    pictures, numbers, boxes = [], [], []
    for each in found:
        if each.map is None:
            continue
        for box in attention_crops(each.map, (each.picture.height, each.picture.width), most=most):
            pictures.append(each.picture.crop(box).resize(each.picture.size, Image.Resampling.BICUBIC))
            numbers.append(each.image)
            boxes.append(box)
    crops = runner.exemplars(pictures, unit, numbers, boxes) if pictures else []
    return sorted([*found, *crops], key=lambda each: -each.activation)[:count]

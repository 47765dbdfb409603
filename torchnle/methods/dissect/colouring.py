"""Add colours to labels: those that exemplars share and contrast images lack."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.data.tinting import colour_in
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.attributes import shared_colour, with_colour
from torchnle.methods.dissect.exemplars.contrast import contrast_images
from torchnle.methods.dissect.exemplars.exemplar import exemplars
from torchnle.methods.dissect.exemplars.masks import active
from torchnle.methods.dissect.exemplars.pool import UnitRunner
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.words import score_weights


@dataclass
class Colouring:
    """Adds the colour that a unit's exemplars share to its label.

    Args:
        translator: Locates the label in contrast images.
        layer: The evidence layer's name.
        record: The probing record, with its table.
        images: The probing set.
        runner: Runs the model.
        contrast: The number of contrast images per unit.
    """

    translator: MapTranslator
    layer: str
    record: LayerRecord
    images: ProbingSet
    runner: UnitRunner
    contrast: int = 10

    def __call__(self, unit: int, label: str) -> str:
        """Return the label with the colour, or as it is.

        Raises:
            ValueError: If no table was kept while probing.
        """
        shown = exemplars(self.record, unit, self.images)
        if not shown or colour_in(label) is not None:
            return label
        chosen = shared_colour(shown, self._contrast(unit, label))
        return label if chosen is None else with_colour(label, chosen)

    def _contrast(self, unit: int, label: str) -> list[tuple[Image.Image, Tensor | None]]:
        """Images alike, in which the unit is inactive and which show what the label names."""
        numbers = self.record.read.tolist()
        row_of = {number: row for row, number in enumerate(numbers)}
        exemplars = self.record.images[unit][self.record.active[unit]]
        rows = [row_of[number] for number in exemplars.tolist()]
        vectors, activations = self.record.vectors, self.record.activations[:, unit]
        weights = score_weights(self.translator, self.layer, [label])[0]
        shows = (vectors - vectors.mean(dim=0)) @ weights
        fits = shows >= shows[rows].median()
        found = contrast_images(
            exemplars.new_tensor(rows),
            vectors,
            activations.masked_fill(~fits, float(activations.max()) + 1),
            self.contrast,
            inactive=max(1.0 / len(fits), float(fits.float().mean()) / 2),
        )
        pictures = [self.images.picture(numbers[row]) for row in found.tolist()]
        return [(picture, self._mask(picture, weights)) for picture in pictures]

    def _mask(self, picture: Image.Image, weights: Float[Tensor, "E"]) -> Tensor | None:
        tokens, grid = self.runner.evidence_at(picture)
        if grid is None:
            return None
        scores = (tokens @ weights)[None]
        large = F.interpolate(scores.view(1, 1, *grid), size=(picture.height, picture.width), mode="bicubic")
        return active(large.flatten(1)).view(large.shape[2:])

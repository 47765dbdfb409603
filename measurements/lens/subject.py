"""A classifier with its head, and the readings of its lower layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from torchnle.backbones import Backbone
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.fit import fit_class_names
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.vision.features import Features
from torchnle.vision.lens import LayerLens, Lens
from torchnle.vision.lens.fitted import fit_lens
from torchnle.vision.reading import read
from torchnle.vision.taps import resolve

#: EfficientNet-Lite0: two blocks below the last map (7x7 locations), and the last at 14x14.
LAYERS = ("_blocks.13", "_blocks.10")
#: The kinds of lenses.
LENSES = ("lens", "lens, no neighbours", "fitted lens")


class Subject:
    """A classifier with layers to read.

    Args:
        backbone: The classifier, with class names.
        layers: The lower layers.
        images: Unlabelled images that lenses are fitted to.
        example: As `find_head`; None = of the size that the model states.
    """

    def __init__(
        self, backbone: Backbone, layers: Sequence[str], images: Tensor, example: Tensor | None = None
    ) -> None:
        self.backbone, self.layers = backbone, tuple(layers)
        self.example = example_for(backbone.model) if example is None else example
        self.head = find_head(backbone.model, self.example, len(backbone.class_names))
        self.images = images
        self._lenses: dict[tuple[str, str], LayerLens] = {}

    @cached_property
    def encoder(self) -> TextEncoder:
        """The sentence encoder."""
        return TextEncoder.from_pretrained()

    def lens(self, layer: str, kind: str) -> LayerLens:
        """Make the lens of a layer, by one of `LENSES`."""
        if (layer, kind) not in self._lenses:
            exact = Lens(
                self.backbone.model,
                layer,
                self.head.tap,
                example=self.example,
                end_reading=self.head.reading,
                smooth=kind != "lens, no neighbours",
            )
            found = fit_lens(exact, torch.split(self.images, 8)) if kind == "fitted lens" else exact
            self._lenses[layer, kind] = found
        return self._lenses[layer, kind]

    def class_names(self, images: Iterable[Tensor] | None = None) -> MapTranslator:
        """Fit the head's layer to the class names alone, with the statistics of images if there are any."""
        return fit_class_names(
            Reader(self.backbone.model, [self.head.tap], self.head.reading),
            self.head,
            self.backbone.class_names,
            self.encoder,
            example=self.example,
            images=images,
        )

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 16) -> list[Features]:
        """Read the lower layers and, last, the head's."""
        taps = [*resolve(self.backbone.model, list(self.layers)), self.head.tap]
        parts = [read(self.backbone.model, taps, batch) for batch in torch.split(images, batch_size)]
        joined = [torch.cat([f.tokens for f in layer]) for layer in zip(*parts, strict=True)]
        return [replace(f, tokens=tokens) for f, tokens in zip(parts[0], joined, strict=True)]

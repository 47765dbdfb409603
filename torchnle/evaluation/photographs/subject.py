"""The model and translator that are measured, on one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.description import Description
from torchnle.evaluation.photographs.answers import Answer
from torchnle.evaluation.photographs.truth import location
from torchnle.vision.outputs import logits_of


class Subject:
    """The model and the translator on one layer, for one picture at a time."""

    def __init__(
        self, backbone: Backbone, lang: LanguageAttribution, *, internal_batch_size: int | None = None
    ) -> None:
        self.backbone = backbone
        self.preprocess = replace(backbone.preprocess, fit="squeeze")
        self.lang = LanguageAttribution(backbone.model, lang.taps[-1], lang.translator, reading=lang.reading)
        self.layer = lang.taps[-1].name
        self._rows = internal_batch_size

    def input(self, picture: Image.Image) -> Float[Tensor, "1 3 H W"]:
        """Squeeze a whole picture into the model's input, so that relative positions are the same in both."""
        return self.preprocess(picture)[None]

    def own_view(self, picture: Image.Image) -> Float[Tensor, "1 3 H W"]:
        """Preprocess a picture as the backbone does."""
        return self.backbone.preprocess(picture)[None]

    @torch.no_grad()
    def say(self, x: Float[Tensor, "1 3 H W"], point: tuple[float, float] | None = None) -> Answer:
        """Describe the whole picture, or the layer's location that contains a point."""
        where = None
        if point is not None:
            (features,) = self.lang.read(x)
            if features.grid is None:
                raise ValueError(f"layer '{self.layer}' has no grid; choose a layer that has one.")
            where = location(point, features.grid)
        (description,) = self.lang.describe(x, where=where, internal_batch_size=self._rows)
        return Answer.of(description)

    @torch.no_grad()
    def maps(self, x: Float[Tensor, "1 3 H W"], texts: Sequence[str]) -> Float[Tensor, "T H W"]:
        """Compute the saliency maps of texts."""
        maps = self.lang.saliency(x, list(texts), internal_batch_size=self._rows)
        return maps[0]

    @torch.no_grad()
    def first_class(self, x: Float[Tensor, "1 3 H W"]) -> Answer:
        """Return the classifier's most probable class, with its probability."""
        logits = logits_of(self.backbone.model(x), self.backbone.name, len(self.backbone.class_names))
        best = logits[0].softmax(dim=0).max(dim=0)
        name, share = self.backbone.class_names[int(best.indices)], best.values.item()
        return Answer.of(Description(name, share, layer="classifier", probability=share))

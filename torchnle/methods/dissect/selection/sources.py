"""Image sources: images of a candidate label (Describe-and-Dissect, step 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.data.backgrounds import Background
from torchnle.data.cutouts import Cutout
from torchnle.data.scenes import Scenes
from torchnle.data.tinting import colour_in, tinted
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.words import score_rows
from torchnle.translators.base import Translator

#: The paper's prompt, steps and image count (section 3.3 and its code).
PROMPT, STEPS, COUNT = "One realistic image of {label}", 50, 10


@runtime_checkable
class ImageSource(Protocol):
    """Returns images of a label, retrieved or generated."""

    def __call__(self, label: str, count: int, seed: int) -> list[Image.Image]:
        """Make or find `count` images; the same label and seed give the same ones."""
        ...


class Retrieval:
    """Retrieves the images of a set with the largest score for a label, by a translator.

    Use other images than the probing set; else the exemplars themselves are retrieved.

    Args:
        translator: Scores the label.
        layer: The evidence layer's name.
        images: The images.
        vectors: Their pooled evidence features.

    Raises:
        ValueError: If there is not one feature per image.

    Example:
        >>> found = Retrieval(translator, "layer", ProbingSet(list(images)), torch.ones(2, 6))
        >>> len(found("a cat", 1, seed=0))
        1
    """

    def __init__(
        self, translator: Translator, layer: str, images: ProbingSet, vectors: Float[Tensor, "N E"]
    ) -> None:
        if len(images) != len(vectors):
            raise ValueError(f"{len(images)} images came with {len(vectors)} features; pass one an image.")
        self.translator, self.layer, self.images, self.vectors = translator, layer, images, vectors

    def __call__(self, label: str, count: int, seed: int) -> list[Image.Image]:
        """Find the images of the highest scores."""
        scores = score_rows(self.translator, self.layer, self.vectors, [label])[:, 0]
        order = scores.argsort(descending=True, stable=True)[:count]
        return [self.images.picture(number) for number in order.tolist()]


class Composition:
    """Composes images of the cut-outs whose names are nearest to a label, on varied backgrounds.

    If the label names a colour ("a red car"), the cut-outs are recoloured.

    Args:
        cutouts: The cut-outs.
        encoder: Compares their names with labels.
        backgrounds: The backgrounds; None = plain colours and gradients.
        nearest: The largest number of different names per label, those within .05 of the largest cosine.
        size: The side of the images, in pixels.

    Example:
        >>> from torchnle.data import load_cutouts  # doctest: +SKIP
        >>> source = Composition(load_cutouts(folder), TextEncoder.from_pretrained())  # doctest: +SKIP
    """

    def __init__(
        self,
        cutouts: Sequence[Cutout],
        encoder: TextEncoder,
        backgrounds: Sequence[Background] | None = None,
        *,
        nearest: int = 3,
        size: int = 224,
    ) -> None:
        self.encoder, self.backgrounds, self.nearest, self.size = encoder, backgrounds, nearest, size
        self._by_name: dict[str, list[Cutout]] = {}
        for cutout in cutouts:
            self._by_name.setdefault(cutout.phrase, []).append(cutout)
        self._names = list(self._by_name)
        self._vectors = encoder.encode(self._names)

    def __call__(self, label: str, count: int, seed: int) -> list[Image.Image]:
        """Compose images."""
        cosines = (self._vectors @ self.encoder.encode([label]).T)[:, 0]
        best = cosines.topk(min(self.nearest, len(self._names)))
        names = [self._names[i] for i in best.indices[best.values >= best.values[0] - 0.05].tolist()]
        colour = colour_in(label)
        shown = [
            Cutout(
                cutout.phrase, cutout.image if colour is None else tinted(cutout.image, colour), cutout.source
            )
            for name in names
            for cutout in self._by_name[name]
        ]
        scenes = Scenes(
            shown, self.backgrounds, length=count, size=self.size, objects=(1, 1), seed=_seed(label, seed)
        )
        return [scene.image for scene in scenes]


class Diffusion:
    """Generates images with a text-to-image pipeline of diffusers (the paper: Stable Diffusion v1-4).

    Args:
        pipeline: Such as `StableDiffusionPipeline.from_pretrained(...)`.
        prompt: The prompt, in which "{label}" is replaced.
        steps: The number of denoising steps.
        batch_size: Images at once.
        options: Passed on to the pipeline, such as `guidance_scale`, `height`, `width`.

    Raises:
        ValueError: If "{label}" is not in the prompt.

    Example:
        >>> from diffusers import StableDiffusionPipeline  # doctest: +SKIP
        >>> source = Diffusion(StableDiffusionPipeline.from_pretrained(name).to("cuda"))  # doctest: +SKIP
    """

    def __init__(
        self, pipeline: Any, *, prompt: str = PROMPT, steps: int = STEPS, batch_size: int = 5, **options: Any
    ) -> None:
        if "{label}" not in prompt:
            raise ValueError(f"prompt={prompt!r} has no {{label}} in it.")
        self.pipeline, self.prompt, self.steps = pipeline, prompt, steps
        self.batch_size, self.options = batch_size, options

    @torch.no_grad()
    def __call__(self, label: str, count: int, seed: int) -> list[Image.Image]:
        """Draw images, each from a generator of its own, so that they do not depend on the batch."""
        found: list[Image.Image] = []
        for start in range(0, count, self.batch_size):
            numbers = range(start, min(start + self.batch_size, count))
            found += self.pipeline(
                prompt=[self.prompt.format(label=label)] * len(numbers),
                num_inference_steps=self.steps,
                generator=[torch.Generator().manual_seed(_seed(label, seed + n)) for n in numbers],
                output_type="pil",
                **self.options,
            ).images
        return [image.convert("RGB") for image in found]


def _seed(label: str, seed: int) -> int:
    """A seed of the label's own."""
    return int(np.frombuffer(hashlib.sha256(f"{seed} {label}".encode()).digest()[:4], np.uint32)[0])

"""Metrics of explanations by given frozen models (Zero-shot NLE, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.metrics.embedding_scores import TextImageScorer, clip_score

#: Finds or makes a picture of a sentence: a text-to-image model, a search in a gallery.
Imagine: TypeAlias = Callable[[str], Image.Image]
#: Pictures -> one feature each, (N, D).
Embed: TypeAlias = Callable[[Sequence[Image.Image]], Tensor]
#: Two pictures -> how far they are apart; `lpips.LPIPS(net="alex")` behind its own preprocessing.
Distance: TypeAlias = Callable[[Image.Image, Image.Image], float]


@dataclass(frozen=True)
class ExplanationScores:
    """The scores of explanations; None where the model of a score was not given.

    Args:
        clip_score: CLIPScore of the images and their sentences.
        cosine: The mean cosine of the features of each image and of a picture of its sentence.
        distance: The mean perceptual distance of the same pairs (LPIPS in the paper).
    """

    clip_score: float | None = None
    cosine: float | None = None
    distance: float | None = None


@torch.no_grad()
def explanation_scores(
    images: Sequence[Image.Image],
    texts: Sequence[str],
    *,
    scorer: TextImageScorer | None = None,
    imagine: Imagine | None = None,
    embed: Embed | None = None,
    distance: Distance | None = None,
) -> ExplanationScores:
    """Score explanations of images by CLIPScore and by pictures of their sentences.

    Args:
        images: The explained images.
        texts: One explanation an image.
        scorer: Computes cosines of images and texts, for CLIPScore.
        imagine: Finds or generates a picture of a sentence (`retrieve`, or any text-to-image model); needed
            by `embed` and `distance`.
        embed: Computes features, in the paper those of the explained model.
        distance: Computes the perceptual distance of two pictures.

    Raises:
        ValueError: If there is not one text per image, there is no judge, or `embed` or `distance` are given
            without `imagine`.

    Example:
        >>> dots = [Image.new("RGB", (1, 1), colour) for colour in ("red", "blue")]
        >>> embed = lambda pictures: torch.tensor([p.getpixel((0, 0)) for p in pictures]).float()
        >>> paint = lambda text: Image.new("RGB", (1, 1), text.split()[-1])
        >>> explanation_scores(dots, ["it is red", "it is red"], imagine=paint, embed=embed).cosine
        0.5
    """
    if len(images) != len(texts) or not len(images):
        raise ValueError(f"{len(images)} images were given with {len(texts)} texts; pass one an image.")
    if scorer is None and embed is None and distance is None:
        raise ValueError("there is no judge; pass scorer=, or imagine= with embed= or distance=.")
    cosine = apart = None
    if embed is not None or distance is not None:
        if imagine is None:
            raise ValueError("embed= and distance= compare with a picture of the text; pass imagine= too.")
        pictures = [imagine(text) for text in texts]
        if embed is not None:
            cosine = float(F.cosine_similarity(embed(images), embed(pictures), dim=1).mean())
        if distance is not None:
            pairs = zip(images, pictures, strict=True)
            apart = sum(float(distance(one, other)) for one, other in pairs) / len(images)
    rated = None if scorer is None else clip_score(images, texts, scorer)
    return ExplanationScores(rated, cosine, apart)


def retrieve(gallery: Sequence[Image.Image], scorer: TextImageScorer) -> Imagine:
    """Build a function that retrieves the picture of a gallery with the largest score for a text.

    Args:
        gallery: At least one picture, without the explained ones.
        scorer: Computes cosines of pictures and texts.

    Raises:
        ValueError: If the gallery is empty.

    Example:
        >>> dots = [Image.new("L", (1, 1), level) for level in (0, 255)]
        >>> bright = lambda images, texts: torch.tensor([[float(i.getpixel((0, 0)))] for i in images])
        >>> retrieve(dots, bright)("a white dot").getpixel((0, 0))
        255
    """
    if not len(gallery):
        raise ValueError("the gallery is empty; pass at least one picture.")

    def find(text: str) -> Image.Image:
        scores: Float[Tensor, "G 1"] = scorer(gallery, [text])
        return gallery[int(scores[:, 0].argmax())]

    return find

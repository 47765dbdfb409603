"""The evaluation scenes and their features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import (
    Background,
    Cutouts,
    Scene,
    Scenes,
    gradient_backgrounds,
    load_cutouts,
    plain_backgrounds,
    scene_caption,
    shapes,
    texture_backgrounds,
)
from torchnle.vision.features import Features

_MOST_ORDERS = 6  # three objects in every order


def composed(
    cutouts: Path | None = None,
    *,
    part: Literal["all", "train", "test"] = "all",
    textures: bool = True,
    **options: Any,
) -> Scenes:
    """Compose scenes of cut-outs on colours, gradients and textures.

    Args:
        cutouts: A folder that `load_cutouts` reads; None = coloured shapes made in code.
        part: The part of the cut-outs: "test" = those that `Cutouts.split` holds out.
        textures: Whether to use scikit-image's textures as backgrounds too.
        options: Options of `Scenes`: `length`, `objects`, `seed`, ...
    """
    chosen: Cutouts = shapes() if cutouts is None else load_cutouts(cutouts)
    if part != "all":
        chosen = chosen.split(part)
    return Scenes(chosen, evaluation_backgrounds(textures=textures), **options)


def evaluation_backgrounds(*, textures: bool = True) -> list[Background]:
    """Return the backgrounds of the evaluation scenes: colours, gradients and, on request, textures."""
    smooth: list[Background] = [*plain_backgrounds(), *gradient_backgrounds()]
    return [*smooth, *texture_backgrounds()] if textures else smooth


def references(scene: Scene) -> list[str]:
    """Return the captions of a scene with its objects in every order.

    Example:
        >>> scene = composed(textures=False, objects=(2, 2), seed=7)[0]
        >>> [text[:30] for text in references(scene)]
        ['a green arrow and a gray heart', 'a gray heart and a green arrow']
    """
    orders = permutations([item.phrase for item in scene.objects])
    return [
        scene_caption(order, scene.location) for order, _ in zip(orders, range(_MOST_ORDERS), strict=False)
    ]


def images_of(backbone: Backbone, scenes: Sequence[Scene]) -> Tensor:
    """Preprocess scenes whole, without the margin that an evaluation crop cuts off."""
    preprocess = replace(backbone.preprocess, share=1.0)
    return torch.stack([preprocess(scene.image) for scene in scenes])


def read(
    backbone: Backbone, lang: LanguageAttribution, scenes: Scenes, *, batch_size: int
) -> Iterator[tuple[list[Scene], list[Features]]]:
    """Yield scenes with the features of every attached layer, batch by batch."""
    for start in range(0, len(scenes), batch_size):
        batch = scenes[start : start + batch_size]
        with torch.no_grad():
            yield batch, lang.read(images_of(backbone, batch))

"""Models that pad images at one side: a layer's grid lies on the padded image then, and not on the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchnle.vision.running import evaluating, exclusive_use, unwrap

#: Locations may be shifted by so much of the image.
_SHARE = 0.01


@torch.no_grad()
def check_padding(forward_func: Callable[..., Any], image: Tensor) -> None:
    """Refuse images that a detector pads right and below, since the locations of its layers would be shifted.

    Only models with a part that has a `size_divisible`, such as torchvision's detectors, are checked.

    Raises:
        ValueError: If the images are padded; the message names the size before and after.
    """
    root = unwrap(forward_func)
    if root is None or image.ndim != 4:
        return
    for part in root.children():
        if not hasattr(part, "size_divisible") or not callable(getattr(part, "batch_images", None)):
            continue
        with exclusive_use(root), evaluating(root):
            batch, _ = part([image[0]])
        (height, width), (rows, columns) = batch.image_sizes[0], batch.tensors.shape[-2:]
        if max(1 - height / rows, 1 - width / columns) > _SHARE:
            raise ValueError(
                f"{type(root).__name__} makes {height} x {width} pixels of an image and pads them right and "
                f"below to {rows} x {columns}, so the locations of its layers would be shifted. Pass images "
                f"of which both sides are multiples of {part.size_divisible} after resizing, or read "
                "model.backbone on its own."
            )

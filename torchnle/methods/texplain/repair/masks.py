"""The paper's repair by masking salient regions, on images and on the locations of a layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.texplain.repair.linear import Linear, fit_linear


def top_regions(saliency: Float[Tensor, "N h w"], share: float) -> Bool[Tensor, "N h w"]:
    """Mark the locations of highest saliency of each map: this share of them, at least one and never all.

    Raises:
        ValueError: If `share` is not between 0 and 1, or a map has a single location.

    Example:
        >>> top_regions(torch.tensor([[[0.1, 0.9], [0.3, 0.2]]]), 0.25).tolist()
        [[[False, True], [False, False]]]
    """
    count, locations = saliency.flatten(1).shape
    if not 0 < share < 1 or locations < 2:
        raise ValueError(
            f"share={share} of {locations} locations; pass a share between 0 and 1, of maps of 2 or more."
        )
    selected = min(locations - 1, max(1, round(share * locations)))
    best = saliency.flatten(1).topk(selected, dim=1).indices
    marked = torch.zeros(count, locations, dtype=torch.bool, device=saliency.device)
    return marked.scatter(1, best, True).view(saliency.shape)


def mask_images(
    images: Float[Tensor, "N C H W"], regions: Bool[Tensor, "M r c"], fill: float | Float[Tensor, "C"] = 0.0
) -> Float[Tensor, "N C H W"]:
    """Fill regions of images with a constant.

    Args:
        images: As the model takes them.
        regions: The regions, at any resolution with the images' aspect ratio.
        fill: The colour, in the model's own units; 0 is the mean of most preprocessings.

    Raises:
        ValueError: If there are not as many regions as images, or their shape is not that of the images: a
            mask of another size would be stretched.

    Example:
        >>> region = torch.tensor([[[True, False], [False, False]]])
        >>> mask_images(torch.ones(1, 1, 4, 4), region)[0, 0, 0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    height, width = images.shape[2:]
    rows, columns = regions.shape[1:]
    if len(regions) != len(images) or height * columns != width * rows:
        raise ValueError(
            f"{len(regions)} masks of {rows}x{columns} for {len(images)} images of {height}x{width}; pass "
            f"one mask an "
            "image, of the same shape up to its resolution."
        )
    enlarged = F.interpolate(regions[:, None].float(), (height, width), mode="nearest") > 0.5
    colour = torch.as_tensor(fill, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    return torch.where(enlarged, colour, images)


def pool_outside(maps: Float[Tensor, "N h w D"], regions: Bool[Tensor, "M r c"]) -> Float[Tensor, "N D"]:
    """Average a layer's features over the locations outside of regions, in place of masking the images.

    The receptive fields of the remaining locations still overlap the masked regions.

    Raises:
        ValueError: If masks and maps differ in shape, or a mask leaves nothing.

    Example:
        >>> maps = torch.tensor([[[[1.0], [5.0]]]])
        >>> pool_outside(maps, torch.tensor([[[False, True]]])).tolist()
        [[1.0]]
    """
    if maps.shape[:3] != regions.shape:
        raise ValueError(
            f"masks of {tuple(regions.shape)} for maps of {tuple(maps.shape[:3])}; pass one of each shape."
        )
    left = (~regions).to(maps.dtype)[..., None]
    counts = left.sum(dim=(1, 2))
    if not counts.all():
        raise ValueError("a mask covers a whole map; leave a location of each.")
    return (maps * left).sum(dim=(1, 2)) / counts


def class_saliency(
    maps: Float[Tensor, "N h w D"], layer: Linear, labels: Int[Tensor, "N"]
) -> Float[Tensor, "N h w"]:
    """Compute each location's contribution to its label's logit (Grad-CAM before mean pooling)."""
    weight = layer.weight[labels].to(maps.dtype)
    return torch.einsum("nhwd,nd->nhw", maps, weight).clamp_min(0)


def finetune_on_masked(
    layer: Linear,
    masked: Float[Tensor, "M D"],
    labels: Int[Tensor, "M"],
    *,
    penalty: float = 0.1,
) -> Linear:
    """Fine-tune a classifier's last layer on features of masked images (section 4.4; MaskTune: all images).

    Solved to convergence: the distance from the given layer is penalised, in place of a small step size and a
    number of epochs. With images of one class only, the layer is returned unchanged.

    Args:
        layer: The trained last layer.
        masked: Features of the masked images.
        labels: Their classes.
        penalty: Of the distance.

    Example:
        >>> layer = Linear(torch.eye(2), torch.zeros(2))
        >>> finetune_on_masked(layer, torch.eye(2), torch.tensor([0, 1])).weight.shape
        torch.Size([2, 2])
    """
    if len(torch.unique(labels)) < len(layer.bias):
        return layer
    return fit_linear(masked, labels, len(layer.bias), penalty=penalty, start=layer)

"""Attention crops: the regions of an image at which a unit is active (Describe-and-Dissect, A.1.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.methods.dissect.exemplars.masks import otsu

#: (left, top, right, bottom) in pixels, the last two exclusive.
Box = tuple[int, int, int, int]
#: The paper's code: at most so many crops an image, no two of which overlap by more than this (A.1.1's eta),
#: and none that is nearly the whole image.
MOST, OVERLAP, WHOLE = 4, 0.5, 0.8


def attention_crops(
    activation: Float[Tensor, "h w"],
    size: tuple[int, int],
    *,
    most: int = MOST,
    overlap: float = OVERLAP,
    whole: float = WHOLE,
) -> list[Box]:
    """Find the boxes of the regions in which a unit is active, the largest first.

    The map is enlarged to the image (bicubic), thresholded by Otsu's method, and split into connected
    regions. A box is kept if its intersection over union with every kept box is at most `overlap`.
    Activations are not quantised: in the authors' code those above 1 wrap around at 256 grey levels.

    Args:
        activation: The unit's activation map.
        size: (height, width) of the image.
        most: The largest number of boxes (the paper's alpha).
        overlap: The most overlap of two boxes (the paper's eta).
        whole: A box that overlaps with the frame by this much or more is left out.

    Raises:
        ValueError: If `most` is not positive.

    Example:
        >>> map = torch.zeros(4, 4)
        >>> map[0, 0] = map[3, 3] = 1.0
        >>> len(attention_crops(map, (64, 64)))
        2
    """
    if most < 1:
        raise ValueError(f"most={most}; pass a positive number of crops.")
    if activation.amax() == activation.amin():
        return []
    large = F.interpolate(activation[None, None].float(), size=size, mode="bicubic")[0, 0]
    threshold = otsu(large.flatten()[None])[0]
    boxes = sorted(regions(large > threshold), key=lambda box: (-_area(box), box))
    frame, kept = (0, 0, size[1], size[0]), list[Box]()
    for box in boxes:
        if len(kept) == most:
            break
        if iou(box, frame) < whole and all(iou(box, other) <= overlap for other in kept):
            kept.append(box)
    return kept


def regions(mask: Bool[Tensor, "H W"]) -> list[Box]:
    """Find the bounding boxes of a mask's connected regions, whose pixels touch at sides or corners.

    Example:
        >>> mask = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
        >>> regions(mask)
        [(0, 0, 2, 2)]
    """
    labels = _labels(mask)
    found: list[Box] = []
    for label in sorted(set(labels[mask].tolist())):
        rows, columns = (labels == label).nonzero(as_tuple=True)
        found.append((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
    return found


def iou(first: Box, second: Box) -> float:
    """Compute the intersection over union of two boxes.

    Example:
        >>> iou((0, 0, 2, 2), (1, 0, 3, 2)) == 1 / 3
        True
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(0, width) * max(0, height)
    return both / max(1, _area(first) + _area(second) - both)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _labels(mask: Bool[Tensor, "H W"]) -> Tensor:
    """One number a connected region: union-find over the runs of each row."""
    parent: list[int] = []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    labels = torch.full(mask.shape, -1, dtype=torch.long)
    above: list[tuple[int, int, int]] = []
    for row, line in enumerate(mask.tolist()):
        runs = _runs(line)
        current = []
        for start, stop in runs:
            own = len(parent)
            parent.append(own)
            for left, right, other in above:
                if left <= stop and right >= start:  # they touch, at a corner at least
                    parent[root(own)] = root(other)
            labels[row, start:stop] = own
            current.append((start, stop, own))
        above = current
    roots = torch.tensor([root(node) for node in range(len(parent))] or [0])
    return torch.where(mask.cpu(), roots[labels.clamp(min=0)], -1)


def _runs(line: list[bool]) -> list[tuple[int, int]]:
    """The [start, stop) of every run of True."""
    edges = [i for i in range(len(line) + 1) if (i < len(line) and line[i]) != (i > 0 and line[i - 1])]
    return list(zip(edges[::2], edges[1::2], strict=True))

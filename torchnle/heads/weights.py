"""The class weights of a classifier's last layer, checked and centred."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.heads.class_names import as_class_names


def class_vectors(
    weight: Float[Tensor, "C D"], origin: Float[Tensor, "D"] | None = None
) -> Float[Tensor, "C D"]:
    """Centre the class weights and normalise each to unit length, in float32.

    A vector added to all weights changes no softmax and no ranking of classes, so their mean carries no
    information.

    Args:
        weight: The class weights.
        origin: The vector to subtract instead of their mean.

    Example:
        >>> class_vectors(torch.tensor([[5.0, 1.0], [5.0, 7.0]])).tolist()
        [[0.0, -1.0], [0.0, 1.0]]
    """
    weight = weight.detach().float()
    return F.normalize(weight - (weight.mean(dim=0) if origin is None else origin.float()), dim=1)


def check_classifier(weight: Tensor, class_names: Iterable[object]) -> tuple[str, ...]:
    """Check that class names fit the rows of a head's weight, and return them as a tuple.

    Two classes may have the same name (ImageNet has two cranes); its text is then mapped between their
    vectors.

    Args:
        weight: The head's weight, (classes, width).
        class_names: One name per row.

    Raises:
        TypeError: If `class_names` has no order or holds something else than strings (`as_class_names`).
        ValueError: If `weight` is not (classes, width) with at least two classes, not finite or the same for
            all classes, or the names are not one per row, blank or generated (LABEL_0).

    Example:
        >>> check_classifier(torch.eye(2), ["cat", " "])
        Traceback (most recent call last):
        ...
        ValueError: class_names[1] is ' ', which is blank; every class needs a name in words.
    """
    _check_weight(weight)
    names = as_class_names(class_names)
    if len(names) != len(weight):
        raise ValueError(
            f"{len(names)} class names were given for a head of {len(weight)} rows. Pass one name a row, in "
            "the order of the model's outputs."
        )
    return names


def _check_weight(weight: Tensor) -> None:
    if weight.ndim != 2 or len(weight) < 2 or not weight.is_floating_point():
        raise ValueError(
            f"weight is {tuple(weight.shape)} of {weight.dtype}; pass the head's matrix of floating-point "
            "numbers, (classes, width), with at least two classes."
        )
    if not torch.isfinite(weight).all():
        raise ValueError("weight holds NaN or infinite values; check the model's weights.")
    if torch.equal(weight, weight[:1].expand_as(weight)):
        raise ValueError("weight has the same row for all classes; pass the weights of a trained head.")

"""Units as classifiers of classes that the model was not trained on (Describe-and-Dissect, A.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.methods.dissect.labels import Dissection
from torchnle.metrics.units.agreement import cosy_auc


@dataclass(frozen=True)
class UnseenClass:
    """How well the units named like a class find it.

    Args:
        name: The class.
        units: The units whose label is nearest to it; several where they share one.
        auroc: The mean over them.
        random: The mean over random units: the control.
    """

    name: str
    units: tuple[int, ...]
    auroc: float
    random: float


def unseen_class(
    dissection: Dissection,
    name: str,
    activations: Float[Tensor, "N U"],
    truth: Bool[Tensor, "N"],
    *,
    controls: int = 20,
    seed: int = 0,
) -> UnseenClass:
    """Measure by the area under the ROC curve how well a class is found by the unit named like it.

    Args:
        dissection: The labels, with an encoder, or with labels that hold the class's words.
        name: The class.
        activations: Each unit's activation in each image.
        truth: Which images show the class.
        controls: Random units.
        seed: Draws them.

    Raises:
        ValueError: If all or no images show the class, or no unit's label is like it.

    Example:
        >>> from torchnle.methods.dissect.labels import UnitLabel
        >>> found = Dissection("layer", [UnitLabel(0, "a car", 0.5), UnitLabel(1, "sky", 0.5)])
        >>> shown = torch.tensor([True, False])
        >>> unseen_class(found, "car", torch.tensor([[2.0, 0.0], [1.0, 0.0]]), shown).auroc
        1.0
    """
    if truth.all() or not truth.any():
        raise ValueError(
            f"{int(truth.sum())} of {len(truth)} images show {name!r}; pass some that do and don't."
        )
    nearest = dissection.find(name, k=1)
    if not nearest:
        raise ValueError(f"no unit of '{dissection.layer}' has a label like {name!r}.")
    units = tuple(label.unit for label in dissection if label.text == nearest[0].text)
    aucs = cosy_auc(activations[truth], activations[~truth])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(activations.shape[1], (controls,), generator=generator)
    return UnseenClass(name, units, float(aucs[list(units)].mean()), float(aucs[drawn].mean()))

"""Top-1 and top-5 of a classifier with classes added by name (Zero-shot NLE, section 4.1, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.data.image_folders import LabelledImages


@dataclass(frozen=True)
class NewClassAccuracy:
    """The accuracies of a classifier on images of its trained and its new classes, 0 to 1.

    Args:
        trained: Top-1 and top-5 of images of trained classes, among all classes ("Train" in the paper).
        new: Top-1 and top-5 of images of new classes, among all classes ("Test"; generalised zero-shot).
        new_alone: The same among the new classes alone (zero-shot).
    """

    trained: tuple[float, float]
    new: tuple[float, float]
    new_alone: tuple[float, float]

    @property
    def harmonic_mean(self) -> float:
        """The harmonic mean of both top-1 accuracies among all classes.

        Example:
            >>> NewClassAccuracy((0.6, 1.0), (0.3, 1.0), (0.9, 1.0)).harmonic_mean
            0.4
        """
        first, second = self.trained[0], self.new[0]
        return 2 * first * second / (first + second) if first + second else 0.0


def top_accuracy(logits: Float[Tensor, "N C"], labels: Int[Tensor, "N"], count: int = 1) -> float:
    """Compute the share of images whose class is among those of the largest logits.

    Args:
        logits: One row per image.
        labels: The true class of each image.
        count: The number of classes that are counted; no more than there are.

    Raises:
        ValueError: If there is no image, or not one label per image.

    Example:
        >>> logits = torch.tensor([[0.1, 0.9, 0.3], [0.2, 0.5, 0.1]])
        >>> top_accuracy(logits, torch.tensor([2, 1])), top_accuracy(logits, torch.tensor([2, 1]), 2)
        (0.5, 1.0)
    """
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(f"{len(logits)} rows of logits and {len(labels)} labels; pass one label an image.")
    best = logits.topk(min(count, logits.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(dim=1).float().mean())


def new_class_accuracy(
    logits: Float[Tensor, "N C"], labels: Int[Tensor, "N"], new: Bool[Tensor, "C"]
) -> NewClassAccuracy:
    """Compute top-1 and top-5 among all classes and among the new ones.

    Args:
        logits: Of all classes, as an `ExtendedClassifier` gives them.
        labels: The true class of each image, as an index of the columns.
        new: The columns that are new classes.

    Raises:
        ValueError: If there is no image of a trained or of a new class.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0], [3.0, 1.0, 2.0]])
        >>> found = new_class_accuracy(logits, torch.tensor([0, 2]), torch.tensor([False, False, True]))
        >>> found.trained[0], found.new[0], found.new_alone[0]
        (1.0, 0.0, 1.0)
    """
    shown_new = new.to(labels.device)[labels]
    if not shown_new.any() or shown_new.all():
        raise ValueError(
            f"{int(shown_new.sum())} of {len(labels)} images are of new classes; pass images of both kinds."
        )
    columns = new.nonzero().flatten().to(labels.device)
    among = (labels[shown_new][:, None] == columns).int().argmax(dim=1)
    return NewClassAccuracy(
        _both(logits[~shown_new], labels[~shown_new]),
        _both(logits[shown_new], labels[shown_new]),
        _both(logits[shown_new][:, columns], among),
    )


def _both(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    return top_accuracy(logits, labels), top_accuracy(logits, labels, 5)


def class_indices(listed: LabelledImages, class_names: Sequence[str]) -> Int[Tensor, "F"]:
    """Find the class of each folder: by name, or by order where there are as many folders as classes.

    Folders of ImageNet are named by WordNet identifiers ("n01440764"), and sorted as its classes are.

    Args:
        listed: Images in a folder per class (`load_class_folders`).
        class_names: The classifier's.

    Returns:
        The index of each folder's class, in the order of `listed.class_names`.

    Raises:
        ValueError: If a folder names no class, and there are not as many folders as classes.
    """
    order = {name.lower().replace("_", " "): i for i, name in reversed(list(enumerate(class_names)))}
    missing = [folder for folder in listed.class_names if folder not in order]
    if not missing:
        return torch.tensor([order[folder] for folder in listed.class_names])
    if len(listed.class_names) == len(class_names):
        return torch.arange(len(class_names))
    raise ValueError(
        f"the folders {missing[:3]} name none of the {len(class_names)} classes; name folders as classes, or "
        "pass as many folders as there are classes, sorted as they are."
    )

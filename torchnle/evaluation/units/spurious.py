"""Units that share a concept, and what each class loses without them (Describe-and-Dissect, section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.dissect.labels import Dissection
from torchnle.methods.dissect.silencing import silenced
from torchnle.types import Layer


@dataclass(frozen=True)
class ConceptPruned:
    """Each class's accuracy without the units of a concept.

    Args:
        concept: Words that their labels hold, one of them at least.
        units: Their numbers.
        share: Their share of all units.
        before: Each class's accuracy with all units; NaN for a class without images.
        after: Without them.
        random: Without as many random units, the mean over draws: the control.

    Example:
        >>> pruned = ConceptPruned(("pink",), (3,), 0.1, (0.9, 0.8), (0.1, 0.8), (0.9, 0.7))
        >>> pruned.lost
        (0.8, -0.1)
    """

    concept: tuple[str, ...]
    units: tuple[int, ...]
    share: float
    before: tuple[float, ...]
    after: tuple[float, ...]
    random: tuple[float, ...]

    @property
    def lost(self) -> tuple[float, ...]:
        """The accuracy that each class loses beyond what it loses without random units."""
        return tuple(round(r - a, 12) for r, a in zip(self.random, self.after, strict=True))


def units_of(dissection: Dissection, words: Sequence[str]) -> tuple[int, ...]:
    """Find the units whose labels hold one of the words.

    Example:
        >>> from torchnle.methods.dissect.labels import UnitLabel
        >>> units = [UnitLabel(0, "a pink sky", 0.5), UnitLabel(4, "sky", 0.5)]
        >>> units_of(Dissection("layer", units), ["pink"])
        (0,)
    """
    wanted = {word.lower() for word in words}
    return tuple(label.unit for label in dissection if wanted & set(label.text.lower().split()))


def prune_concept(
    model: Callable[..., Any],
    layer: Layer,
    dissection: Dissection,
    words: Sequence[str],
    images: Float[Tensor, "N C H W"],
    truth: Int[Tensor, "N"],
    *,
    draws: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> ConceptPruned:
    """Measure each class's accuracy without the units that share a concept, beside as many random units.

    Args:
        model: The classifier, images to logits.
        layer: The dissected layer.
        dissection: The labels of all of its units.
        words: The concept: labels with one of these words have it.
        images: As the model takes them.
        truth: Their classes.
        draws: Of random units.
        batch_size: Images at once.
        seed: Of the draws.

    Raises:
        ValueError: If no unit has the concept, or all have.

    Example:
        >>> from torchnle.methods.dissect.labels import UnitLabel
        >>> named = Dissection("layer", [UnitLabel(u, "pink" if u < 2 else "sky", 0.5) for u in range(6)])
        >>> prune_concept(model, "layer", named, ["pink"], images, torch.tensor([0, 1]), draws=2).units
        (0, 1)
    """
    units, numbers = units_of(dissection, words), [label.unit for label in dissection]
    if not 0 < len(units) < len(numbers):
        raise ValueError(
            f"{len(units)} of {len(numbers)} units of '{dissection.layer}' have a label with one of "
            f"{list(words)}; pass words of some labels, such as those of `shares_of`."
        )

    def accuracy(chosen: Sequence[int]) -> Tensor:
        hits = []
        for part in torch.split(images, batch_size):
            with torch.no_grad(), silenced(model, layer, chosen):
                hits.append(model(part).argmax(dim=1))
        right = (torch.cat(hits).cpu() == truth).double()
        return torch.stack([right[truth == c].mean() for c in range(int(truth.max()) + 1)])

    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(numbers), generator=generator)[: len(units)].tolist() for _ in range(draws)]
    random = torch.stack([accuracy([numbers[i] for i in order]) for order in orders]).mean(dim=0)
    share = len(units) / len(numbers)
    columns = (accuracy([]), accuracy(units), random)
    before, after, control = (tuple(column.tolist()) for column in columns)
    return ConceptPruned(tuple(words), units, share, before, after, control)

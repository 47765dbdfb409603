"""The result of a dissection: one label per unit, with its score and alternatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.dissect.exemplars.exemplar import Exemplar, exemplars
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.record import LayerRecord


@dataclass(frozen=True)
class UnitLabel:
    """The label of one unit, with what it was chosen by and from.

    Args:
        unit: The unit's index.
        text: The label; "" if there is none.
        score: The score by which the label was chosen, comparable within a unit only; 0 without a label.
        labels: Labels with different meanings and their scores, best first (A.7).
        candidates: The candidate labels with their scores, best first.
        correlation: The correlation of the label's score with the unit's activation over all images; 0 if
            unknown.
        captions: The captions of the exemplars.
        images: The exemplars' indices in the probing set.
        dead: True if the unit never became active; it has no label then.
        reliable: True if the label explains enough of the unit's activation.
        note: The reason of a failure; "" if there was none.

    Example:
        >>> print(UnitLabel(3, "a car", 0.61))
        unit 3: a car  [0.61]
    """

    unit: int
    text: str
    score: float
    labels: tuple[tuple[str, float], ...] = ()
    candidates: tuple[tuple[str, float], ...] = ()
    correlation: float = 0.0
    captions: tuple[str, ...] = ()
    images: tuple[int, ...] = ()
    dead: bool = False
    reliable: bool = True
    note: str = ""

    def __str__(self) -> str:
        if self.dead:
            return f"unit {self.unit}: dead"
        words = "; ".join(text for text, _ in self.labels) or self.text or "(no label)"
        return f"unit {self.unit}: {words}  [{self.score:.2f}{'' if self.reliable else ', unreliable'}]"


@dataclass(frozen=True)
class Origin:
    """The model, translator, method and images that labels come from.

    Args:
        model: The model's name, as a user knows it; "" = unknown.
        translator: The name of the translator that gave the words; "" = none did.
        method: The labelling method.
        images: The number of probing images.
    """

    model: str = ""
    translator: str = ""
    method: str = "Describe-and-Dissect"
    images: int = 0


class Dissection(Sequence[UnitLabel]):
    """The labels of one layer's units, in the order of the units.

    Args:
        layer: The layer's name.
        units: The labels.
        record: The layer's probing record.
        images: The probing set.
        encoder: Encodes labels for `find`; None = labels are matched by their words.
        origin: What the labels come from; None = unknown.

    Example:
        >>> found = Dissection("layer", [UnitLabel(0, "a car", 0.6), UnitLabel(1, "a red car", 0.5)])
        >>> [label.unit for label in found.find("red")]
        [1]
    """

    def __init__(
        self,
        layer: str,
        units: Sequence[UnitLabel],
        record: LayerRecord | None = None,
        images: ProbingSet | None = None,
        encoder: TextEncoder | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.layer, self._units, self.origin = layer, tuple(units), origin
        self.record, self.images, self.encoder = record, images, encoder
        self._vectors: Tensor | None = None

    def __len__(self) -> int:
        return len(self._units)

    @overload
    def __getitem__(self, index: int) -> UnitLabel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UnitLabel]: ...
    def __getitem__(self, index: int | slice) -> UnitLabel | Sequence[UnitLabel]:
        return self._units[index]

    def __iter__(self) -> Iterator[UnitLabel]:
        return iter(self._units)

    def exemplars(self, label: UnitLabel, count: int | None = None) -> list[Exemplar]:
        """Open a unit's exemplars.

        Raises:
            ValueError: If the dissection was loaded without its probing record.
        """
        if self.record is None or self.images is None:
            raise ValueError("this dissection has no probing record; pass the one of `dissect`.")
        return exemplars(self.record, label.unit, self.images, count)

    def find(self, text: str, k: int = 10) -> list[UnitLabel]:
        """Find the units whose labels are nearest to a text.

        By embeddings if there is an encoder; else those whose labels contain all words of the text.

        Raises:
            ValueError: If `k` is not positive.
        """
        if k < 1:
            raise ValueError(f"k={k}; pass a positive number of units.")
        labelled = [label for label in self if label.text]
        if self.encoder is None or not labelled:
            words = set(text.lower().split())
            return [label for label in labelled if words <= set(label.text.lower().split())][:k]
        if self._vectors is None:
            self._vectors = self.encoder.encode([label.text for label in labelled])
        cosines = (self._vectors @ self.encoder.encode([text]).T)[:, 0]
        return [labelled[i] for i in cosines.topk(min(k, len(labelled))).indices.tolist()]

    def find_active(self, activations: Float[Tensor, "U"], k: int = 10) -> list[tuple[UnitLabel, float]]:
        """Find the units of largest activation for a picture, in standard deviations above their means.

        Args:
            activations: Every unit's activation in the picture, as `UnitRunner.activations` gives them.
            k: How many.

        Raises:
            ValueError: If `k` is not positive, or the dissection was loaded without its probing record.
        """
        if k < 1 or self.record is None:
            raise ValueError(f"k={k}; pass a positive number of units, and a dissection with its record.")
        mean, deviation = self.record.moments
        scores = (activations - mean) / deviation.clamp_min(1e-12)
        numbers = torch.tensor([label.unit for label in self])
        own = scores[numbers].masked_fill(deviation[numbers] <= 0, -torch.inf)
        best = own.topk(min(k, len(own)))
        return [(self[i], float(s)) for i, s in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    @property
    def dead(self) -> tuple[int, ...]:
        """The numbers of the units that never became active."""
        return tuple(label.unit for label in self if label.dead)

    @property
    def reliable(self) -> tuple[UnitLabel, ...]:
        """The labels that explain some of their units' activation (the filter of A.3)."""
        return tuple(label for label in self if label.text and label.reliable)

    def to_dict(self) -> dict[str, Any]:
        """Return all labels as plain values that `json.dumps` takes."""
        origin = {} if self.origin is None else {"origin": asdict(self.origin)}
        return {"layer": self.layer, **origin, "units": [asdict(label) for label in self]}

    def __str__(self) -> str:
        return "\n".join(str(label) for label in self)

    def __repr__(self) -> str:
        return f"Dissection(layer={self.layer!r}, {len(self)} units, {len(self.dead)} dead)"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{label.unit}</td><td>{escape(label.text or '-')}</td><td>{label.score:.2f}</td></tr>"
            for label in self
        )
        return f"<table><tr><th>unit</th><th>label</th><th>score</th></tr>{rows}</table>"


def shares_of(dissection: Dissection) -> dict[str, float]:
    """Count the share of labelled units of each label, the commonest first (section 5.3).

    Example:
        >>> shares_of(Dissection("layer", [UnitLabel(i, t, 0.0) for i, t in enumerate(["a", "b", "a", ""])]))
        {'a': 0.6666666666666666, 'b': 0.3333333333333333}
    """
    texts = [label.text for label in dissection if label.text]
    counts = {text: texts.count(text) / len(texts) for text in dict.fromkeys(texts)}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def concept_profile(
    dissection: Dissection, superclasses: Sequence[str], encoder: TextEncoder
) -> dict[str, tuple[int, ...]]:
    """Group units by the class that their labels are nearest to: a layer's concept profile (section 5.1).

    Args:
        dissection: The labels.
        superclasses: The classes.
        encoder: Embeds both.

    Returns:
        The units of each class; a unit belongs to one.

    Raises:
        ValueError: If no unit has a label.
    """
    labelled = [label for label in dissection if label.text]
    if not labelled:
        raise ValueError(f"no unit of '{dissection.layer}' has a label.")
    vectors = encoder.encode([label.text for label in labelled])
    nearest = (vectors @ encoder.encode(list(superclasses)).T).argmax(dim=1)
    numbers = torch.tensor([label.unit for label in labelled])
    return {name: tuple(numbers[nearest == i].tolist()) for i, name in enumerate(superclasses)}

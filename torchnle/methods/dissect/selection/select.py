"""Best concept selection: rank candidates by the activations of their images (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.dissect.exemplars.pool import UnitRunner
from torchnle.methods.dissect.selection.scoring import Scoring, score_candidates
from torchnle.methods.dissect.selection.sources import COUNT, ImageSource


@dataclass
class Selection:
    """Ranks a unit's candidates by running the model on images of them.

    Images of a label are made once for all units.

    Args:
        source: Gives the images.
        runner: Runs the model.
        scoring: How candidates are scored.
        count: Images per candidate (the paper's Q).
        final: So many of a unit's candidates get images, at most: the best by what was known before.
        seed: Of the images.

    Example:
        >>> Selection(source, runner).rank(0, ["a cat", "a dog"])  # doctest: +SKIP
        tensor([9.1, 3.2])
    """

    source: ImageSource
    runner: UnitRunner
    scoring: Scoring = "top squared"
    count: int = COUNT
    final: int = 5
    seed: int = 0
    _seen: dict[str, tuple[Tensor, Tensor | None]] = field(default_factory=dict, repr=False)

    def rank(
        self, unit: int, candidates: Sequence[str], exemplars: Float[Tensor, "K E"] | None = None
    ) -> Float[Tensor, "C"]:
        """Score candidates; those beyond `final` get the least score of all, less their rank.

        Args:
            unit: The unit.
            candidates: The labels, the likeliest first.
            exemplars: Features of the unit's exemplars, for scoring functions that compare images.

        Raises:
            ValueError: If the source gives no image of a candidate.
        """
        shown = list(candidates)[: self.final]
        seen = [self._read(label) for label in shown]
        activations = torch.stack([each[0][:, unit] for each in seen])
        features = None if seen[0][1] is None else torch.stack([each[1] for each in seen])  # type: ignore[misc]
        scores = score_candidates(self.scoring, activations, features, exemplars)
        rest = scores.min() - torch.arange(1.0, len(candidates) - len(shown) + 1)
        return torch.cat([scores, rest])

    def _read(self, label: str) -> tuple[Tensor, Tensor | None]:
        """The activations of all units in a label's images, and the images' evidence features."""
        if label not in self._seen:
            pictures = self.source(label, self.count, self.seed)
            if len(pictures) < self.count:
                raise ValueError(
                    f"the image source gave {len(pictures)} of {self.count} images of {label!r}."
                )
            self._seen[label] = self.runner.read(pictures)
        return self._seen[label]

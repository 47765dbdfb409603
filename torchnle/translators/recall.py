"""What a mapped vector reminds of: the step between a map with errors and a decoder that knows none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

#: Multiples of the phrases' mean variance. Of 200 things at their places (100 scenes of seed 5) those nearest
#: to their own phrase were 0.845 at 0.3, 0.85 at 1, 0.855 at 3, 0.825 at 10, and 0.815 without whitening.
_RIDGE = 3.0


class PhraseMemory:
    """Phrases that are recalled: vectors are replaced by the mean of phrases, each as far as it is alike.

    A map's vector lies where no sentence does, and a decoder trained on sentences says odd things of it. The
    mean of a few phrases lies among sentences (DeCap, Li et al. 2023, section 3.2: projection on a memory of
    texts; here seen from the center, as everything in this space is). Phrases share a few directions (that
    it is an animal) which many of them have and which tell them apart badly; whitened by the phrases' own
    covariance, the others count as much.

    Args:
        phrases: Embedded phrases, (T, k).
        center: The mean that directions are seen from, (k,).

    Example:
        >>> memory = PhraseMemory(torch.eye(2), torch.zeros(2))
        >>> memory.recall(torch.tensor([[0.9, 0.1]]), spread=1.0, temperature=0.001)
        tensor([[1., 0.]])
    """

    def __init__(self, phrases: Float[Tensor, "T k"], center: Float[Tensor, "k"]) -> None:
        self.center = center.float()
        self.steps = phrases.to(self.center) - self.center
        self.metric = whitening(self.steps)
        keys = self.steps @ self.metric
        self.keys, self.length = F.normalize(keys, dim=-1), keys.norm(dim=-1).mean()

    def recall(
        self,
        vectors: Float[Tensor, "R k"],
        *,
        spread: float,
        temperature: float,
        by: Literal["cosine", "projection"] = "cosine",
    ) -> Float[Tensor, "R k"]:
        """Replace vectors by the mean of the phrases they recall, each with the softmax of its likeness.

        By cosines, what a vector recalls depends on its direction alone: every vector says something
        definite. By projections a vector near the center recalls many phrases a little, and one far from it
        few: the posterior of phrases that errors of one size blur.

        Args:
            vectors: What a map gave, (R, k).
            spread: The distance from the center of what is returned.
            temperature: Of the softmax; towards 0 the nearest phrase alone is recalled.
            by: The likeness of a whitened vector to a whitened phrase: their cosine, or the projection on
                the phrase's direction in units of the phrases' mean length.
        """
        asked = (vectors.float() - self.center) @ self.metric
        length = asked.norm(dim=-1, keepdim=True) if by == "cosine" else self.length
        likeness = asked @ self.keys.T / length.clamp(min=torch.finfo(asked.dtype).eps)
        mean = F.normalize((likeness / temperature).softmax(dim=-1) @ self.steps, dim=-1)
        return (self.center + spread * mean).to(vectors)


class Recalling(nn.Module):
    """A module that recalls phrases: whitened when first needed, and anew once it was moved or loaded."""

    _whitened: PhraseMemory | None = None

    def _memory_of(self, phrases: Float[Tensor, "T k"], center: Float[Tensor, "k"]) -> PhraseMemory:
        if self._whitened is None:
            self._whitened = PhraseMemory(phrases, center)
        return self._whitened

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to` comes down to."""
        self._whitened = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *loaded: Any) -> None:
        self._whitened = None
        super()._load_from_state_dict(*loaded)


def whitening(steps: Float[Tensor, "T k"]) -> Float[Tensor, "k k"]:
    """What steps away from a mean are multiplied by to have much the same variance in every direction.

    Three times their mean variance is added to that of each direction, so that those in which they hardly
    differ are not blown up.

    Example:
        >>> wide = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> (wide @ whitening(wide)).abs().amax(dim=0)
        tensor([1.3693, 0.5590])
    """
    covariance = steps.T @ steps / len(steps)
    variance = covariance.diagonal().mean().clamp(min=torch.finfo(steps.dtype).tiny)
    root = torch.linalg.cholesky(covariance / variance + _RIDGE * torch.eye(len(covariance)).to(covariance))
    metric: Tensor = torch.linalg.solve_triangular(root, torch.eye(len(root)).to(root), upper=False).T
    return metric


def cosines(
    vectors: Float[Tensor, "R k"], phrases: Float[Tensor, "T k"], center: Float[Tensor, "k"]
) -> Float[Tensor, "R T"]:
    """The cosines between directions from the center.

    Example:
        >>> cosines(torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([1.0, 1.0]))
        tensor([[1.]])
    """
    directions = F.normalize(phrases.to(vectors) - center, dim=-1)
    return F.normalize(vectors - center, dim=-1) @ directions.T

"""The settings of a probing run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

#: How a unit's activations in an image become one number.
Summary = Literal["mean", "max", "class token"]


@dataclass(frozen=True)
class ProbeSettings:
    """The settings of a probing run: how activations are pooled, and what is recorded.

    Args:
        summary: Images are ranked by a unit's mean or largest activation over locations (the paper's g,
            section 3.2, is the mean), or by that at the class token.
        k: Exemplars per unit, with activation maps (the paper's K).
        wide: Images per unit of which only number and activation are kept, for statistics over more of them.
        sample: Locations sampled for quantiles.
        table: Keep every image's activations and evidence feature, too: (images x units) numbers.
        batch_size: Images in the model at once. Numbers depend on it in their last digits.
        save_every: Seconds between savings.

    Raises:
        ValueError: If a number is not positive or the summary has another name.

    Example:
        >>> ProbeSettings(k=5).k
        5
    """

    summary: Summary = "mean"
    k: int = 10
    wide: int = 100
    sample: int = 4096
    table: bool = False
    batch_size: int = 32
    save_every: float = 30.0

    def __post_init__(self) -> None:
        if self.summary not in ("mean", "max", "class token"):
            raise ValueError(f"summary={self.summary!r}; pass 'mean', 'max' or 'class token'.")
        for name in ("k", "wide", "sample", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; pass a positive number.")

    def pool(self, local: Float[Tensor, "B L U"], first: Float[Tensor, "B U"] | None) -> Float[Tensor, "B U"]:
        """Pool each unit's activations over an image to one number.

        Args:
            local: The activations at every location.
            first: The activations at the class token.

        Raises:
            ValueError: If `summary` is the class token and there is none.
        """
        if self.summary == "mean":
            return local.mean(dim=1)
        if self.summary == "max":
            return local.amax(dim=1)
        if first is None:
            raise ValueError("the layer has no class token; pass summary='mean' or 'max'.")
        return first

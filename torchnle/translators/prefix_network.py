"""The base of networks that map features to prefixes for a frozen language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.kinds import HasKind
from torchnle.translators.rows import Rows

if TYPE_CHECKING:
    from torchnle.translators.base import Translator


class PrefixNetwork(HasKind, nn.Module, ABC):
    """Maps the tokens of some layers to a prefix: vectors that a language model reads like word embeddings.

    A subclass states the kind by which a saved translator names it:
    ``class Mine(PrefixNetwork, kind="mine")``.

    Args:
        layers: Its inputs, layer name -> width D.
        language_width: The width E of the language model's embeddings.
        tokens_per_row: 1 = a row is one location's token of each layer; more = a row is a whole image.

    Raises:
        ValueError: If there is no layer or a size is not positive.

    Attributes:
        opening_length: The number of learned vectors before the prefix of every row.
        standardise: Whether features are standardised by the moments of `set_moments`.
        sure_above: The probability below which a description of a pooled feature is unsure.
        sure_above_at_location: The same for a single location.
        evidence_weight: The weight of `evidence` in the log-probability of a text; 0 = none.
    """

    evidence_weight: float = 0.0
    opening_length: int = 0
    standardise: bool = False
    sure_above: float = 0.5
    sure_above_at_location: float = 0.5

    def __init__(self, layers: Mapping[str, int], language_width: int, tokens_per_row: int) -> None:
        super().__init__()
        sizes = {**layers, "language_width": language_width, "tokens": tokens_per_row}
        if not layers or min(sizes.values()) < 1:
            raise ValueError(f"a prefix network needs at least one layer and positive sizes, not {sizes}.")
        self.layers = dict(layers)
        self.language_width = language_width
        self.tokens_per_row = tokens_per_row

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that build the network again, as plain values."""

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of frozen models that the network uses; empty for most."""
        return ()

    @abstractmethod
    def forward(self, tokens: Mapping[str, Float[Tensor, "R _ _"]]) -> Float[Tensor, "R P E"]:
        """Map each layer's tokens, (R, S, D) by layer name, to prefixes (R, P, E)."""

    @property
    def adaptable(self) -> Translator | None:
        """The translator that it uses and whose feature statistics can be replaced; None for most."""
        return None

    def set_moments(self, layer: str, mean: Float[Tensor, "D"], std: Float[Tensor, "D"]) -> None:
        """Set the mean and standard deviation by which a layer's features are standardised, if they are."""
        raise TypeError(f"{type(self).__name__} does not standardise its features.")

    def judged(self, rows: Rows, texts: Sequence[str]) -> list[tuple[str, float]] | None:
        """Estimate the probability of each row's decoded text, and replace a text by a more probable one.

        Returns:
            One (text, probability) per row; None if the network has no estimate.
        """
        return None

    def evidence(self, rows: Rows, texts: Sequence[str]) -> Float[Tensor, "R T"]:
        """Compute the network's own score of each text on each row, in nats; differentiable in the rows.

        Called only if `evidence_weight` is not 0.
        """
        raise NotImplementedError(f"{type(self).__name__} states an evidence_weight and gives no evidence.")

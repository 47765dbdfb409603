"""The one abstract class: a translator turns features into words and scores words on features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from torchnle.description import Description
from torchnle.features import Features


class Translator(nn.Module, ABC):
    """Turns features into words (`describe`) and scores given words on features (`score`).

    Rows: every token of every `Features` is one row. Several `Features` are read one after another
    (rows: layer by layer, image by image, location by location), or, with ``joint=True``, together: they
    must then agree in batch and locations, and one row holds all layers' tokens of one location.
    """

    #: What `score` returns: log-probabilities in nats, or cosines.
    score_kind: ClassVar[Literal["log_prob", "cosine"]]

    @abstractmethod
    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Put every row into words; one `Description` a row, in row order."""

    @abstractmethod
    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Score every text on every row, raw, in float32; differentiable in the features."""

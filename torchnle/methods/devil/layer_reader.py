"""One layer's part of a map from text into features, frozen: from features to probabilities of phrases."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.methods.aligned.probability.candidates import Candidates
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.translators.config_values import Count, Size


class FrozenMap(TextMap):
    """A map that reads features and carries no further texts: it keeps a third of the numbers.

    Args:
        width: As `TextMap`'s.
        classes: As `TextMap`'s.
        nulls: As `TextMap`'s.
        whitened: As `TextMap`'s.

    Example:
        >>> FrozenMap.of(TextMap(8, 4, phrases=3, classes=2)).targets.shape
        torch.Size([2, 8])
    """

    def __init__(self, width: Size, *, classes: Count = 0, nulls: Count = 0, whitened: bool = False) -> None:
        super().__init__(width, 1, classes=classes, nulls=nulls, whitened=whitened)
        self.regression = KernelRidge(0, 1, width)
        self.texts = self.texts[:, :0]

    @classmethod
    def of(cls, fitted: TextMap) -> FrozenMap:
        """Copy from a map what reads features."""
        sizes = {
            name: value for name, value in fitted.config.items() if name in ("classes", "nulls", "whitened")
        }
        found = cls(fitted.width, **sizes)
        given = {**fitted.state_dict(), "targets": fitted.targets[fitted.phrases :]}
        own = found.state_dict()
        for name, tensor in own.items():
            if name != "texts" and not name.startswith("regression."):
                tensor.copy_(given[name])
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "width": self.width,
            "classes": self.classes,
            "nulls": len(self.nulls),
            "whitened": self.matrix is not None,
        }

    def directions(self, vectors: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Refuse texts.

        Raises:
            ValueError: Always.
        """
        raise ValueError("this map carries no texts any more; use the MapTranslator that it was taken from.")


class LayerReader(nn.Module):
    """Reads features of one layer as probabilities of a vocabulary's phrases, always in float32.

    Rows are brought to the mean norm of pooled features, whatever they are a mean of: training's location
    dropout draws everything between a single location and all, and a row does not say which it is.
    On 300 composed scenes the first phrase of a pooled feature of EfficientNet-Lite0 is right as often:
    0.737 and 0.737 in the last layer, 0.100 and 0.103 at 14x14. The probabilities move by 0.011 and 0.094
    (total variation).

    Args:
        fitted: The map, empty or taken from another (`FrozenMap.of`).
        phrases: The number P of phrases.
    """

    place: Tensor
    known: Tensor
    classes: Tensor

    def __init__(self, fitted: FrozenMap, phrases: int) -> None:
        super().__init__()
        self.map = fitted
        self.register_buffer("place", torch.zeros(phrases, fitted.width))
        self.register_buffer("known", torch.zeros(phrases, dtype=torch.bool))
        self.register_buffer("classes", torch.zeros(fitted.classes, dtype=torch.long))

    def take(self, fitted: TextMap, candidates: Candidates) -> None:
        """Take over a map, and where the phrases lie in it."""
        self.map, self._kept = FrozenMap.of(fitted), None
        self.place.copy_(candidates.directions)
        self.known.copy_(candidates.fitted)
        self.classes.copy_(candidates.classes)

    def forward(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R P"]:
        """Estimate how likely each phrase is; differentiable."""
        fitted, candidates = self._in_float32
        return posterior(fitted, rows, candidates, local=True)[0]

    _kept: tuple[TextMap, Candidates] | None = None

    @property
    def _in_float32(self) -> tuple[TextMap, Candidates]:
        """The same, widened once where it is stored in a narrower dtype."""
        if self._kept is None:
            with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
                wide = self.place.dtype == torch.float32
                fitted: TextMap = self.map if wide else copy.deepcopy(self.map).float()
                self._kept = fitted, Candidates(self.place.float(), self.known, self.classes)
        return self._kept

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to` comes down to."""
        self._kept = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *loaded: Any) -> None:
        self._kept = None
        super()._load_from_state_dict(*loaded)

"""The probing record of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.dissect.probing.streams import Streams

#: An activation this near to a unit's least one, as a share of its range, is none.
_SILENT = 1e-6


@dataclass(frozen=True)
class LayerRecord:
    """The exemplars and statistics of one layer's units over a probing set.

    Args:
        layer: The layer's name.
        streams: Its statistics.
        texts: The texts whose scores were joined with activations; none.
    """

    layer: str
    streams: Streams
    texts: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """The number U of units."""
        return self.streams.units

    @property
    def images(self) -> Int[Tensor, "U k"]:
        """The numbers of each unit's exemplars, the most active first."""
        return self.streams.top.images

    @property
    def values(self) -> Float[Tensor, "U k"]:
        """The activations of each unit's exemplars."""
        return self.streams.top.values

    @property
    def more_images(self) -> Int[Tensor, "U w"]:
        """The numbers of more of each unit's most active images; -1 behind the last."""
        return self.streams.more.images

    @property
    def active(self) -> Bool[Tensor, "U k"]:
        """The mask of exemplars that excite their unit at all: rarely active units have fewer than k."""
        low, high = self.streams.low[:, None], self.streams.high[:, None]
        return (self.values > low + _SILENT * (high - low)) & (self.images >= 0)

    @property
    def maps(self) -> Float[Tensor, "U k L"]:
        """Each exemplar's activation map, its locations row by row."""
        return self.streams.top.details["maps"]

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the maps."""
        return self.streams.grid

    @property
    def evidence(self) -> Float[Tensor, "U k E"] | None:
        """Each exemplar's feature in the evidence layer, the mean where its map is above Otsu's threshold."""
        return self.streams.top.details.get("evidence")

    @property
    def activations(self) -> Float[Tensor, "N U"]:
        """Every image's activations, where the table was kept."""
        return self.streams.rows["activations"]

    @property
    def vectors(self) -> Float[Tensor, "N E"]:
        """Every image's pooled evidence feature, where the table was kept."""
        return self.streams.rows["vectors"]

    @property
    def read(self) -> Int[Tensor, "N"]:
        """The numbers of the images of `activations` and `vectors`."""
        return self.streams.rows.images

    @property
    def dead(self) -> Bool[Tensor, "U"]:
        """The units that never became active: nowhere above zero, or the same at every location."""
        return (self.streams.high <= 0) | (self.streams.high == self.streams.low)

    @property
    def moments(self) -> tuple[Float[Tensor, "U"], Float[Tensor, "U"]]:
        """The mean and the standard deviation of each unit's activation over images."""
        total = self.streams.sums.total()
        mean = total["a"] / total["count"]
        variance = (total["aa"] / total["count"] - mean.square()).clamp_min(0)
        return mean.float(), variance.sqrt().float()

    def quantile(self, q: float) -> Float[Tensor, "U"]:
        """Estimate a quantile of every unit's local activations (`LocationSample.quantile`)."""
        return self.streams.locations.quantile(q)

    def correlations(self) -> Float[Tensor, "U T"]:
        """Compute Pearson's correlation, over all images, of every unit's activation with every text's score.

        0 where either does not vary.

        Raises:
            ValueError: If no texts were scored while probing.
        """
        total = self._total("as", "no text was scored while probing; pass EvidenceLayer(scores=...).")
        n = total["count"]
        covariance = total["as"] - torch.outer(total["a"], total["s"]) / n
        return _correlations(covariance, self._spread, (total["ss"] - total["s"].square() / n).clamp_min(0))

    def linear_correlations(self, weights: Float[Tensor, "T E"]) -> Float[Tensor, "U T"]:
        """Compute units' correlations with texts whose scores are linear in the pooled evidence feature.

        Exact, from the features' second moments, without running the model again.

        Args:
            weights: Each text's score is the product of its weights with the feature, plus any constant.

        Raises:
            ValueError: If no evidence layer was read while probing.
        """
        total = self._total("av", "no evidence layer was read while probing; pass evidence=.")
        weights = weights.double()
        covariance = (total["av"] - torch.outer(total["a"], total["v"]) / total["count"]) @ weights.T
        spread = ((weights @ self.feature_scatter) * weights).sum(dim=1).clamp_min(0)
        return _correlations(covariance, self._spread, spread)

    @cached_property
    def feature_scatter(self) -> Float[Tensor, "E E"]:
        """The scatter matrix of the pooled evidence features: their covariance times the number of images."""
        total = self._total("vv", "no evidence layer was read while probing; pass evidence=.")
        return total["vv"] - torch.outer(total["v"], total["v"]) / total["count"]

    @cached_property
    def feature_products(self) -> Float[Tensor, "U E"]:
        """The scatter of every unit's activation with the pooled evidence features."""
        total = self._total("av", "no evidence layer was read while probing; pass evidence=.")
        return total["av"] - torch.outer(total["a"], total["v"]) / total["count"]

    @property
    def mean_feature(self) -> Float[Tensor, "E"]:
        """The mean pooled evidence feature."""
        total = self._total("v", "no evidence layer was read while probing; pass evidence=.")
        return (total["v"] / total["count"]).float()

    @cached_property
    def _spread(self) -> Float[Tensor, "U"]:
        total = self.streams.sums.total()
        spread = total["aa"] - total["a"].square() / total["count"]
        return torch.where(spread > 1e-12 * total["aa"], spread, 0.0)

    def _total(self, name: str, message: str) -> dict[str, Tensor]:
        total = self.streams.sums.total()
        if name not in total:
            raise ValueError(message)
        return total


def _correlations(
    covariance: Float[Tensor, "U T"], first: Float[Tensor, "U"], second: Float[Tensor, "T"]
) -> Float[Tensor, "U T"]:
    scale = torch.outer(first, second).sqrt()
    return torch.where(scale > 0, covariance / scale.clamp_min(1e-300), 0.0).clamp(-1, 1).float()

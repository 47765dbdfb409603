"""Expected activations: predict how much a text's presence changes a unit, without an image of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.words import map_name

#: Of the readout's ridge regression, as a share of the mean variance; measured with `dissect-units`.
_PENALTY = 1.0


@dataclass(frozen=True)
class ExpectedActivations:
    """Predicts units' activations for texts: a map from text to features, then a linear readout of the units.

    The map gives the direction in which a text changes the whitened features; the inverse of the whitening
    converts it to a change of the features. A linear readout, regressed on the probing set, converts that to
    a change of a unit, in standard deviations of its activation.

    Args:
        translator: The map from text into features.
        layer: The evidence layer's name.
        readout: The regression coefficients of the units on the features, (E, U).

    Example:
        >>> expected = ExpectedActivations.of_channels(translator, "layer", torch.ones(6))  # doctest: +SKIP
    """

    translator: MapTranslator
    layer: str
    readout: Float[Tensor, "E U"]

    @classmethod
    def of_channels(
        cls, translator: MapTranslator, layer: str, deviations: Float[Tensor, "D"]
    ) -> ExpectedActivations:
        """Build the prediction for the evidence layer's own channels, without a regression.

        Args:
            translator: The map.
            layer: The layer that both words and units are read in.
            deviations: The standard deviation of each channel's activation over images.
        """
        return cls(translator, layer, torch.diag(1 / deviations.clamp_min(1e-12)))

    @classmethod
    def fitted(cls, translator: MapTranslator, layer: str, record: LayerRecord) -> ExpectedActivations:
        """Regress a layer's units on the evidence features of the probing set (ridge).

        Raises:
            ValueError: If no evidence layer was read while probing.
        """
        deviations = record.moments[1]
        return cls(translator, layer, readout(record.feature_scatter, record.feature_products, deviations))

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "T U"]:
        """Estimate by how many standard deviations each text's presence moves each unit, up to one factor."""
        name = map_name(self.translator, self.layer)
        directions = self.translator.directions(name, texts).cpu()
        matrix = self.translator.by_layer[name].matrix
        shifts = directions if matrix is None else torch.linalg.solve(matrix.cpu(), directions.T).T
        found: Tensor = shifts @ self.readout
        return found


def readout(
    scatter: Float[Tensor, "E E"], products: Float[Tensor, "U E"], deviations: Float[Tensor, "U"]
) -> Float[Tensor, "E U"]:
    """Regress standardised activations on features by ridge regression, from their second moments.

    Args:
        scatter: The scatter matrix of the features, about their mean.
        products: The scatter of each unit's activation with the features, about their means.
        deviations: The standard deviation of each unit's activation.

    Example:
        >>> readout(torch.eye(2), torch.tensor([[0.0, 6.0]]), torch.tensor([3.0]))
        tensor([[0.],
                [1.]])
    """
    penalty = _PENALTY * scatter.diagonal().mean()
    matrix = scatter.double() + penalty * torch.eye(len(scatter), dtype=torch.double)
    solved: Tensor = torch.linalg.solve(matrix, products.double().T)
    return (solved / deviations.double().clamp_min(1e-12)).float()

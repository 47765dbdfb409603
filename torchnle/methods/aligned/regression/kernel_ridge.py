"""Regress text embeddings to directions of features by kernel ridge regression, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from torchnle.translators.config_values import Size

#: How many times the kernel's exponent counts the median squared distance between the texts.
SCALE = 5.0
#: The regularisers that leave-one-out chooses from.
PENALTIES = (0.02, 0.2, 0.5, 1.0, 2.0)


class KernelRidge(nn.Module):
    """Maps unit text vectors to the feature space by kernel ridge regression with a Gaussian kernel.

    ``prediction(s) = sum_i exp(-scale * |s - s_i|^2 / median) a_i``, where the s_i are the texts that were
    fitted and `median` is the median of their squared distances, so that one scale suits sentence encoders
    whose embeddings spread differently.

    Args:
        examples: The number of texts C that are fitted.
        text_width: The width k of a text vector.
        width: The width D of the targets.

    Example:
        >>> texts = torch.eye(3)
        >>> regression = KernelRidge.fit(texts, torch.tensor([[1.0], [2.0], [3.0]]), penalties=[1e-6])
        >>> regression(texts).flatten().round(decimals=4).tolist()
        [1.0, 2.0, 3.0]
    """

    texts: Tensor
    coefficients: Tensor
    median: Tensor
    scale: Tensor
    penalty: Tensor

    def __init__(self, examples: Size, text_width: Size, width: Size) -> None:
        super().__init__()
        self.register_buffer("texts", torch.zeros(examples, text_width))
        self.register_buffer("coefficients", torch.zeros(examples, width))
        self.register_buffer("median", torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("penalty", torch.zeros(()))

    @classmethod
    def fit(
        cls,
        texts: Float[Tensor, "C k"],
        targets: Float[Tensor, "C D"],
        *,
        scale: float = SCALE,
        penalties: Sequence[float] = PENALTIES,
    ) -> KernelRidge:
        """Solve for the coefficients in float64, on the device of `texts`.

        Args:
            texts: Unit text vectors; duplicates are allowed and share one prediction.
            targets: The vector that each text is mapped to.
            scale: The inverse width of the kernel.
            penalties: The ridge penalties to choose from, by the leave-one-out squared error.
        """
        squared = _squared_distances(texts.double(), texts.double())
        median = _median_of_pairs(squared)
        coefficients, penalty = _solve(torch.exp(-scale * squared / median), targets.double(), penalties)
        fitted = cls(len(texts), texts.shape[1], targets.shape[1]).to(texts.device)
        fitted.texts.copy_(texts)
        fitted.coefficients.copy_(coefficients)
        fitted.median.copy_(median)
        fitted.scale.fill_(scale)
        fitted.penalty.fill_(penalty)
        return fitted

    def left_out(self, folds: Int[Tensor, "N"] | None = None) -> Float[Tensor, "N D"]:
        """Predict each fitted text by the fit without it, or without its fold, in closed form.

        With G the inverse of ``K + penalty I`` the predictions of a fold f are ``y_f - (G_ff)^-1 a_f``, where
        ``y = (K + penalty I) a`` are the targets of the fit. A text that was given more than once is
        predicted by its copies in other folds.

        Args:
            folds: The fold of each of the first N texts; None = every text is a fold of its own.
        """
        kernel = torch.exp(-self.scale * _squared_distances(self.texts, self.texts) / self.median).double()
        inverse = torch.linalg.inv(kernel + self.penalty * torch.eye(len(kernel)).to(kernel))
        predicted: Tensor = self(self.texts) + self.penalty * self.coefficients
        if folds is None:
            alone: Tensor = predicted - self.coefficients / inverse.diagonal().to(predicted)[:, None]
            return alone
        for fold in torch.unique(folds):
            rows = (folds == fold).nonzero().flatten()
            own = self.coefficients[rows].to(inverse)
            predicted[rows] -= torch.linalg.solve(inverse[rows][:, rows], own).to(predicted)
        return predicted[: len(folds)]

    @property
    def config(self) -> dict[str, int]:
        """The arguments that build one of the same sizes."""
        examples, text_width = self.texts.shape
        return {"examples": examples, "text_width": text_width, "width": self.coefficients.shape[1]}

    def forward(self, texts: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Map text vectors; a prediction is the shorter, the further the text is from those fitted."""
        squared = _squared_distances(texts, self.texts)
        return torch.exp(-self.scale * squared / self.median) @ self.coefficients


def _squared_distances(a: Float[Tensor, "A k"], b: Float[Tensor, "B k"]) -> Float[Tensor, "A B"]:
    """Between unit vectors."""
    return (2 - 2 * a @ b.T).clamp_min(0)


def _median_of_pairs(squared: Float[Tensor, "C C"]) -> Float[Tensor, ""]:
    """The median over all pairs of different texts; one where all texts are the same."""
    above = torch.ones_like(squared, dtype=torch.bool).triu(diagonal=1)
    pairs = squared[above]
    pairs = pairs[pairs > 0]
    return pairs.median() if pairs.numel() else squared.new_ones(())


def _solve(
    kernel: Float[Tensor, "C C"], targets: Float[Tensor, "C D"], penalties: Sequence[float]
) -> tuple[Float[Tensor, "C D"], float]:
    """Compute the coefficients under the best regulariser, and that; all share one eigendecomposition.

    With ``A = (K + penalty I)^-1``, the residual of text i in a fit without it is ``(A Y)_i / A_ii``.
    """
    values, vectors = torch.linalg.eigh(kernel)
    rotated, squares = vectors.T @ targets, vectors.square()
    best, chosen, lowest = targets, 0.0, float("inf")
    for penalty in penalties:
        inverse = 1 / (values.clamp_min(0) + penalty)
        coefficients = vectors @ (inverse.unsqueeze(1) * rotated)
        error = (coefficients / (squares @ inverse).unsqueeze(1)).square().sum().item()
        if error < lowest:
            best, chosen, lowest = coefficients, penalty, error
    return best, chosen

"""From a classifier's features to text space through its classes: what it answers, as a mixture of names."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.config_values import Positive, Size


class ClassMixture(nn.Module):
    """The class names' sentence embeddings, averaged with the probabilities that the head gives the classes.

    This is ConSE's convex combination (Norouzi et al., 2014) with all classes: nothing is fitted and no image
    is needed. Two breeds that share the probability meet at "a cat".

    Args:
        in_width: The number of channels D that the head reads.
        out_width: The width k of the text space.
        classes: The number C of classes.
        temperature: What the head's answers are divided by before the softmax.

    Example:
        >>> mixture = ClassMixture.of(torch.eye(2), None, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> mixture(torch.tensor([[9.0, 0.0]])).round(decimals=2).tolist()
        [[1.0, 0.0]]
    """

    weight: Tensor
    bias: Tensor
    vectors: Tensor

    def __init__(self, in_width: Size, out_width: Size, classes: Size, temperature: Positive = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, in_width))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("vectors", torch.zeros(classes, out_width))
        self.temperature = temperature

    @classmethod
    def of(
        cls,
        weight: Float[Tensor, "C D"],
        bias: Float[Tensor, "C"] | None,
        vectors: Float[Tensor, "C k"],
        temperature: float = 1.0,
    ) -> ClassMixture:
        """Take a head's weight and bias, and the embeddings of the class names.

        Raises:
            ValueError: If the temperature is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}; pass a positive number.")
        mixture = cls(weight.shape[1], vectors.shape[1], len(weight), temperature)
        mixture.weight.copy_(weight.detach())
        mixture.vectors.copy_(vectors)
        if bias is not None:
            mixture.bias.copy_(bias.detach())
        return mixture

    @property
    def center(self) -> Float[Tensor, "k"]:
        """The mean of the class names' embeddings: what a feature without any answer is mapped to."""
        return self.vectors.mean(dim=0)

    @property
    def config(self) -> dict[str, float]:
        """What the constructor takes, but for the width of the text space."""
        classes, in_width = self.weight.shape
        return {"in_width": in_width, "classes": classes, "temperature": self.temperature}

    def forward(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows k"]:
        """Map features that the head could read."""
        answers = nn.functional.linear(features.to(self.weight.dtype), self.weight, self.bias)
        mixed: Tensor = (answers / self.temperature).softmax(dim=-1) @ self.vectors
        return mixed

"""ICIS, image-free classifier injection (Christensen et al., 2023), as a baseline of held-out naming.

Two encoder-decoders, of texts and of class weights, share a latent space: weights are predicted from texts,
and each side reconstructs itself and the other, by cosine losses. The sizes, the number of steps and their
length are ours, and were not tuned.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPOCHS = 200
_HIDDEN = 2048


class Icis(nn.Module):
    """The text side of ICIS: from a sentence embedding over the shared space to class weights.

    Args:
        text_width: The width k of a sentence embedding.
        width: The width D of a class vector.

    Example:
        >>> Icis(8, 5)(torch.randn(3, 8)).shape
        torch.Size([3, 5])
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.encode_text, self.decode_text = _half(text_width, _HIDDEN), _half(_HIDDEN, text_width)
        self.encode_class, self.decode_class = _half(width, _HIDDEN), _half(_HIDDEN, width)

    def forward(self, texts: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Predict class vectors; only the direction of the result means something."""
        found: Tensor = self.decode_class(self.encode_text(texts))
        return found

    def loss(self, texts: Float[Tensor, "C k"], targets: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
        """Sum the four cosine losses: both sides onto themselves, and each onto the other."""
        text, known = self.encode_text(texts), self.encode_class(targets)
        pairs = [
            (self.decode_class(text), targets),
            (self.decode_class(known), targets),
            (self.decode_text(text), texts),
            (self.decode_text(known), texts),
        ]
        losses = [1 - F.cosine_similarity(given, wanted, dim=1).mean() for given, wanted in pairs]
        return torch.stack(losses).sum()

    @classmethod
    def fit(
        cls,
        texts: Float[Tensor, "C k"],
        targets: Float[Tensor, "C D"],
        *,
        epochs: int = EPOCHS,
        learning_rate: float = 1e-4,
        seed: int = 0,
    ) -> Icis:
        """Train by full-batch Adam; the global random state is left as it was."""
        with torch.random.fork_rng([]), torch.enable_grad():
            torch.manual_seed(seed)
            model = cls(texts.shape[1], targets.shape[1])
            optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
            for _ in range(epochs):
                optimizer.zero_grad()
                model.loss(texts, targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return model.requires_grad_(False).eval()


def _half(given: int, wanted: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(given, wanted), nn.ReLU(), nn.Linear(wanted, wanted))

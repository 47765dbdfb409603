"""Regress text embeddings to classifier weights by the paper's MLP (Zero-shot NLE, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.config_values import Size

#: Steps of training, chosen on validation splits (seeds 100 to 102) of the embedded default, where 100 unseen
#: classes are named: top-1 0.573, top-5 0.837; 30 steps 0.573 and 0.830, 100 steps at a lower rate 0.567 and
#: 0.840, 30 without the gate 0.550 and 0.817. The paper's 2,500 are for CLIP's texts.
EPOCHS = 60
_DROP_CHANCE = 0.3
_DROP_RATE = 0.5
#: Predicted and wanted vectors, (C, D) each -> a number.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class ClassEmbeddingMLP(nn.Module):
    """The regression of Zero-shot NLE (sections 3.1, I and N).

    Two linear layers, each followed by layer normalisation; GELU and dropout 0.5 after the first; while
    training, half of the inputs are dropped from 30 % of the texts. With soft dropout the sizes are
    k -> 2k -> 2D, and a gated linear unit, normalised again, halves the output to D: it learns which
    components to scale down. Without, they are k -> 4D -> D.

    Args:
        text_width: The width k of a text vector.
        width: The width D of the classifier space.
        soft_dropout: Whether the gate is used; it helps most classifiers and harms few (table 13).
        input_dropout: Whether inputs are dropped while training.

    Example:
        >>> mlp = ClassEmbeddingMLP(text_width=8, width=5)
        >>> mlp(torch.randn(3, 8)).shape, mlp.first.out_features, mlp.second.out_features
        (torch.Size([3, 5]), 16, 10)
    """

    def __init__(
        self, text_width: Size, width: Size, *, soft_dropout: bool = True, input_dropout: bool = True
    ) -> None:
        super().__init__()
        hidden, out = (2 * text_width, 2 * width) if soft_dropout else (4 * width, width)
        self.config = {"text_width": text_width, "width": width, "soft_dropout": soft_dropout}
        self.soft_dropout, self.input_dropout = soft_dropout, input_dropout
        self.first = nn.Linear(text_width, hidden)
        self.first_norm = nn.LayerNorm(hidden)
        self.second = nn.Linear(hidden, out)
        self.second_norm = nn.LayerNorm(out)
        self.gate_norm = nn.LayerNorm(width) if soft_dropout else nn.Identity()

    def forward(self, texts: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Map text vectors; only the direction of the output is trained."""
        dropped = _drop_inputs(texts) if self.training and self.input_dropout else texts
        hidden = F.gelu(self.first_norm(self.first(dropped)))
        out: Tensor = self.second_norm(self.second(F.dropout(hidden, 0.5, self.training)))
        gated: Tensor = self.gate_norm(F.glu(out, dim=-1)) if self.soft_dropout else out
        return gated

    @classmethod
    def fit(
        cls,
        texts: Float[Tensor, "C k"],
        targets: Float[Tensor, "C D"],
        *,
        soft_dropout: bool = True,
        input_dropout: bool = True,
        loss: Loss | None = None,
        epochs: int = EPOCHS,
        learning_rate: float = 5e-3,
        seed: int = 0,
    ) -> ClassEmbeddingMLP:
        """Train by full-batch Adam with a cosine schedule on the cosine loss (equation 1).

        A quarter of a minute on a CPU for 1,000 classes. The global random state is left as it was.

        Args:
            texts: Unit text vectors.
            targets: The vectors whose directions are predicted.
            soft_dropout: Whether the gate is used.
            input_dropout: Whether inputs are dropped.
            loss: Of the predicted and the wanted vectors; None = `cosine_loss`.
            epochs: The number of steps; more of them fit the classes' own names, and lose unseen ones.
            learning_rate: Adam's, at the start.
            seed: Decides the initial weights and the dropouts.
        """
        devices = [texts.device] if texts.is_cuda else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(seed)
            sizes = (texts.shape[1], targets.shape[1])
            mlp = cls(*sizes, soft_dropout=soft_dropout, input_dropout=input_dropout).to(texts.device)
            optimizer = torch.optim.Adam(mlp.parameters(), lr=learning_rate, fused=True)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
            for _ in range(epochs):
                optimizer.zero_grad()
                (loss or cosine_loss)(mlp(texts), targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        return mlp.requires_grad_(False).eval()


def cosine_loss(predicted: Float[Tensor, "C D"], targets: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Compute the sum over classes of one minus the cosine (Zero-shot NLE, equation 1).

    Example:
        >>> cosine_loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()
        1.0
    """
    return (1 - F.cosine_similarity(predicted, targets, dim=1)).sum()


def _drop_inputs(texts: Float[Tensor, "T k"]) -> Float[Tensor, "T k"]:
    """Dropout on some texts only: each is hit with probability 0.3, and then half of it is dropped."""
    hit = torch.rand(texts.shape[0], 1, device=texts.device) < _DROP_CHANCE
    return torch.where(hit, F.dropout(texts, _DROP_RATE), texts)

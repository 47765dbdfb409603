"""TExplain's translator network (Taghanaki et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.config_values import Size, Within
from torchnle.translators.prefix_network import PrefixNetwork


class TExplainNetwork(PrefixNetwork):
    """TExplain's translator: a three-layer linear perceptron with batch normalisation.

    Sections 2.2 and 3: an image's P + 1 tokens of width D (577 x 768 for ViT-B/16 at 384) are flattened,
    pass "a three-layered linear MLP with batch normalization" whose output has the same size, and are
    reshaped into the language model's input. Read to the letter, one layer alone would be a matrix of
    443,136 x 443,136 numbers (785 GB in float32). So ``mode="per_token"``, the default, reads 577 x 768 as
    577 inputs of 768: the same perceptron for every token, one prefix vector per token, the batch statistics
    taken over images and tokens. ``mode="flat"`` is the letter, made possible by narrow hidden layers: all
    tokens together become `prefix_length` vectors; with ``tokens=1`` it explains one vector (a class token,
    a pooled feature, one location). The text calls the perceptron linear and names no non-linearity, so
    there is none by default. Where it is silent, batch normalisation follows the first two layers and
    not the output.

    Args:
        layers: The input, one entry: layer name -> width D.
        language_width: The width E of the language model's embeddings.
        tokens: The number of tokens that make one row: an image's, or 1.
        mode: "per_token" or "flat".
        prefix_length: The number of prefix vectors with "flat"; with "per_token" it is `tokens`.
        hidden: The width of the two hidden layers; by default D.
        activation: What follows each batch normalisation: "none", "relu" or "gelu".

    Raises:
        ValueError: If there is not exactly one layer, `mode` and `prefix_length` do not fit together, or the
            first layer would have more than a thousand million weights.

    Example:
        >>> import torch
        >>> network = TExplainNetwork({"encoder": 8}, 6, tokens=5).eval()
        >>> network({"encoder": torch.randn(2, 5, 8)}).shape
        torch.Size([2, 5, 6])
        >>> network = TExplainNetwork({"encoder": 8}, 6, tokens=1, mode="flat", prefix_length=4).eval()
        >>> network({"encoder": torch.randn(2, 1, 8)}).shape
        torch.Size([2, 4, 6])
    """

    def __init__(
        self,
        layers: Mapping[str, Size],
        language_width: Size,
        *,
        tokens: Annotated[int, Within(1, 10_000)] = 577,
        mode: str = "per_token",
        prefix_length: Annotated[int, Within(1, 10_000)] | None = None,
        hidden: Size | None = None,
        activation: str = "none",
    ) -> None:
        super().__init__(layers, language_width, tokens_per_row=tokens)
        self.mode, self.activation = mode, activation
        self.prefix_length = _texplain_prefix_length(len(layers), mode, tokens, prefix_length)
        width = next(iter(layers.values()))
        self.hidden = width if hidden is None else hidden
        if self.hidden < 1:
            raise ValueError(f"hidden={hidden}; pass a positive width.")
        together = 1 if mode == "per_token" else tokens
        _check_size(together * width, self.hidden, mode)
        out = 1 if mode == "per_token" else self.prefix_length
        self.mlp = nn.Sequential(
            *_normalised_linear(together * width, self.hidden, activation),
            *_normalised_linear(self.hidden, self.hidden, activation),
            nn.Linear(self.hidden, out * language_width),
        )

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build the network again, as plain values."""
        return {
            "layers": self.layers,
            "language_width": self.language_width,
            "tokens": self.tokens_per_row,
            "mode": self.mode,
            "prefix_length": self.prefix_length,
            "hidden": self.hidden,
            "activation": self.activation,
        }

    def forward(self, tokens: Mapping[str, Float[Tensor, "R _ _"]]) -> Float[Tensor, "R P E"]:
        """Map the layer's tokens, (R, tokens, D), to prefixes."""
        (x,) = tokens.values()
        flat = x.flatten(0, 1) if self.mode == "per_token" else x.flatten(1)
        prefix: Tensor = self.mlp(flat)
        return prefix.view(x.shape[0], self.prefix_length, self.language_width)


#: More weights in one layer are a mistake: the paper's sizes read to the letter would have 196 thousand
#: million.
_MOST_WEIGHTS = 10**9


def _check_size(width: int, hidden: int, mode: str) -> None:
    if width * hidden > _MOST_WEIGHTS:
        raise ValueError(
            f"mode={mode!r} reads {width} numbers at once into hidden={hidden}: {width * hidden:.1e} "
            f"weights in one "
            "layer. Pass mode='per_token', or a smaller hidden=..."
        )


_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def _normalised_linear(width_in: int, width_out: int, activation: str) -> list[nn.Module]:
    if activation not in ("none", *_ACTIVATIONS):
        raise ValueError(f"activation={activation!r}; pass 'none', 'relu' or 'gelu'.")
    linear = [nn.Linear(width_in, width_out), nn.BatchNorm1d(width_out)]
    return linear if activation == "none" else [*linear, _ACTIVATIONS[activation]()]


def _texplain_prefix_length(layers: int, mode: str, tokens: int, prefix_length: int | None) -> int:
    if layers != 1:
        raise ValueError(f"TExplain reads one layer, not {layers}.")
    if mode == "per_token":
        if prefix_length not in (None, tokens):
            raise ValueError(
                f"mode='per_token' gives one prefix vector a token, {tokens} here, not "
                f"prefix_length={prefix_length}. Leave prefix_length out, or pass mode='flat'."
            )
        return tokens
    if mode != "flat" or prefix_length is None or prefix_length < 1:
        raise ValueError(
            f"mode={mode!r} with prefix_length={prefix_length}; pass 'per_token', or 'flat' with a positive "
            "prefix_length."
        )
    return prefix_length

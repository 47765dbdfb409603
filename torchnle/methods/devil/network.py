"""DeViL's translation network (Dani et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from torchnle.translators.config_values import Count, Size, Within
from torchnle.translators.prefix_network import PrefixNetwork


class DeViLNetwork(PrefixNetwork):
    """DeViL's translation network: a Transformer over layer tokens and learned prefix queries.

    Section 3.1-3.2 and supplement A: every layer's feature vector is projected to one token and gets its
    layer's position embedding; learned queries are appended; the Transformer's outputs at the queries are
    the prefix. A layer that is not given is absent, which is the same as masking its token, since tokens
    interact by attention only.

    Args:
        layers: The inputs: layer name -> width D.
        language_width: The width E of the language model's embeddings.
        prefix_length: The number P of queries, and so of prefix vectors.
        width: The width of the Transformer.
        depth: The number of its layers.
        heads: The number of attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise each channel by the moments from `set_moments`. The paper does not.
        start: Add a learned constant to the prefix, which `set_start` sets to the embeddings of words. The
            paper does not.
        opening_length: The number O of learned vectors before every prefix, the same for all rows, which
            `set_start` sets to the embeddings of words. The paper has none.

    Raises:
        ValueError: If a size is not positive, or the width is no multiple of the heads.

    Example:
        >>> network = DeViLNetwork({"layer3": 4, "layer4": 8}, 6, prefix_length=3, width=8, depth=1, heads=2,
        ...                        feedforward=16)
        >>> network({"layer4": torch.randn(5, 1, 8)}).shape
        torch.Size([5, 3, 6])
    """

    def __init__(
        self,
        layers: Mapping[str, Size],
        language_width: Size,
        *,
        prefix_length: Size = 10,
        width: Size = 768,
        depth: Annotated[int, Within(1, 200)] = 12,
        heads: Size = 12,
        feedforward: Size = 3072,
        standardise: bool = False,
        start: bool = False,
        opening_length: Count = 0,
    ) -> None:
        super().__init__(layers, language_width, tokens_per_row=1)
        self.prefix_length, self.width = prefix_length, width
        self.heads, self.feedforward = heads, feedforward
        self.standardise = standardise
        _check_sizes(prefix_length, width, depth, heads, feedforward)
        self.inputs = nn.ModuleDict(
            {_key(layer): _LayerToken(d, width, standardise) for layer, d in layers.items()}
        )
        self.queries = nn.Parameter(torch.empty(prefix_length, width))
        block = nn.TransformerEncoderLayer(
            width, heads, feedforward, 0.0, "gelu", 1e-12, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.output = nn.Linear(width, language_width)
        self.start = nn.Parameter(torch.zeros(prefix_length, language_width)) if start else None
        self.opening_length = opening_length
        self.opening = nn.Parameter(torch.zeros(opening_length, language_width)) if opening_length else None
        self.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build the network again, as plain values."""
        return {
            "layers": self.layers,
            "language_width": self.language_width,
            "prefix_length": self.prefix_length,
            "width": self.width,
            "depth": len(self.encoder.layers),
            "heads": self.heads,
            "feedforward": self.feedforward,
            "standardise": self.standardise,
            "start": self.start is not None,
            "opening_length": self.opening_length,
        }

    def reset_parameters(self) -> None:
        """Draw the initial weights: queries N(0, 0.1^2), linear N(0, 0.02^2), attention inputs Xavier."""
        nn.init.normal_(self.queries, std=0.1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)  # the encoder's layers start as copies

    @torch.no_grad()
    def set_start(self, words: Float[Tensor, "P E"], opening: Float[Tensor, "O E"] | None = None) -> None:
        """Initialise the prefix at the embeddings of words, and the network's output to their scale.

        Args:
            words: One embedding per vector of the prefix.
            opening: One embedding per vector of the opening; None = there is none.

        Raises:
            ValueError: If the network was built without `start`, or without an opening that is given.
        """
        if self.start is None or (self.opening is None and opening is not None):
            raise ValueError(
                "this network has no such start to set; build it with start=True and its opening_length."
            )
        self.start.copy_(words)
        if self.opening is not None and opening is not None:
            self.opening.copy_(opening)
        nn.init.normal_(self.output.weight, std=float(words.std()) / self.width**0.5)

    @torch.no_grad()
    def set_moments(self, layer: str, mean: Float[Tensor, "D"], std: Float[Tensor, "D"]) -> None:
        """Set the means and standard deviations of a layer's channels; a constant channel is set to zero.

        Raises:
            ValueError: If the network was built without `standardise`.
        """
        if not self.standardise:
            raise ValueError("this network does not standardise; build it with standardise=True.")
        token: _LayerToken = self.inputs[_key(layer)]  # type: ignore[assignment]
        token.mean.copy_(mean)
        token.scale.copy_(torch.where(std > 1e-5 * std.max(), 1 / std, 0.0))

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "R _ _"]],
        keep: Mapping[str, Bool[Tensor, "R _"]] | None = None,
    ) -> Float[Tensor, "R _ E"]:
        """Map layer tokens to prefixes.

        Args:
            tokens: Each layer's tokens, (R, S, D) by layer name; S is 1 in the paper.
            keep: Which tokens are read, (R, S) by layer name, a layer left out is read; at least one token
                must remain in every row (the paper's token dropout, section 3.3).
        """
        read = [self.inputs[_key(layer)](x) for layer, x in tokens.items()]
        count = sum(x.shape[1] for x in read)
        queries = self.queries.expand(read[0].shape[0], -1, -1)
        sequence = torch.cat([*read, queries], dim=1)
        out = self.encoder(sequence, src_key_padding_mask=_padding(tokens, keep, self.prefix_length))
        prefix: Tensor = self.output(self.norm(out[:, count:]))
        prefix = prefix if self.start is None else self.start + prefix
        if self.opening is None:
            return prefix
        return torch.cat([self.opening.expand(len(prefix), -1, -1), prefix], dim=1)


def _check_sizes(prefix_length: int, width: int, depth: int, heads: int, feedforward: int) -> None:
    if min(prefix_length, width, depth, heads, feedforward) < 1 or width % heads:
        raise ValueError(
            f"prefix_length={prefix_length}, width={width}, depth={depth}, heads={heads}, "
            f"feedforward={feedforward}: all must be positive, and the width a multiple of the heads."
        )


class _LayerToken(nn.Module):
    """One layer's way in: a projection, and the position embedding that says which layer it is."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width_in: int, width: int, standardise: bool) -> None:
        super().__init__()
        self.standardise = standardise
        if standardise:
            self.register_buffer("mean", torch.zeros(width_in))
            self.register_buffer("scale", torch.ones(width_in))
        self.projection = nn.Linear(width_in, width)
        self.position = nn.Parameter(torch.empty(width).normal_(std=0.1))

    def forward(self, x: Float[Tensor, "R S D"]) -> Float[Tensor, "R S W"]:
        given = (x - self.mean) * self.scale if self.standardise else x
        token: Tensor = self.projection(given) + self.position
        return token


def _key(layer: str) -> str:
    """A layer's name as a module's name, which may hold no dots."""
    return layer.replace(".", "/")


def _padding(
    tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None, queries: int
) -> Bool[Tensor, "R K"] | None:
    """True where attention must not look: the layer tokens that are not kept, never the queries."""
    if keep is None:
        return None
    masks = [keep.get(layer, torch.ones_like(x[..., 0], dtype=torch.bool)) for layer, x in tokens.items()]
    return nn.functional.pad(~torch.cat(masks, dim=1), (0, queries), value=False)

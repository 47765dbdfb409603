"""Units: the numbers of a layer that are labelled: its channels, or any function of its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.hub.digest import digest_module, digest_tensors


@runtime_checkable
class Units(Protocol):
    """Activations of units from a layer's features.

    A function has no fingerprint of its own; wrap it in `EncodedUnits` to keep results on disk.
    """

    def __call__(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N L U"]:
        """Compute every unit's activation at every location."""
        ...

    @property
    def fingerprint(self) -> str:
        """The identity that distinguishes these units from others of the same layer."""
        ...


@dataclass(frozen=True)
class Channels:
    """A layer's own channels: all of them, or some.

    Args:
        numbers: Which; None = all.

    Example:
        >>> Channels((2, 0))(torch.tensor([[[1.0, 2.0, 3.0]]]))
        tensor([[[3., 1.]]])
    """

    numbers: tuple[int, ...] | None = None

    def __call__(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N L U"]:
        """Pick the channels out."""
        if self.numbers is None:
            return tokens
        if any(not -tokens.shape[2] <= number < tokens.shape[2] for number in self.numbers):
            raise ValueError(
                f"the layer has {tokens.shape[2]} channels; {self.numbers} are not all among them."
            )
        return tokens[..., list(self.numbers)]

    @property
    def fingerprint(self) -> str:
        """The channels' numbers."""
        return f"channels {self.numbers}"


class Directions:
    """Linear units: products of a location's feature with given directions.

    Args:
        matrix: One direction per unit, (U, D): probes, class weights, dictionary elements.
        bias: Added to each unit's product.

    Example:
        >>> Directions(torch.tensor([[1.0, -1.0]]))(torch.tensor([[[3.0, 1.0]]]))
        tensor([[[2.]]])
    """

    def __init__(self, matrix: Float[Tensor, "U D"], bias: Float[Tensor, "U"] | None = None) -> None:
        self.matrix = matrix.detach().float()
        self.bias = torch.zeros(len(matrix)) if bias is None else bias.detach().float()

    def __call__(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N L U"]:
        """Multiply every location's feature with every direction."""
        return tokens.float() @ self.matrix.T.to(tokens.device) + self.bias.to(tokens.device)

    @property
    def fingerprint(self) -> str:
        """A hash of the directions."""
        return f"directions {digest_tensors([self.matrix, self.bias])}"


@dataclass(frozen=True)
class Groups:
    """Sets of channels, each read as one unit.

    Args:
        members: The channels of each group.
        by: "max" or "mean" over a group's channels.

    Example:
        >>> Groups(((0, 1), (2,)))(torch.tensor([[[1.0, 2.0, 3.0]]]))
        tensor([[[2., 3.]]])
    """

    members: tuple[tuple[int, ...], ...]
    by: Literal["max", "mean"] = "max"

    def __call__(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N L U"]:
        """Reduce every group."""
        parts = [tokens[..., list(group)] for group in self.members]
        return torch.stack([p.amax(-1) if self.by == "max" else p.mean(-1) for p in parts], dim=-1)

    @property
    def fingerprint(self) -> str:
        """The groups' members."""
        return f"groups {self.by} {self.members}"


class EncodedUnits:
    """Any function from features to unit activations, such as the encoder of a sparse autoencoder.

    Args:
        encode: Features (N, L, D) into activations (N, L, U).
        key: Distinguishes it from others where results are kept; None = a hash of a module's weights.

    Raises:
        ValueError: If `encode` is no module and has no key.

    Example:
        >>> relu = EncodedUnits(nn.ReLU())
        >>> relu(torch.tensor([[[-1.0, 2.0]]]))
        tensor([[[0., 2.]]])
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], key: str | None = None) -> None:
        if key is None and not isinstance(encode, nn.Module):
            raise ValueError("a function has no weights to be told apart by; pass key=, a name of your own.")
        self.encode, self._key = encode, key

    def __call__(self, tokens: Float[Tensor, "N L D"]) -> Float[Tensor, "N L U"]:
        """Encode every location's feature.

        Raises:
            ValueError: If the function gives another shape.
        """
        found = self.encode(tokens)
        if found.ndim != 3 or found.shape[:2] != tokens.shape[:2]:
            raise ValueError(
                f"the units' function gave {tuple(found.shape)} for features {tuple(tokens.shape)}; "
                f"{(*tokens.shape[:2], 'units')} are expected."
            )
        return found

    @property
    def fingerprint(self) -> str:
        """The key, or a hash of the module's weights."""
        if self._key is not None:
            return f"latents {self._key}"
        return f"latents {digest_module(self.encode)}"  # type: ignore[arg-type]

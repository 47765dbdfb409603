"""The operators of torchnle_kernels, with a choice of implementation."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import torch
import torchnle_kernels.operators  # noqa: F401  (registers torch.ops.torchnle.*)
from jaxtyping import Float, Int
from torch import Tensor

#: The implementation of an operator: "auto" = the best one for the inputs' device.
Impl: TypeAlias = Literal["auto", "torch", "triton"]


def linear_lse(
    h: Float[Tensor, "R d"],
    weight: Float[Tensor, "V d"],
    bias: Float[Tensor, "V"] | None = None,
    *,
    need_argmax: bool = False,
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"], Int[Tensor, "R"]]:
    """Compute log-sum-exp, maximum and argmax of a frozen linear layer's outputs without storing them all.

    `torchnle_kernels.reference.linear_lse` is the definition. Differentiable in `h` through lse (the backward
    pass recomputes the logits: see `linear_lse_mu`), not through the maximum.

    Args:
        h: Hidden states, (R, d), any floating dtype.
        weight: The layer's weight, (V, d); it must not require a gradient.
        bias: The layer's bias, (V,); -inf bans an output.
        need_argmax: Whether to find the argmax too, the lowest id among equals; else it is -1.
        impl: The implementation.

    Returns:
        lse (R,) and max (R,) in float32 (float64 for float64 inputs), argmax (R,) int64.

    Raises:
        ValueError: If the shapes do not fit, the weight requires a gradient, the bias holds NaN or +inf, or
            `impl` is not available.

    Example:
        >>> h, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
        >>> lse, top, token = linear_lse(h, weight, need_argmax=True)
        >>> round(lse.item(), 4), top.item(), token.item()
        (2.1269, 2.0, 1)
    """
    _check("linear_lse", h, weight, bias)
    return cast(
        "tuple[Tensor, Tensor, Tensor]", torch.ops.torchnle.linear_lse(h, weight, bias, need_argmax, impl)
    )


def linear_lse_mu(
    h: Float[Tensor, "R d"],
    weight: Float[Tensor, "V d"],
    bias: Float[Tensor, "V"] | None = None,
    *,
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R d"]]:
    """Compute log-sum-exp of a frozen linear layer's outputs together with its gradient, in one pass.

    `torchnle_kernels.reference.linear_lse_mu` is the definition. Use it if a backward pass follows: it stores
    mu (R, d) and multiplies, while `linear_lse` recomputes the logits.

    Args:
        h: Hidden states, (R, d), any floating dtype.
        weight: The layer's weight, (V, d); it must not require a gradient.
        bias: The layer's bias, (V,).
        impl: The implementation.

    Returns:
        lse (R,), differentiable in `h`, and mu (R, d), not differentiable; in float32 (float64 for
        float64 inputs).

    Raises:
        ValueError: If the shapes do not fit, the weight requires a gradient, the bias holds NaN or +inf, or
            `impl` is not available.

    Example:
        >>> h = torch.zeros(1, 2, requires_grad=True)
        >>> lse, mu = linear_lse_mu(h, torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        >>> lse.sum().backward()
        >>> h.grad.tolist() == mu.tolist()
        True
    """
    _check("linear_lse_mu", h, weight, bias)
    return cast("tuple[Tensor, Tensor]", torch.ops.torchnle.linear_lse_mu(h, weight, bias, impl))


def short_decode_attention(
    q: Float[Tensor, "B Hq dh"],
    k: Float[Tensor, "N Hkv Lmax dh"],
    v: Float[Tensor, "N Hkv Lmax dh"],
    lengths: Int[Tensor, "B"],
    rows: Int[Tensor, "B"] | None = None,
    *,
    impl: Impl = "auto",
) -> Float[Tensor, "B Hq dh"]:
    """Compute attention of one new token per row over that row's first keys, with grouped heads.

    `torchnle_kernels.reference.short_decode_attention` is the definition. Forward only: train through
    torch.nn.functional.scaled_dot_product_attention.

    Args:
        q: Queries of the new tokens, (B, Hq, dh).
        k: Cached keys, (N, Hkv, Lmax, dh); Hkv divides Hq.
        v: Cached values, of the same shape.
        lengths: How many keys each row sees, (B,), from 1 to Lmax <= 64.
        rows: The row of `k` and `v` that belongs to each query, (B,); None = 0, 1, ..., B - 1.
        impl: The implementation.

    Raises:
        ValueError: If the heads do not group, Lmax exceeds 64, a length on the CPU is 0 or above Lmax, or
            `impl` is not available.

    Example:
        >>> q, kv = torch.ones(1, 1, 2), torch.ones(1, 1, 3, 2)
        >>> short_decode_attention(q, kv, kv, torch.tensor([3])).tolist()
        [[[1.0, 1.0]]]
    """
    _check_lengths(lengths, k)
    return cast("Tensor", torch.ops.torchnle.short_decode_attention(q, k, v, lengths, rows, impl))


def _check_lengths(lengths: Tensor, k: Tensor) -> None:
    """Check lengths on the CPU, where it needs no device synchronisation; each row must see a key."""
    if torch.compiler.is_compiling() or lengths.device.type != "cpu" or not lengths.numel() or k.ndim != 4:
        return
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > k.shape[2]:
        raise ValueError(
            f"lengths are from {least} to {most}; each must be from 1 to {k.shape[2]}, the keys' number."
        )


def _check(name: str, h: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        raise ValueError(
            f"{name} is for a frozen layer, but its weight or bias requires a gradient. Call "
            "requires_grad_(False) on them, or use torch.nn.functional.cross_entropy to train the layer."
        )
    checkable = bias is not None and not torch.compiler.is_compiling() and not bias.is_meta
    if checkable and not bool((cast("Tensor", bias) < float("inf")).all()):  # NaN is no less
        raise ValueError(f"the bias of {name} holds NaN or +inf; -inf bans an output, and others are finite.")

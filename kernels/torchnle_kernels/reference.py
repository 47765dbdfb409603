"""Every operator in plain PyTorch: the definitions, written for clarity and not for speed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of accumulated statistics: float64 for float64 inputs, float32 for all others.

    Example:
        >>> accumulator(torch.bfloat16)
        torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def linear_lse(
    h: Float[Tensor, "R d"],
    weight: Float[Tensor, "V d"],
    bias: Float[Tensor, "V"] | None = None,
    *,
    need_argmax: bool = False,
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"], Int[Tensor, "R"]]:
    """Compute log-sum-exp, maximum and argmax over the outputs of a linear layer, row by row.

    With logits ``z = h @ weight.T + bias`` in float32 (products of the inputs as they are, sums in
    float32; float64 for float64 inputs): ``lse_r = log sum_v exp z_rv``. Then
    ``log p(t | r) = h_r . weight_t + bias_t - lse_r`` for any token t.

    Args:
        h: Hidden states, (R, d), any floating dtype.
        weight: The layer's weight, (V, d), any floating dtype.
        bias: The layer's bias, (V,); -inf bans an output.
        need_argmax: Whether to find the argmax too.

    Returns:
        lse (R,), max (R,), both float32, and argmax (R,) int64: the lowest id among equals; -1 where
        it was not requested. A NaN in a row of `h` makes that row's lse and max NaN, and no other's.

    Example:
        >>> lse, top, index = linear_lse(torch.zeros(1, 3), torch.ones(4, 3), need_argmax=True)
        >>> lse.exp().round().tolist(), top.tolist(), index.tolist()
        ([4.0], [0.0], [0])
    """
    logits = _logits(h, weight, bias)
    top = logits.amax(dim=1)
    index = logits.argmax(dim=1) if need_argmax else top.new_full(top.shape, -1, dtype=torch.int64)
    return logits.logsumexp(dim=1), top, index


def linear_lse_mu(
    h: Float[Tensor, "R d"], weight: Float[Tensor, "V d"], bias: Float[Tensor, "V"] | None = None
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R d"]]:
    """Compute log-sum-exp over the outputs of a linear layer, and its gradient with respect to `h`.

    ``mu_r = sum_v softmax(z_r)_v weight_v`` is the mean of the weight's rows under the distribution of
    row r, and ``d lse_r / d h_r = mu_r``: a frozen head needs nothing else for its backward pass.

    Args:
        h: Hidden states, (R, d), any floating dtype.
        weight: The layer's weight, (V, d), any floating dtype.
        bias: The layer's bias, (V,).

    Returns:
        lse (R,) and mu (R, d), both float32 (float64 for float64 inputs).

    Example:
        >>> lse, mu = linear_lse_mu(torch.zeros(1, 2), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        >>> mu.tolist()
        [[2.0, 2.0]]
    """
    logits = _logits(h, weight, bias)
    return logits.logsumexp(dim=1), logits.softmax(dim=1) @ weight.to(logits.dtype)


def short_decode_attention(
    q: Float[Tensor, "B Hq dh"],
    k: Float[Tensor, "N Hkv Lmax dh"],
    v: Float[Tensor, "N Hkv Lmax dh"],
    lengths: Int[Tensor, "B"],
    rows: Int[Tensor, "B"] | None = None,
) -> Float[Tensor, "B Hq dh"]:
    """Compute attention of one new token a row over that row's first `lengths` keys, with grouped heads.

    ``o_bh = softmax(q_bh . k_n,g,:length / sqrt(dh)) v_n,g,:length`` with ``n = rows[b]`` and key head
    ``g = h // (Hq / Hkv)``; the softmax is computed in float32 (float64 for float64 inputs).

    Args:
        q: Queries of the new tokens, (B, Hq, dh).
        k: Cached keys, (N, Hkv, Lmax, dh); Hkv divides Hq.
        v: Cached values, of the same shape.
        lengths: How many keys each row sees, (B,), from 1 to Lmax; later keys are never read.
        rows: The row of `k` and `v` that belongs to each query, (B,); None = 0, 1, ..., B - 1.

    Returns:
        The attended values in the dtype of `q`, (B, Hq, dh).

    Example:
        >>> k = torch.zeros(1, 1, 3, 2)
        >>> v = torch.tensor([[[[1.0, 0.0], [3.0, 0.0], [float("nan"), 0.0]]]])
        >>> short_decode_attention(torch.ones(1, 2, 2), k, v, torch.tensor([2])).tolist()
        [[[2.0, 0.0], [2.0, 0.0]]]
    """
    dtype = accumulator(q.dtype)
    taken = slice(None, q.shape[0]) if rows is None else rows
    group = q.shape[1] // k.shape[1]
    keys = k[taken].to(dtype).repeat_interleave(group, dim=1)
    values = v[taken].to(dtype).repeat_interleave(group, dim=1)
    hidden = torch.arange(k.shape[2], device=q.device) >= lengths[:, None]
    scores = torch.einsum("bhd,bhld->bhl", q.to(dtype), keys) / math.sqrt(q.shape[2])
    weights = scores.masked_fill(hidden[:, None], float("-inf")).softmax(dim=-1)
    values = values.masked_fill(hidden[:, None, :, None], 0.0)
    return torch.einsum("bhl,bhld->bhd", weights, values).to(q.dtype)


def _logits(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    dtype = accumulator(h.dtype)
    logits = h.to(dtype) @ weight.to(dtype).T
    return logits if bias is None else logits + bias.to(dtype)

"""The operators registered with PyTorch, torch.ops.torchnle.*, each with its fake, gradient and FLOP count.

They are opaque to torch.compile and torch.export, which keep them whole. `torch.library.triton_op` would
expose the Triton kernel to the compiler, but it is then traced on machines without a GPU too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchnle_kernels import blocked, flops, packed
from torchnle_kernels.choice import takes_triton
from torchnle_kernels.reference import accumulator

_library = torch.library.Library("torchnle", "DEF")


def _define(schema: str) -> None:
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))


_define(
    "linear_lse(Tensor h, Tensor weight, Tensor? bias, bool need_argmax, str impl)"
    " -> (Tensor, Tensor, Tensor)"
)
_define("linear_lse_mu(Tensor h, Tensor weight, Tensor? bias, str impl) -> (Tensor, Tensor)")
_define(
    "short_decode_attention(Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor? rows, str impl) -> Tensor"
)


#: The longest cache that `short_decode_attention` takes: one program holds it in registers.
MAX_KEYS = 64


def _check_head(h: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check shapes, since the kernels read memory without bounds checks."""
    fits = h.ndim == weight.ndim == 2 and h.shape[1] == weight.shape[1] and weight.shape[0] > 0
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        given = ", ".join(str(tuple(t.shape)) for t in (h, weight, bias) if t is not None)
        raise ValueError(f"h, weight, bias have shapes {given}; pass (R, d), (V, d) and (V,) or None, V > 0.")


def _check_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: Tensor | None) -> None:
    fits = q.ndim == 3 and k.ndim == 4 and k.shape == v.shape and q.shape[2] == k.shape[3]
    counts = lengths.shape == q.shape[:1] and (rows is None or rows.shape == lengths.shape)
    if not (fits and counts) or (rows is None and k.shape[0] < q.shape[0]):
        given = ", ".join(str(tuple(t.shape)) for t in (q, k, v, lengths))
        raise ValueError(
            f"q, k, v, lengths have shapes {given}; pass (B, Hq, dh), (N, Hkv, Lmax, dh) "
            "twice and (B,); rows is (B,), or None where N is at least B."
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{q.shape[1]} query heads do not group over {k.shape[1]} key heads; the number of query heads "
            "must be a multiple of the number of key heads."
        )
    if k.shape[2] > MAX_KEYS:
        raise ValueError(
            f"the cache holds {k.shape[2]} keys a row; short_decode_attention takes at most {MAX_KEYS}. Pass "
            "a shorter cache, or use torch.nn.functional.scaled_dot_product_attention."
        )


def _linear_lse(
    h: Tensor, weight: Tensor, bias: Tensor | None, need_argmax: bool, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    _check_head(h, weight, bias)
    if takes_triton(impl, h, weight, bias):
        from torchnle_kernels import linear_lse_triton

        with torch.cuda.device(h.device):
            return linear_lse_triton.forward(_stepped(h), _stepped(weight), bias, need_argmax)
    if packed.takes(h, weight, bias):
        return packed.linear_lse(h, weight, need_argmax)
    return blocked.linear_lse(h, weight, bias, need_argmax)


def _linear_lse_mu(h: Tensor, weight: Tensor, bias: Tensor | None, impl: str) -> tuple[Tensor, Tensor]:
    _check_head(h, weight, bias)
    if takes_triton(impl, h, weight, bias):
        from torchnle_kernels import linear_lse_mu_triton

        with torch.cuda.device(h.device):
            return linear_lse_mu_triton.forward(_stepped(h), _stepped(weight), bias)
    if packed.takes(h, weight, bias):
        return packed.linear_lse_mu(h, weight)
    return blocked.linear_lse_mu(h, weight, bias)


def _short_decode_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: Tensor | None, impl: str
) -> Tensor:
    _check_attention(q, k, v, lengths, rows)
    if takes_triton(impl, q, k, v):
        from torchnle_kernels import short_decode_attention_triton

        with torch.cuda.device(q.device):
            return short_decode_attention_triton.forward(_stepped(q), _stepped(k), _stepped(v), lengths, rows)
    return blocked.short_decode_attention(q, k, v, lengths, rows)


def _stepped(tensor: Tensor) -> Tensor:
    """Make the last dimension contiguous, as the kernels assume."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _statistics(h: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], dtype=accumulator(h.dtype))


def _fake_linear_lse(
    h: Tensor, weight: Tensor, bias: Tensor | None, need_argmax: bool, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    _check_head(h, weight, bias)
    return _statistics(h), _statistics(h), h.new_empty(h.shape[0], dtype=torch.int64)


def _fake_linear_lse_mu(h: Tensor, weight: Tensor, bias: Tensor | None, impl: str) -> tuple[Tensor, Tensor]:
    _check_head(h, weight, bias)
    return _statistics(h), h.new_empty(h.shape, dtype=accumulator(h.dtype))


def _fake_short_decode_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: Tensor | None, impl: str
) -> Tensor:
    _check_attention(q, k, v, lengths, rows)
    return q.new_empty(q.shape)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    h, weight, bias, _, ctx.impl = inputs
    ctx.save_for_backward(h, weight, bias)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad_lse: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the logits: only the inputs were saved."""
    h, weight, bias = ctx.saved_tensors
    _refuse_second_derivative()
    _, mu = torch.ops.torchnle.linear_lse_mu(h, weight, bias, ctx.impl)
    return (grad_lse[:, None] * mu).to(h.dtype), None, None, None, None


def _refuse_second_derivative() -> None:
    """Gradients are on in a backward pass only where it is differentiated itself (create_graph=True)."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "linear_lse has no second derivative. Call backward or grad without create_graph=True, or "
            "compute torch.nn.functional.linear(h, weight, bias).logsumexp(1)."
        )


def _save_mu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _backward_mu(ctx: Any, grad_lse: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    _refuse_second_derivative()
    (mu,) = ctx.saved_tensors
    return (grad_lse[:, None] * mu).to(ctx.dtype), None, None, None


def _head_under_autocast(name: str, device: str) -> Any:
    """Cast the input to the dtype in which a frozen head was loaded."""

    def run(h: Tensor, weight: Tensor, *rest: Any) -> Any:
        with torch.autocast(device, enabled=False):
            return getattr(torch.ops.torchnle, name)(h.to(weight.dtype), weight, *rest)

    return run


def _attention_under_autocast(device: str) -> Any:
    """Cast queries, keys and values to the dtype of the cache."""

    def run(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Any:
        with torch.autocast(device, enabled=False):
            return torch.ops.torchnle.short_decode_attention(q.to(k.dtype), k, v, *rest)

    return run


_library.impl("linear_lse", _linear_lse, "CompositeExplicitAutograd")
_library.impl("linear_lse_mu", _linear_lse_mu, "CompositeExplicitAutograd")
_library.impl("short_decode_attention", _short_decode_attention, "CompositeExplicitAutograd")

torch.library.register_fake("torchnle::linear_lse", _fake_linear_lse, lib=_library)
torch.library.register_fake("torchnle::linear_lse_mu", _fake_linear_lse_mu, lib=_library)
torch.library.register_fake("torchnle::short_decode_attention", _fake_short_decode_attention, lib=_library)

torch.library.register_autograd("torchnle::linear_lse", _backward, setup_context=_save_inputs, lib=_library)
torch.library.register_autograd("torchnle::linear_lse_mu", _backward_mu, setup_context=_save_mu, lib=_library)

for _device in ("cpu", "cuda"):
    for _name in ("linear_lse", "linear_lse_mu"):
        _library.impl(_name, _head_under_autocast(_name, _device), f"Autocast{_device.upper()}")
    _library.impl("short_decode_attention", _attention_under_autocast(_device), f"Autocast{_device.upper()}")

flops.register()

"""What operators refuse: banned outputs are -inf, gradients are of first order, every row sees a key."""

from __future__ import annotations

import pytest
import torch

from torchnle.ops import linear_lse, linear_lse_mu, short_decode_attention

H, WEIGHT = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)


def bias(value):
    return torch.tensor([0.0, value, 1.0, 0.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("call", [linear_lse, linear_lse_mu])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_bias_that_is_no_number(call, value):
    with pytest.raises(ValueError, match=r"NaN or \+inf"):
        call(H, WEIGHT, bias(value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_minus_infinity_bans_an_output(dtype):
    kept = [0, 2, 3, 4]
    h, weight, other = H.to(dtype), WEIGHT.to(dtype), bias(float("-inf")).to(dtype)
    found = linear_lse(h, weight, other)[0]
    wanted = (h.float() @ weight[kept].float().T + other[kept].float()).logsumexp(1)
    torch.testing.assert_close(
        found.float(), wanted, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=1e-2
    )
    lse, mu = linear_lse_mu(h, weight, other)
    assert bool(lse.isfinite().all())
    assert bool(mu.isfinite().all())


@pytest.mark.parametrize("call", [linear_lse, linear_lse_mu])
def test_a_second_derivative_is_refused(call):
    h = H.clone().requires_grad_()
    found = call(h, WEIGHT, None)[0].sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(found, h, create_graph=True)


@pytest.mark.parametrize("lengths", [[0, 2], [2, 4], [-1, 1]])
def test_lengths_without_a_key_or_beyond_the_cache(lengths):
    q, kv = torch.randn(2, 1, 4), torch.randn(2, 1, 3, 4)
    with pytest.raises(ValueError, match="from 1 to 3"):
        short_decode_attention(q, kv, kv, torch.tensor(lengths))
    found = short_decode_attention(q, kv, kv, torch.tensor([1, 3]))
    torch.testing.assert_close(found[0, 0], kv[0, 0, 0])

import pytest
import torch
from torchnle_kernels import reference

from torchnle import ops

H, WEIGHT, BIAS = torch.randn(5, 8), torch.randn(11, 8), torch.randn(11)


@pytest.mark.parametrize("impl", ["auto", "torch"])
@pytest.mark.parametrize("bias", [None, BIAS])
def test_ops_give_what_the_definitions_give(impl, bias):
    ours = ops.linear_lse(H, WEIGHT, bias, need_argmax=True, impl=impl)
    torch.testing.assert_close(ours, reference.linear_lse(H, WEIGHT, bias, need_argmax=True))
    ours = ops.linear_lse_mu(H, WEIGHT, bias, impl=impl)
    torch.testing.assert_close(ours, reference.linear_lse_mu(H, WEIGHT, bias))
    q, k, v = torch.randn(3, 4, 6), torch.randn(3, 2, 7, 6), torch.randn(3, 2, 7, 6)
    lengths = torch.tensor([1, 7, 3])
    ours = ops.short_decode_attention(q, k, v, lengths, impl=impl)
    torch.testing.assert_close(ours, reference.short_decode_attention(q, k, v, lengths))


def test_argmax_is_not_given_unasked():
    assert ops.linear_lse(H, WEIGHT)[2].tolist() == [-1] * 5


CALLS = {
    "linear_lse": lambda impl: ops.linear_lse(H, WEIGHT, impl=impl),
    "linear_lse_mu": lambda impl: ops.linear_lse_mu(H, WEIGHT, impl=impl),
    "short_decode_attention": lambda impl: ops.short_decode_attention(
        torch.ones(1, 1, 2), torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2), torch.tensor([2]), impl=impl
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_triton_says_why_not(name):
    with pytest.raises(ValueError, match=r"impl='triton' cannot run here: .* on cpu.*impl='torch'"):
        CALLS[name]("triton")


def test_refuses_layers_that_are_trained():
    weight = WEIGHT.clone().requires_grad_()
    for call in (ops.linear_lse, ops.linear_lse_mu):
        with pytest.raises(ValueError, match="is for a frozen layer"):
            call(H, weight)
        with pytest.raises(ValueError, match="is for a frozen layer"):
            call(H, WEIGHT, BIAS.clone().requires_grad_())
        with torch.no_grad():
            call(H, weight)


def test_refuses_heads_that_do_not_group():
    with pytest.raises(ValueError, match="3 query heads do not group over 2 key heads"):
        ops.short_decode_attention(
            torch.ones(1, 3, 2), torch.ones(1, 2, 3, 2), torch.ones(1, 2, 3, 2), torch.tensor([2])
        )

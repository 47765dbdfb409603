"""The operators as PyTorch sees them: compiled, exported, counted, under autocast, and what they refuse."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchnle_kernels import blocked, choice, reference

OPS = torch.ops.torchnle
H, WEIGHT, BIAS = torch.randn(5, 8), torch.randn(17, 8), torch.randn(17)


def lse(h, weight=WEIGHT, bias=BIAS):
    return OPS.linear_lse(h, weight, bias, False, "auto")[0]


def lse_mu(h, weight=WEIGHT, bias=BIAS):
    return OPS.linear_lse_mu(h, weight, bias, "auto")[0]


@pytest.mark.parametrize("call", [lse, lse_mu])
def test_compiles_whole_with_its_gradient(call):
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (5, 9):
        h = torch.randn(rows, 8, requires_grad=True)
        (ours,) = torch.autograd.grad(compiled(h).sum(), h)
        (eager,) = torch.autograd.grad(call(h).sum(), h)
        assert torch.equal(ours, eager)
        torch.testing.assert_close(ours, reference.linear_lse_mu(h.detach(), WEIGHT, BIAS)[1])


def test_exports_as_one_operator():
    class Model(torch.nn.Module):
        def forward(self, h, weight):
            return lse_mu(h, weight, None)

    program = torch.export.export(Model(), (H, WEIGHT), dynamic_shapes=({0: torch.export.Dim("r")}, None))
    assert "torch.ops.torchnle.linear_lse_mu.default" in program.graph_module.code
    more = torch.randn(11, 8)
    torch.testing.assert_close(program.module()(more, WEIGHT), lse(more, bias=None))


def count(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_operations_are_counted():
    product = 2 * 5 * 17 * 8
    h = H.clone().requires_grad_()
    assert count(lambda: lse(H)) == product
    assert count(lambda: lse_mu(H)) == 2 * product
    assert count(lambda: lse(h).sum().backward()) == 3 * product
    assert count(lambda: lse_mu(h).sum().backward()) == 2 * product
    q, kv = torch.ones(2, 4, 8), torch.ones(3, 2, 6, 8)
    attended = lambda: OPS.short_decode_attention(q, kv, kv, torch.tensor([1, 6]), None, "auto")  # noqa: E731
    assert count(attended) == 4 * 2 * 4 * 6 * 8


@pytest.mark.parametrize("call", [lse, lse_mu])
def test_under_autocast_the_frozen_head_keeps_its_dtype(call):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full, widened = call(H), call(H.bfloat16())
        half = call(H, WEIGHT.bfloat16(), BIAS.bfloat16())
    assert torch.equal(full, call(H))
    assert torch.equal(widened, call(H.bfloat16().float()))
    assert half.dtype == torch.float32
    assert torch.equal(half, call(H.bfloat16(), WEIGHT.bfloat16(), BIAS.bfloat16()))
    h = H.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call(h, WEIGHT.bfloat16(), BIAS.bfloat16()).sum().backward()
    assert h.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("h", "weight", "bias"),
    [
        (H[0], WEIGHT, BIAS),
        (H, WEIGHT[:, :7], BIAS),
        (H, WEIGHT, BIAS[:3]),
        (H, WEIGHT[:0], None),
    ],
)
def test_refuses_shapes_that_do_not_fit(h, weight, bias):
    for call in (lse, lse_mu):
        with pytest.raises(ValueError, match=r"have shapes \(.*pass \(R, d\), \(V, d\) and \(V,\)"):
            call(h, weight, bias)


def test_refuses_an_implementation_that_is_none():
    with pytest.raises(ValueError, match=r"impl='cuda'; pass 'auto', 'torch' or 'triton'\."):
        OPS.linear_lse(H, WEIGHT, None, False, "cuda")


def test_triton_says_what_keeps_it(monkeypatch):
    with pytest.raises(ValueError, match="on cpu, and it needs an NVIDIA GPU"):
        choice.takes_triton("triton", H)
    with pytest.raises(ValueError, match=r"inputs are torch\.bfloat16, torch\.float32, and it takes one of"):
        choice.takes_triton("triton", H, WEIGHT.bfloat16())
    assert not choice.takes_triton("auto", H.double())
    monkeypatch.setattr(choice, "_device_obstacle", lambda device: "")
    assert choice.takes_triton("auto", H, None)
    assert not choice.takes_triton("torch", H)


def test_the_head_takes_a_tenth_of_the_memory():
    """Live memory of forward and backward, against the logits, their log-softmax and its gradient."""
    h, weight = torch.randn(600, 16), torch.randn(20_000, 16)
    with torch.profiler.profile(profile_memory=True) as profile:
        blocked.linear_lse_mu(h, weight, None)
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert 0 < peak < 0.1 * 3 * 600 * 20_000 * 4

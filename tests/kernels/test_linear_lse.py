"""The CPU operators against float64 on the rounded inputs, and their laws."""

import pytest
import torch
import torch.nn.functional as F
import torchnle_kernels.operators  # noqa: F401  (registers torch.ops.torchnle.*)
from torchnle_kernels import blocked, packed, reference

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 2e-3}


def linear_lse(h, weight, bias=None, need_argmax=True):
    return torch.ops.torchnle.linear_lse(h, weight, bias, need_argmax, "auto")


def linear_lse_mu(h, weight, bias=None):
    return torch.ops.torchnle.linear_lse_mu(h, weight, bias, "auto")


def make(rows, width, outputs, dtype=torch.float32, scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    h, w, b = (torch.randn(*shape, generator=g) for shape in [(rows, width), (outputs, width), (outputs,)])
    return (scale * h).to(dtype), w.to(dtype), b.to(dtype)


@pytest.fixture(params=["blocked", "blocked, tiny", "packed", "packed, tiny"])
def blocks(request, monkeypatch):
    """Both CPU paths, as shipped, and in blocks so small that all that happens between them happens often."""
    if request.param.startswith("blocked"):
        monkeypatch.setattr(packed, "takes", lambda *_: False)
    if request.param == "blocked, tiny":
        monkeypatch.setattr(blocked, "_ROWS", 4)
        monkeypatch.setattr(blocked, "_OUTPUTS", 7)
    elif request.param == "packed, tiny":
        shrink(monkeypatch)
    return request.param


def shrink(monkeypatch):
    for name, size in (("_ROWS", 4), ("_TERMS", 64), ("_PROBE", 3), ("_ROWS_AGAIN", 3)):
        monkeypatch.setattr(packed, name, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "outputs"), [(0, 5), (1, 1), (15, 33), (16, 2048), (17, 4099), (515, 100)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_float64_on_the_rounded_inputs(blocks, dtype, rows, outputs, with_bias):
    h, weight, bias = make(rows, 24, outputs, dtype)
    bias = bias if with_bias else None
    exact = reference.linear_lse(
        *(None if t is None else t.double() for t in (h, weight, bias)), need_argmax=True
    )
    lse, top, index = linear_lse(h, weight, bias)
    bound = BOUNDS[dtype]
    assert lse.dtype == top.dtype == reference.accumulator(dtype)
    torch.testing.assert_close(lse.double(), exact[0], atol=bound, rtol=0)
    torch.testing.assert_close(top.double(), exact[1], atol=bound, rtol=0)
    logits = h.double() @ weight.double().T + (0 if bias is None else bias.double())
    clear = logits.topk(min(2, outputs)).values.diff().abs().flatten() > 1e-3
    assert torch.equal(index[clear], exact[2][clear]) if outputs > 1 else index.eq(0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_mu_is_the_mean_weight_and_the_gradient(blocks, dtype):
    h, weight, bias = make(21, 24, 65, dtype)
    exact_lse, exact_mu = reference.linear_lse_mu(h.double(), weight.double(), bias.double())
    lse, mu = linear_lse_mu(h, weight, bias)
    torch.testing.assert_close(lse.double(), exact_lse, atol=BOUNDS[dtype], rtol=0)
    torch.testing.assert_close(mu.double(), exact_mu, atol=BOUNDS[dtype], rtol=1e-5)
    upstream = torch.randn(21, dtype=lse.dtype)
    for call in (linear_lse, linear_lse_mu):
        leaf = h.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((call(leaf, weight, bias)[0] * upstream).sum(), leaf)
        expected = upstream[:, None].double() * exact_mu
        tolerance = 2e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-5
        assert gradient.dtype == dtype
        assert (gradient.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("call", [linear_lse, linear_lse_mu])
def test_gradcheck(blocks, call):
    h, weight, bias = make(5, 6, 17, torch.float64)
    assert torch.autograd.gradcheck(lambda h: call(h, weight, bias)[0], h.requires_grad_())
    assert not any(output.requires_grad for output in call(h, weight, bias)[1:])


needs_bfloat16 = pytest.mark.skipif(
    not packed.multiplies_bfloat16(), reason="this processor does not multiply bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize("tiny", [False, True])
def test_bfloat16_terms_are_rounded_but_the_largest(monkeypatch, tiny):
    """Each term of the softmax but the largest is rounded to 2^-8 of itself; the logits never are."""
    if tiny:
        shrink(monkeypatch)
    h, weight, _ = make(67, 24, 333, torch.bfloat16, scale=2.0)
    logits = h.double() @ weight.double().T
    exact, (top, best), plain = logits.logsumexp(1), logits.max(dim=1), F.linear(h, weight)
    lse, highest, index = linear_lse(h, weight)
    rest = 1 - (top - exact).exp()
    assert ((lse - exact).abs() <= rest * 2**-8 + 1e-5).all()
    assert (lse - exact).abs().max() < 0.1 * (plain.float().logsumexp(1) - exact).abs().max()
    torch.testing.assert_close(highest, top.float())
    assert torch.equal(index, best)
    assert not torch.equal(plain.argmax(1), best)
    mu, exact_mu = linear_lse_mu(h, weight)[1], logits.softmax(1) @ weight.double()
    assert (mu - exact_mu).norm() <= 5e-3 * exact_mu.norm()


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)])
@pytest.mark.parametrize("rise", [30.0, 100.0, 1e4])
def test_logits_that_rise_far_above_the_first_ones(monkeypatch, dtype, rise):
    """Beyond what exp = sigmoid bears, references follow: those of some rows, in some blocks, twice."""
    shrink(monkeypatch)
    h, weight, _ = make(9, 24, 130, dtype)
    h[:, 0], weight[:, 0] = torch.tensor([1.0, 0, 1] * 3), 0
    weight[[40, 90], 0] = torch.tensor([rise / 2, rise]).to(dtype)
    exact = reference.linear_lse(h.double(), weight.double(), need_argmax=True)
    lse, top, index = linear_lse(h, weight)
    torch.testing.assert_close(lse.double(), exact[0], rtol=1e-6, atol=2e-3)
    torch.testing.assert_close(top.double(), exact[1], rtol=1e-6, atol=1e-5)
    assert torch.equal(index, exact[2])
    mu, exact_mu = linear_lse_mu(h, weight)[1], reference.linear_lse_mu(h.double(), weight.double())[1]
    assert (mu - exact_mu).norm() <= 5e-3 * exact_mu.norm()


def test_definition_agrees_with_log_softmax():
    h, weight, bias = make(6, 8, 19, torch.float64)
    expected = torch.nn.functional.linear(h, weight, bias).log_softmax(-1)
    lse, _, _ = reference.linear_lse(h, weight, bias)
    torch.testing.assert_close(h @ weight.T + bias - lse[:, None], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_sum_to_one(blocks, dtype):
    h, weight, bias = make(13, 16, 40, dtype)
    lse, _, _ = linear_lse(h, weight, bias)
    log_probs = h.float() @ weight.float().T + bias.float() - lse[:, None]
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(13), atol=1e-5, rtol=0)
    assert log_probs.max() <= 1e-5


def test_ties_go_to_the_lowest_id(blocks):
    weight = make(1, 4, 30)[1]
    weight[[3, 5, 22, 29]] = torch.full((4,), 9.0)
    _, _, index = linear_lse(torch.ones(6, 4), weight)
    assert index.tolist() == [3] * 6
    _, _, index = linear_lse(torch.zeros(2, 4), weight)
    assert index.tolist() == [0, 0]


def test_a_constant_bias_shifts_and_rows_permute(blocks):
    h, weight, bias = make(11, 8, 50)
    lse, top, index = linear_lse(h, weight, bias)
    shifted = linear_lse(h, weight, bias + 3)
    torch.testing.assert_close(shifted[0], lse + 3)
    assert torch.equal(shifted[2], index)
    order = torch.randperm(11)
    torch.testing.assert_close(linear_lse(h[order], weight, bias)[:2], (lse[order], top[order]))


def test_a_row_is_the_same_alone_and_twice(blocks):
    h, weight, bias = make(9, 32, 120)
    lse, mu = linear_lse_mu(h, weight, bias)
    alone = [linear_lse_mu(row[None], weight, bias) for row in h]
    torch.testing.assert_close(torch.cat([a for a, _ in alone]), lse, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([b for _, b in alone]), mu, atol=1e-5, rtol=0)
    again = linear_lse_mu(h, weight, bias)
    assert torch.equal(again[0], lse)
    assert torch.equal(again[1], mu)


def test_banned_outputs_and_whole_banned_blocks(blocks):
    h, weight, bias = make(6, 8, 30)
    bias[:16] = float("-inf")
    torch.testing.assert_close(linear_lse(h, weight, bias)[0], linear_lse(h, weight[16:], bias[16:])[0])
    torch.testing.assert_close(linear_lse_mu(h, weight, bias)[1], linear_lse_mu(h, weight[16:], bias[16:])[1])
    lse, top, index = linear_lse(h, weight, torch.full_like(bias, float("-inf")))
    assert (lse.unique().item(), top.unique().item(), index.unique().item()) == (
        -float("inf"),
        -float("inf"),
        0,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits(blocks, sign):
    h, weight, _ = make(6, 8, 30, scale=1e4)
    h, weight = (h, weight) if sign > 0 else (-h.abs(), weight.abs())
    lse, mu = linear_lse_mu(h, weight)
    exact = reference.linear_lse_mu(h.double(), weight.double())
    torch.testing.assert_close(lse.double(), exact[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(mu.double(), exact[1], atol=1e-2, rtol=0)


def test_nan_stays_in_its_row(blocks):
    h, weight, bias = make(9, 8, 40)
    clean_lse, clean_mu = linear_lse_mu(h, weight, bias)
    h[4, 2] = float("nan")
    lse, mu = linear_lse_mu(h, weight, bias)
    rest = torch.arange(9) != 4
    assert torch.equal(lse[rest], clean_lse[rest])
    assert torch.equal(mu[rest], clean_mu[rest])
    assert lse[4].isnan()
    assert mu[4].isnan().all()
    lse, top, _ = linear_lse(h, weight, bias)
    assert lse.isnan().tolist() == top.isnan().tolist() == (~rest).tolist()


def test_reads_no_memory_that_it_did_not_write(blocks, monkeypatch):
    h, weight, bias = make(9, 8, 40)
    expected = linear_lse_mu(h, weight, bias)
    empty = torch.Tensor.new_empty
    poisoned = lambda self, *size, **kwargs: empty(self, *size, **kwargs).fill_(float("nan"))  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert all(map(torch.equal, linear_lse_mu(h, weight, bias), expected))


def test_never_has_all_logits_in_memory():
    h, weight, _ = make(600, 8, 5000)
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            outputs = result if isinstance(result, tuple) else (result,)
            largest.extend(t.numel() for t in outputs if isinstance(t, torch.Tensor))
            return result

    with Watch():
        blocked.linear_lse(h, weight, None, True)
        blocked.linear_lse_mu(h, weight, None)
        packed.linear_lse(h, weight, True)
        packed.linear_lse_mu(h, weight)
    assert max(largest) <= max(512 * 2048, weight.numel())


def test_autocast_does_not_round(blocks):
    h, weight, bias = make(9, 32, 120)
    expected = linear_lse_mu(h, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, linear_lse_mu(h, weight, bias), expected))


@pytest.mark.parametrize("bias", [None, "bias"])
def test_opcheck(bias):
    h, weight, b = make(5, 8, 17)
    b = b if bias else None
    h.requires_grad_()
    torch.library.opcheck(torch.ops.torchnle.linear_lse.default, (h, weight, b, True, "auto"))
    torch.library.opcheck(torch.ops.torchnle.linear_lse_mu.default, (h, weight, b, "auto"))


def test_is_one_operator_in_an_exported_program():
    class Model(torch.nn.Module):
        def forward(self, h, weight):
            return linear_lse(h * 2, weight)[0]

    h, weight, _ = make(5, 8, 17)
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(Model(), (h, weight), dynamic_shapes=({0: rows}, None))
    assert "torch.ops.torchnle.linear_lse.default" in program.graph_module.code
    more, _, _ = make(9, 8, 1, seed=3)
    torch.testing.assert_close(program.module()(more, weight), linear_lse(more * 2, weight)[0])

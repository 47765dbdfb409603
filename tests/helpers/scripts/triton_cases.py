"""What every Triton kernel must do, on a GPU or under Triton's interpreter: `test_triton.py` runs this file.

All against float64 on the rounded inputs. The interpreter gets bfloat16 arithmetic wrong, so there tiles
are widened first, and only the GPU sees bfloat16 products.
"""

import math
import os

import pytest
import torch
from torchnle_kernels import linear_lse_mu_triton, linear_lse_triton, reference, short_decode_attention_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
BOUNDS = {torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 1e-3}
linear_lse, linear_lse_mu = linear_lse_triton.forward, linear_lse_mu_triton.forward
attention = short_decode_attention_triton.forward


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Fill every new buffer with NaN: nothing may be read before it is written."""
    empty, like = torch.Tensor.new_empty, torch.empty_like
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: _poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: _poisoned(like(*a, **k)))


def _poisoned(buffer):
    return buffer.fill_(math.nan if buffer.is_floating_point() else -(2**30))


def make(rows, outputs, width, dtype=torch.float32, scale=1.0):
    g = torch.Generator().manual_seed(rows + outputs)
    h, weight, bias = (torch.randn(*s, generator=g) for s in [(rows, width), (outputs, width), (outputs,)])
    return tuple(t.to(DEVICE, dtype) for t in (scale * h, weight, bias))


def exact(function, *tensors, **options):
    return function(*(None if t is None else t.double() for t in tensors), **options)


def close(ours, truth, bound, relative=0.0):
    torch.testing.assert_close(ours.double(), truth.double(), atol=bound, rtol=relative)


# One tile and less, a tile and a bit, several slices; widths that fill their steps and widths that do not.
SHAPES = [(0, 5, 8), (1, 1, 1), (15, 128, 64), (16, 130, 40), (17, 777, 72), (130, 260, 64)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_lse(dtype, shape, with_bias):
    h, weight, bias = make(*shape, dtype)
    bias = bias if with_bias else None
    lse, top, index = linear_lse(h, weight, bias, True)
    truth = exact(reference.linear_lse, h, weight, bias, need_argmax=True)
    assert lse.dtype == top.dtype == torch.float32
    close(lse, truth[0], BOUNDS[dtype])
    close(top, truth[1], BOUNDS[dtype])
    logits = exact(torch.nn.functional.linear, h, weight, bias)
    gap = logits.topk(min(2, shape[1])).values.diff().abs().flatten() if shape[1] > 1 else lse + 1
    assert torch.equal(index[gap > 1e-3], truth[2][gap > 1e-3])
    assert linear_lse(h, weight, bias, False)[2].eq(-1).all()


def test_probabilities_sum_to_one():
    h, weight, bias = make(9, 500, 48)
    log_probs = exact(torch.nn.functional.linear, h, weight, bias) - linear_lse(h, weight, bias)[0][:, None]
    close(log_probs.exp().sum(1), torch.ones(9, device=DEVICE), 1e-5)
    assert log_probs.max() <= 1e-5


def test_rows_do_not_depend_on_each_other_to_the_last_bit():
    h, weight, bias = make(70, 900, 40)
    whole = linear_lse(h, weight, bias, True)
    order = torch.randperm(70, device=DEVICE)
    for rows in (order, slice(None), slice(69, 70), slice(3, 20)):
        part = linear_lse(h[rows], weight, bias, True)
        assert all(torch.equal(a, b[rows]) for a, b in zip(part, whole, strict=True))


def test_slices_change_nothing_but_rounding():
    h, weight, bias = make(5, 2000, 40)
    one, seven = (linear_lse(h, weight, bias, True, tiles_per_slice=n) for n in (1, 7))
    close(one[0], seven[0], 0, relative=1e-6)
    assert torch.equal(one[1], seven[1])
    assert torch.equal(one[2], seven[2])


def test_ties_go_to_the_lowest_id():
    _, weight, _ = make(1, 900, 16)
    weight[[3, 5, 200, 450, 899]] = 9.0
    assert linear_lse(torch.ones(3, 16, device=DEVICE), weight, None, True)[2].tolist() == [3] * 3
    assert linear_lse(torch.zeros(2, 16, device=DEVICE), weight, None, True)[2].tolist() == [0, 0]


def test_a_constant_bias_shifts():
    h, weight, bias = make(5, 300, 16)
    close(linear_lse(h, weight, bias + 3)[0], linear_lse(h, weight, bias)[0] + 3, 1e-5)


@pytest.mark.parametrize("banned", [slice(0, 450), slice(100, 640), slice(300, 900)])
def test_banned_outputs(banned):
    h, weight, bias = make(5, 900, 16)
    bias[banned] = -math.inf
    kept = bias.isfinite()
    lse, top, index = linear_lse(h, weight, bias, True)
    truth = exact(reference.linear_lse, h, weight[kept], bias[kept], need_argmax=True)
    close(lse, truth[0], 1e-5)
    close(top, truth[1], 1e-5)
    assert torch.equal(index, kept.nonzero().flatten()[truth[2]])
    lse, mu = linear_lse_mu(h, weight, bias, chunk=128)
    truth = exact(reference.linear_lse_mu, h, weight[kept], bias[kept])
    close(lse, truth[0], 1e-5)
    close(mu, truth[1], 1e-5)


def test_nothing_but_banned_outputs():
    h, weight, bias = make(3, 500, 16)
    lse, top, index = linear_lse(h, weight, torch.full_like(bias, -math.inf), True)
    assert lse.tolist() == top.tolist() == [-math.inf] * 3
    assert index.tolist() == [0] * 3


@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits(sign):
    h, weight, _ = make(6, 500, 16, scale=1e4)
    h, weight = (h, weight) if sign > 0 else (-h.abs(), weight.abs())
    truth = exact(reference.linear_lse_mu, h, weight)
    close(linear_lse(h, weight, None)[0], truth[0], 0, relative=1e-6)
    lse, mu = linear_lse_mu(h, weight, None, chunk=128)
    close(lse, truth[0], 0, relative=1e-6)
    close(mu, truth[1], 2e-2)


def test_nan_stays_in_its_row():
    h, weight, bias = make(9, 500, 16)
    clean = linear_lse(h, weight, bias), linear_lse_mu(h, weight, bias, chunk=128)
    h[4, 2] = math.nan
    rest = torch.arange(9) != 4
    lse, top, _ = linear_lse(h, weight, bias)
    assert lse.isnan().tolist() == top.isnan().tolist() == (~rest).tolist()
    assert torch.equal(lse[rest], clean[0][0][rest])
    lse, mu = linear_lse_mu(h, weight, bias, chunk=128)
    assert torch.equal(lse[rest], clean[1][0][rest])
    close(mu[rest], clean[1][1][rest], 1e-6)
    assert lse[4].isnan()
    assert mu[4].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "chunk"), [((0, 5, 8), 8192), ((1, 1, 1), 8192), ((130, 150, 72), 128)])
def test_linear_lse_mu(dtype, shape, chunk):
    h, weight, bias = make(*shape, dtype)
    lse, mu = linear_lse_mu(h, weight, bias, chunk=chunk)
    truth = exact(reference.linear_lse_mu, h, weight, bias)
    plain = torch.nn.functional.linear(h, weight, bias).softmax(-1) @ weight
    assert lse.dtype == mu.dtype == torch.float32
    close(lse, truth[0], BOUNDS[dtype])
    error = (mu - truth[1]).norm()
    assert error <= {torch.float32: 1e-5}.get(dtype, 2e-2) * truth[1].norm()
    assert error <= 1.05 * (plain - truth[1]).norm() + 1e-5 * truth[1].norm()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", [5.0, 30.0, 100.0])
def test_maxima_that_rise_with_every_chunk(dtype, step):
    """Each chunk exceeds the last by `step`: below and above the lag of each dtype's reference."""
    h, weight, bias = make(7, 700, 24, dtype, scale=0.5)
    bias = (bias + step * (torch.arange(700, device=DEVICE) // 128)).to(dtype)
    lse, mu = linear_lse_mu(h, weight, bias, chunk=128)
    truth = exact(reference.linear_lse_mu, h, weight, bias)
    close(lse, truth[0], BOUNDS[dtype])
    close(mu, truth[1], {torch.float32: 1e-4}.get(dtype, 2e-2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "key_heads", "keys", "width"), [(9, 3, 20, 64), (2, 2, 64, 80), (1, 1, 1, 8), (4, 1, 33, 128)]
)
@pytest.mark.parametrize("indirect", [False, True])
def test_short_decode_attention(dtype, heads, key_heads, keys, width, indirect):
    g = torch.Generator().manual_seed(keys)
    q = torch.randn(3, heads, width, generator=g).to(DEVICE, dtype)
    k, v = (torch.randn(5, key_heads, keys, width, generator=g).to(DEVICE, dtype) for _ in range(2))
    lengths = torch.randint(1, keys + 1, (3,), generator=g).to(DEVICE)
    rows = torch.tensor([4, 0, 2], device=DEVICE) if indirect else None
    for row, length in enumerate(lengths.tolist()):
        index = row if rows is None else rows[row]
        k[index, :, length:] = v[index, :, length:] = math.nan  # never read
    truth = reference.short_decode_attention(q.double(), k.double(), v.double(), lengths, rows)
    out = attention(q, k, v, lengths, rows)
    assert out.dtype == dtype
    close(out, truth, {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype], relative=5e-3)
    spread = torch.empty(5, keys, key_heads, width, dtype=dtype, device=DEVICE).transpose(1, 2)
    assert torch.equal(attention(q, spread.copy_(k), v, lengths.int(), rows), out)


def test_attention_without_rows():
    q, kv = torch.ones(0, 2, 8, device=DEVICE), torch.ones(1, 2, 4, 8, device=DEVICE)
    assert attention(q, kv, kv, torch.ones(0, dtype=torch.int32, device=DEVICE), None).shape == (0, 2, 8)


on_gpu = pytest.mark.skipif(INTERPRETED, reason="the interpreter has no streams and runs outside torch.ops")


@on_gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operators_choose_the_kernels(dtype):
    h, weight, bias = make(130, 1001, 72, dtype)
    ours = torch.ops.torchnle.linear_lse(h, weight, bias, True, "triton")
    assert all(map(torch.equal, ours, linear_lse(h, weight, bias, True)))
    assert all(map(torch.equal, torch.ops.torchnle.linear_lse(h, weight, bias, True, "auto"), ours))
    blocked = torch.ops.torchnle.linear_lse(h, weight, bias, True, "torch")
    close(ours[0], blocked[0], BOUNDS[dtype])
    leaf = h.clone().requires_grad_()
    torch.ops.torchnle.linear_lse(leaf, weight, bias, False, "auto")[0].sum().backward()
    truth = exact(reference.linear_lse_mu, h, weight, bias)[1]
    assert (leaf.grad.double() - truth).norm() <= {torch.float32: 1e-5}.get(dtype, 2e-2) * truth.norm()


@on_gpu
def test_a_cuda_graph_captures_them():
    h, weight, bias = make(70, 3001, 64, torch.bfloat16)
    run = lambda: (*linear_lse(h, weight, bias, True), *linear_lse_mu(h, weight, bias, chunk=512))  # noqa: E731
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    h.copy_(torch.randn_like(h) * 3)
    graph.replay()
    assert all(map(torch.equal, captured, run()))

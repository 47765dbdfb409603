"""The definition and the operator against PyTorch's own attention, row by row."""

import pytest
import torch
import torch.nn.functional as F
from torchnle_kernels import operators, reference


def operator(q, k, v, lengths, rows=None):
    return torch.ops.torchnle.short_decode_attention(q, k, v, lengths, rows, "auto")


@pytest.fixture(params=[reference.short_decode_attention, operator], ids=["definition", "operator"])
def short_decode_attention(request):
    return request.param


def make(rows, heads, key_heads, keys, width, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, width), (rows, key_heads, keys, width), (rows, key_heads, keys, width)]
    q, k, v = (torch.randn(*shape, generator=g).to(dtype) for shape in shapes)
    return q, k, v, torch.randint(1, keys + 1, (rows,), generator=g)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 4), (9, 3), (6, 1)])
def test_equals_sdpa_on_each_row_alone(short_decode_attention, dtype, bound, heads, key_heads):
    q, k, v, lengths = make(7, heads, key_heads, 13, 8, dtype)
    out = short_decode_attention(q, k, v, lengths)
    assert out.dtype == dtype
    for row, length in enumerate(lengths.tolist()):
        one = (q[row, :, None].double(), k[row, :, :length].double(), v[row, :, :length].double())
        expected = F.scaled_dot_product_attention(*(t[None] for t in one), enable_gqa=True)[0, :, 0]
        torch.testing.assert_close(out[row].double(), expected, atol=bound, rtol=0)


def test_what_lies_beyond_the_length_is_never_read(short_decode_attention):
    q, k, v, lengths = make(5, 4, 2, 9, 6)
    expected = short_decode_attention(q, k, v, lengths)
    for row, length in enumerate(lengths.tolist()):
        k[row, :, length:] = v[row, :, length:] = float("nan")
    assert torch.equal(short_decode_attention(q, k, v, lengths), expected)


def test_rows_pick_the_keys_without_moving_them(short_decode_attention):
    q, k, v, lengths = make(6, 4, 2, 9, 6)
    rows = torch.tensor([5, 0, 2])
    moved = short_decode_attention(q[:3], k[rows], v[rows], lengths[:3])
    assert torch.equal(short_decode_attention(q[:3], k, v, lengths[:3], rows), moved)


def test_one_key_gives_its_value(short_decode_attention):
    q, k, v, _ = make(3, 2, 2, 4, 6)
    out = short_decode_attention(q, k, v, torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(out, v[:, :, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, n: (q[:, :3], k, v, n), "3 query heads do not group over 2 key heads"),
        (
            lambda q, k, v, n: (q, k.repeat(1, 1, 8, 1), v.repeat(1, 1, 8, 1), n),
            "72 keys a row; .* at most 64",
        ),
        (lambda q, k, v, n: (q, k, v, n[:2]), r"have shapes \(5, 4, 6\), .*, \(2,\); pass"),
        (lambda q, k, v, n: (q, k[..., :5], v, n), "have shapes"),
        (lambda q, k, v, n: (q, k[:3], v[:3], n), "None where N is at least B"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        operator(*change(*make(5, 4, 2, 9, 6)))


def test_is_an_operator_that_compiles():
    q, k, v, lengths = make(5, 4, 2, 9, 6)
    rows = torch.tensor([4, 3, 2, 1, 0])
    torch.library.opcheck(torch.ops.torchnle.short_decode_attention.default, (q, k, v, lengths, rows, "auto"))
    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, v, lengths, rows), operator(q, k, v, lengths, rows))


def test_no_rows():
    q, k, v, lengths = make(0, 4, 2, 9, 6)
    assert operator(q, k, v, lengths).shape == (0, 4, 6)
    assert operators.MAX_KEYS == 64

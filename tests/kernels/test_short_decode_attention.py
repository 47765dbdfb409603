"""The definition against PyTorch's own attention, row by row."""

import pytest
import torch
import torch.nn.functional as F
from torchnle_kernels.reference import short_decode_attention


def make(rows, heads, key_heads, keys, width, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, width), (rows, key_heads, keys, width), (rows, key_heads, keys, width)]
    q, k, v = (torch.randn(*shape, generator=g).to(dtype) for shape in shapes)
    return q, k, v, torch.randint(1, keys + 1, (rows,), generator=g)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 4), (9, 3), (6, 1)])
def test_equals_sdpa_on_each_row_alone(dtype, bound, heads, key_heads):
    q, k, v, lengths = make(7, heads, key_heads, 13, 8, dtype)
    out = short_decode_attention(q, k, v, lengths)
    assert out.dtype == dtype
    for row, length in enumerate(lengths.tolist()):
        one = (q[row, :, None].double(), k[row, :, :length].double(), v[row, :, :length].double())
        expected = F.scaled_dot_product_attention(*(t[None] for t in one), enable_gqa=True)[0, :, 0]
        torch.testing.assert_close(out[row].double(), expected, atol=bound, rtol=0)


def test_what_lies_beyond_the_length_is_never_read():
    q, k, v, lengths = make(5, 4, 2, 9, 6)
    expected = short_decode_attention(q, k, v, lengths)
    for row, length in enumerate(lengths.tolist()):
        k[row, :, length:] = v[row, :, length:] = float("nan")
    assert torch.equal(short_decode_attention(q, k, v, lengths), expected)


def test_rows_pick_the_keys_without_moving_them():
    q, k, v, lengths = make(6, 4, 2, 9, 6)
    rows = torch.tensor([5, 0, 2])
    moved = short_decode_attention(q[:3], k[rows], v[rows], lengths[:3])
    assert torch.equal(short_decode_attention(q[:3], k, v, lengths[:3], rows), moved)


def test_one_key_gives_its_value():
    q, k, v, _ = make(3, 2, 2, 4, 6)
    out = short_decode_attention(q, k, v, torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(out, v[:, :, 0])

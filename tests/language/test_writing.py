"""What makes a model write faster, packed weights and an attention of its own, changes nothing it writes."""

import pytest
import torch
from tiny import FAMILIES, make_lm, make_prefixes
from torch import nn

from torchnle import ops
from torchnle.language.decoding import greedy, sample
from torchnle.language.packed import packing
from torchnle.language.packed.attention import short_attention
from torchnle.language.packed.packing import packed

DTYPES = [torch.float32]
DTYPES += [torch.bfloat16] if packing.multiplies(torch.zeros(1, dtype=torch.bfloat16)) else []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 200])
def test_packed_products_are_the_same(dtype, bias, rows):
    layer, hidden = nn.Linear(24, 40, bias=bias).to(dtype), torch.randn(rows, 3, 24).to(dtype)
    model = nn.Sequential(layer)
    with torch.no_grad(), packed(model, rows=128, steps=20):
        assert "forward" in vars(layer)
        product = model(hidden)
    assert "forward" not in vars(layer)
    exact = nn.functional.linear(*(None if t is None else t.double() for t in (hidden, *parameters(layer))))
    bound = 1e-5 if dtype == torch.float32 else 2**-8 * exact.abs().max().item()
    torch.testing.assert_close(product.double(), exact, atol=bound, rtol=0)


def parameters(layer):
    return layer.weight, layer.bias


def test_gradients_flow_in_another_thread_meanwhile():
    layer, hidden = nn.Linear(4, 4), torch.randn(2, 4, requires_grad=True)
    with packed(layer, rows=1000, steps=1):
        layer(hidden).sum().backward()
    torch.testing.assert_close(hidden.grad, layer.weight.sum(0).expand(2, -1))


@pytest.mark.parametrize(
    "layer", [nn.Linear(4, 4).double(), nn.Linear(4, 4, device="meta"), type("Own", (nn.Linear,), {})(4, 4)]
)
def test_other_dtypes_devices_and_kinds_are_left_alone(layer):
    with packed(layer, rows=1000, steps=1):
        assert "forward" not in vars(layer)


def test_few_tokens_are_not_worth_it_and_errors_leave_no_trace():
    layer = nn.Linear(4, 4)
    with packed(layer, rows=4, steps=5):
        assert "forward" not in vars(layer)
    with pytest.raises(RuntimeError, match="stop"), packed(layer, rows=1000, steps=1):
        raise RuntimeError("stop")
    assert "forward" not in vars(layer)


def brings_its_own_mask(model):
    """Before version 5 of transformers OPT masks single tokens, which hides nothing and is slower."""
    return any(hasattr(part, "_update_causal_mask") for part in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_our_attention_reads_every_single_token(family, monkeypatch):
    calls = []
    lm, prefixes = make_lm(family), make_prefixes(5)
    ours = ops.short_decode_attention
    monkeypatch.setattr(ops, "short_decode_attention", lambda *a: calls.append(a[1].shape[2]) or ours(*a))
    written = greedy(lm, prefixes, max_new_tokens=4)
    longest = max(map(len, written.ids))
    start = prefixes.shape[1] + (lm.bos_id is not None)
    expected = [start + step for step in range(1, min(longest + 1, 4)) for _ in range(2)]  # two layers
    assert calls == ([] if brings_its_own_mask(lm.model) else expected)
    assert lm.model.config.get_text_config()._attn_implementation == "sdpa"
    lm.model.config._attn_implementation = "eager"
    plain = greedy(lm, prefixes, max_new_tokens=4)
    assert plain.ids == written.ids
    torch.testing.assert_close(plain.log_probs, written.log_probs, atol=1e-5, rtol=0)


def test_long_contexts_and_another_attention_stay_with_the_model(monkeypatch):
    lm = make_lm("llama")  # wrapping a model tries every way of reading it
    monkeypatch.setattr(ops, "short_decode_attention", lambda *_: pytest.fail("was called"))
    monkeypatch.setattr("torchnle.language.packed.attention._KEYS", 3)
    assert len(greedy(lm, make_prefixes(2), max_new_tokens=4).texts) == 2
    lm.model.config._attn_implementation = "eager"
    with short_attention(lm.model):
        assert lm.model.config._attn_implementation == "eager"


def test_samples_are_the_same_with_packed_weights(monkeypatch):
    lm, prefixes = make_lm("llama"), make_prefixes(3)

    def drawn():
        return sample(lm, prefixes, 40, max_new_tokens=6, generator=torch.Generator().manual_seed(0)).texts

    assert packing._TOKENS <= 120 * 6
    texts = drawn()
    monkeypatch.setattr(packing, "_TOKENS", 10**9)
    assert drawn() == texts

"""Linear layers in 8 bits: close to the exact product, row by row, on a CPU that can, without gradients."""

import pytest
import torch
from tiny import make_lm, make_prefixes
from torch import nn

from torchnle.language import int8
from torchnle.language.agreement import agreement
from torchnle.language.decoding import greedy
from torchnle.language.device import multiplies_int8
from torchnle.language.int8 import Int8Linear
from torchnle.language.packed.packing import packed
from torchnle.language.scoring import log_prob

able = pytest.mark.skipif(not multiplies_int8(), reason="needs a CPU with int8 instructions")


def rounded(rows):
    """To 255 steps, by row; halves upwards."""
    scale = rows.abs().amax(1, keepdim=True) / 127
    return (rows / scale + 0.5).floor() * scale


def quantized(family="llama"):
    return make_lm(family), make_lm(family, dtype="int8")


@able
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_rounded_rows_and_weights(bias):
    layer = nn.Linear(24, 40, bias=bias)
    rows = torch.randn(5, 3, 24) * torch.logspace(-3, 3, 15).view(5, 3, 1)
    weight, hidden = rounded(layer.weight.detach().double()), rounded(rows.flatten(0, 1).double())
    expected = (hidden @ weight.T).view(5, 3, 40) + (layer.bias.detach().double() if bias else 0)
    with torch.no_grad():
        found, exact = Int8Linear(layer)(rows).double(), layer(rows).double()
    steps = expected.abs().amax(-1, keepdim=True)  # a number halfway may be rounded either way
    assert ((found - expected).abs() / steps).max() < 2e-2
    assert ((found - expected).abs() / steps).median() < 1e-5
    assert ((found - exact).abs() / steps).max() < 5e-2


@able
def test_a_row_does_not_depend_on_the_rows_beside_it():
    layer, rows = Int8Linear(nn.Linear(24, 40)), torch.randn(9, 24)
    rows[3], rows[5, 2], rows[6] = 0.0, float("nan"), 1e6
    with torch.no_grad():
        together, alone = layer(rows), torch.cat([layer(row[None]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=0, equal_nan=True)
    assert together.isnan().all(dim=1).tolist() == [row == 5 for row in range(9)]
    torch.testing.assert_close(together[3], layer.bias)


@able
@pytest.mark.parametrize("family", ["opt", "llama", "qwen2", "gemma3", "phi"])
def test_a_model_in_int8_reads_and_speaks(family):
    exact, lm = quantized(family)
    prefixes = make_prefixes(40)
    assert sum(isinstance(x, Int8Linear) for x in lm.model.modules()) > 8
    assert isinstance(lm.model.get_output_embeddings(), nn.Linear)
    difference = log_prob(lm, prefixes, ["a cat", "dog"]) - log_prob(exact, prefixes, ["a cat", "dog"])
    assert 0 < difference.abs().median() < 0.1
    assert difference.abs().max() < 0.5
    spoken, whole = greedy(lm, prefixes, max_new_tokens=8), greedy(lm, prefixes[:3], max_new_tokens=8)
    assert spoken.ids[:3] == whole.ids


@able
def test_it_is_left_alone_where_other_layers_are_packed():
    _, lm = quantized()
    with packed(lm.model, rows=1000, steps=1):
        assert all("forward" not in vars(x) for x in lm.model.modules() if isinstance(x, Int8Linear))


@able
def test_gradients_and_other_devices_are_refused():
    _, lm = quantized()
    with pytest.raises(ValueError, match=r"no gradients; load it with dtype=torch\.float32"):
        log_prob(lm, make_prefixes(2).requires_grad_(), ["a cat"])
    with pytest.raises(ValueError, match="runs on a CPU only"):
        lm.to("cuda")
    assert lm.to("cpu") is lm


@able
def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(ValueError, match=r"has no nn\.Linear"):
        quantized("gpt2")


def test_a_machine_without_the_instructions_says_so(monkeypatch):
    monkeypatch.setattr(int8, "multiplies_int8", lambda: False)
    with pytest.raises(ValueError, match="needs a CPU with AVX-VNNI"):
        quantized()


def test_agreement_with_itself_is_complete_and_with_another_is_counted():
    lm, other = make_lm("llama"), make_lm("qwen2")
    prefixes, texts = make_prefixes(6), ["cat", "a dog", "sky"]
    same = agreement(lm, lm, prefixes, texts)
    assert (same.rows, same.same_texts, same.mean, same.largest, same.same_best) == (6, 6, 0, 0, 1)
    found = agreement(other, lm, prefixes, texts)
    difference = (log_prob(other, prefixes, texts) - log_prob(lm, prefixes, texts)).abs()
    decoded = [greedy(each, prefixes).texts for each in (lm, other)]
    assert found.same_texts == sum(a == b for a, b in zip(*decoded, strict=True)) < 6
    assert (found.mean, found.largest) == pytest.approx((difference.mean().item(), difference.max().item()))
    with pytest.raises(ValueError, match="got no rows"):
        agreement(lm, lm, prefixes[:0], texts)

"""What made models slow or wrong when this was built, each as a test.

Of the nine traps two are no code of ours: llama.cpp's build, and the order in which torch is installed. The
second, that Triton's interpreter gets bfloat16 products wrong, is what
`tests/helpers/scripts/triton_cases.py` meets.
"""

import pytest
import torch
from tiny import make_lm, make_prefixes
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode
from torchnle_kernels import packed

from torchnle.language import device, model, scoring
from torchnle.language.decoding import greedy
from torchnle.language.loss import caption_log_probs


class Products(TorchDispatchMode):
    """The shapes and strides of what is multiplied, product by product."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "_linear_pointwise"):
            tensors = [a for a in args if isinstance(a, torch.Tensor) and not a.is_mkldnn]
            self.calls.append((name, [(tuple(t.shape), t.stride()) for t in tensors]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("job", ["decode", "score", "loss"])
def test_a_slice_of_hidden_states_is_never_multiplied_row_by_row(job, monkeypatch):
    """Trap 1: `F.linear` on a slice that is not contiguous expands the weight, and multiplies row by row."""
    monkeypatch.setattr(model, "_SHARED_FROM", 2)
    lm, prefixes = make_lm("llama"), make_prefixes(6)
    with Products() as products:
        if job == "decode":
            greedy(lm, prefixes, max_new_tokens=3)
        elif job == "score":
            scoring.log_prob(lm, prefixes, ["a cat sits", "sky"])
        else:
            caption_log_probs(lm, prefixes.requires_grad_(), ["a cat sits"] * 6).sum().backward()
    sizes = {lm.vocab_size, lm.width, lm.model.config.intermediate_size}
    batched = [operands for name, operands in products.calls if "bmm" in name]
    assert len(products.calls) > len(batched)
    for operands in batched:
        assert not any(stride[0] == 0 and set(shape[1:]) <= sizes for shape, stride in operands), operands


def test_operators_are_defined_at_the_lowest_level():
    """Traps 3 and 4: `triton_op` breaks torch.compile without a GPU; `custom_op` costs 10 us a call."""
    assert hasattr(torch.ops.torchnle, "linear_lse")
    assert not [name for name in OPDEFS if name.startswith("torchnle::")]


def test_every_layer_has_keys_and_values_of_its_own():
    """Trap 5: all layers' keys in one tensor are copied as a whole, layer by layer, once compiled."""
    lm = make_lm("llama")
    cache, rest = lm.begin(lm.context(make_prefixes(3)))
    lm.hidden(rest, cache=cache)
    addresses = [t.untyped_storage().data_ptr() for layer in cache.layers for t in (layer.keys, layer.values)]
    assert len(set(addresses)) == len(addresses) == 2 * len(cache.layers)


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("avx512", [False, True])
def test_bfloat16_only_where_the_processor_multiplies_it(monkeypatch, amx, avx512):
    """Trap 6: three to four times slower than float32 elsewhere."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    expected = torch.bfloat16 if amx or avx512 else torch.float32
    assert device.best_dtype(torch.device("cpu")) == expected
    assert device.multiplies(torch.zeros(1, dtype=torch.bfloat16)) == (amx or avx512)


@pytest.mark.parametrize("rows", [49, 1029])
def test_the_head_is_multiplied_in_large_blocks(rows):
    """Trap 7: chunks of a few rows, as rules for square heads make them, read the weight again for each."""
    hidden, weight = torch.randn(rows, 8), torch.randn(50_000, 8)
    if not packed.takes(hidden, weight, None):
        pytest.skip("this PyTorch has no oneDNN product that ends in a function")
    with Products() as products:
        packed.linear_lse(hidden, weight, True)
    read = sum(operands[0][0][0] for name, operands in products.calls if name == "_linear_pointwise")
    assert len(products.calls) <= 60
    assert len(weight) <= read <= 1.1 * len(weight)  # the rows of the weight, once

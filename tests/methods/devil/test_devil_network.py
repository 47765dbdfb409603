import pytest
import torch
from oracles import devil_prefix
from tiny_translators import LAYERS, WIDTH, tiny_network
from torch import nn

from torchnle.methods.devil.network import DeViLNetwork


def tokens(rows=3, per_layer=1, layers=LAYERS, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    return {k: torch.randn(rows, per_layer, d, generator=generator, dtype=dtype) for k, d in layers.items()}


@pytest.mark.parametrize("layers", [("layer3", "layer4"), ("layer4",)])
@pytest.mark.parametrize("per_layer", [1, 2])
@pytest.mark.parametrize("grad", [True, False])  # PyTorch's encoder takes another path without gradients
def test_prefix_equals_the_formulas(layers, per_layer, grad):
    network = tiny_network().eval()
    given = {k: v for k, v in tokens(per_layer=per_layer).items() if k in layers}
    with torch.set_grad_enabled(grad):
        found = network(given)
    expected = devil_prefix(network.state_dict(), given, depth=2, heads=2)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_equals_the_formulas_row_by_row(training):
    network, given = tiny_network().train(training), tokens()
    keep = {
        "layer3": torch.tensor([[True], [False], [True]]),
        "layer4": torch.tensor([[False], [True], [True]]),
    }
    expected = devil_prefix(network.state_dict(), given, depth=2, heads=2, keep=keep)
    torch.testing.assert_close(network(given, keep).double(), expected, atol=2e-5, rtol=1e-4)


def test_an_absent_layer_is_a_masked_layer():
    network, given = tiny_network(), tokens()
    absent = network({"layer4": given["layer4"]})
    masked = network(given, {"layer3": torch.zeros(3, 1, dtype=torch.bool)})
    torch.testing.assert_close(absent, masked, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(absent, network(given), atol=1e-3)


def test_the_order_of_layers_and_rows_does_not_matter():
    network, given = tiny_network(), tokens()
    order = torch.tensor([2, 0, 1])
    whole = network(given)
    torch.testing.assert_close(network(dict(reversed(given.items()))), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(network({k: v[order] for k, v in given.items()}), whole[order])
    one = torch.cat([network({k: v[i : i + 1] for k, v in given.items()}) for i in range(3)])
    torch.testing.assert_close(one, whole, atol=1e-6, rtol=1e-5)


def test_gradients_in_float64():
    network, given = tiny_network(depth=1, prefix_length=1).double(), tokens(rows=2, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in given.values()]
    assert torch.autograd.gradcheck(lambda a, b: network({"layer3": a, "layer4": b}), inputs)


def test_every_parameter_is_used():
    network = tiny_network()
    network(tokens()).square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_bfloat16_stays_near_float32():
    network, given = tiny_network(), tokens()
    whole = network(given)
    half = network.bfloat16()({k: v.bfloat16() for k, v in given.items()})
    assert (half.float() - whole).abs().max() < 0.05 * whole.abs().max()


def test_the_papers_size():
    layers = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
    with torch.device("meta"):
        network = DeViLNetwork(layers, 768)
    encoder = 12 * (4 * 768**2 + 4 * 768 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768)
    inputs = sum(layers.values()) * 768 + 4 * 768
    output, norm, learned = 768**2 + 768, 2 * 768, (10 + 4) * 768
    total = sum(p.numel() for p in network.parameters())
    assert total == encoder + inputs + output + norm + learned == 88_609_536


def test_the_papers_settings():
    with torch.device("meta"):
        network = DeViLNetwork({"layer4": 2048}, 768)
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-12}
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.0}
    blocks = network.encoder.layers
    assert all(block.norm_first and block.self_attn.num_heads == 12 for block in blocks)
    assert network.encoder.norm is None


def test_initial_weights():
    torch.manual_seed(0)
    network = DeViLNetwork({"a": 200, "b": 300}, 150, prefix_length=100, width=240, depth=2, feedforward=300)
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 2 + 2 * 3 + 1
    for module in linears:
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not module.bias.any()
    assert network.queries.std().item() == pytest.approx(0.1, rel=0.05)
    positions = torch.stack([module.position for module in network.inputs.values()])
    assert positions.std().item() == pytest.approx(0.1, rel=0.1)
    first, second = (block.self_attn.in_proj_weight for block in network.encoder.layers)
    assert first.std().item() == pytest.approx((2 / (240 + 720)) ** 0.5, rel=0.05)
    assert not torch.equal(first, second)


def test_layer_names_may_hold_dots():
    network = DeViLNetwork({"blocks.0": 4, "blocks.1": 4}, WIDTH, width=8, depth=1, heads=2, feedforward=8)
    x = torch.randn(1, 1, 4)
    assert not torch.allclose(network({"blocks.0": x}), network({"blocks.1": x}))
    assert "inputs.blocks/1.projection.weight" in network.state_dict()


def test_config_builds_the_same_network():
    network = tiny_network()
    again = DeViLNetwork(**network.config)
    assert again.config == network.config
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


@pytest.mark.parametrize(
    "change", [{"heads": 3}, {"prefix_length": 0}, {"depth": 0}, {"feedforward": -1}, {"width": 0}]
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError, match=r"multiple of the heads"):
        tiny_network(**change)


@pytest.mark.parametrize("layers", [{}, {"layer4": 0}])
def test_impossible_layers_are_refused(layers):
    with pytest.raises(ValueError, match="at least one layer"):
        DeViLNetwork(layers, WIDTH)


def test_standardised_channels_are_those_of_the_formula():
    plain, network = tiny_network(), tiny_network(standardise=True)
    network.load_state_dict(plain.state_dict(), strict=False)
    given, mean, std = tokens(), torch.randn(6), torch.rand(6) + 0.5
    network.set_moments("layer3", mean, std)
    by_hand = {"layer3": (given["layer3"] - mean) / std, "layer4": given["layer4"]}
    torch.testing.assert_close(network(given), plain(by_hand), atol=1e-6, rtol=1e-5)


def test_a_constant_channel_is_left_out():
    network, given = tiny_network(standardise=True), tokens()
    network.set_moments("layer3", torch.zeros(6), torch.tensor([1.0, 1, 1, 1, 1, 0]))
    changed = {**given, "layer3": given["layer3"] + torch.tensor([0.0, 0, 0, 0, 0, 1e6])}
    assert torch.equal(network(given), network(changed))


def test_it_starts_at_words_with_changes_of_their_size():
    network, words = tiny_network(start=True), 3 * torch.randn(3, WIDTH)
    network.set_start(words)
    change = network(tokens(rows=200)) - words - network.output.bias
    assert 0.5 < change.std() / words.std() < 2
    with torch.no_grad():
        network.output.weight.zero_()
    torch.testing.assert_close(network(tokens())[1], words + network.output.bias)


def test_an_opening_stands_before_every_prefix():
    plain, network = tiny_network(start=True), tiny_network(start=True, opening_length=2)
    words = torch.randn(2, WIDTH)
    network.set_start(torch.zeros(3, WIDTH), words)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k != "opening"})
    found = network(tokens())
    assert torch.equal(found[:, :2], words.expand(3, -1, -1))
    torch.testing.assert_close(found[:, 2:], plain(tokens()))


def test_what_was_not_built_cannot_be_set():
    with pytest.raises(ValueError, match="build it with start=True"):
        tiny_network().set_start(torch.zeros(3, WIDTH))
    with pytest.raises(ValueError, match="its opening_length"):
        tiny_network(start=True).set_start(torch.zeros(3, WIDTH), torch.zeros(1, WIDTH))
    with pytest.raises(ValueError, match="build it with standardise=True"):
        tiny_network().set_moments("layer3", torch.zeros(6), torch.ones(6))


def test_the_papers_network_has_neither():
    assert set(tiny_network().state_dict()) == {
        name
        for name in tiny_network(start=True, standardise=True, opening_length=1).state_dict()
        if name not in ("start", "opening") and not name.endswith((".mean", ".scale"))
    }

import pytest
import torch
from oracles import texplain_prefix
from torch import nn

from torchnle.methods.texplain.network import TExplainNetwork

ARGUMENTS = {"layers": {"encoder": 6}, "language_width": 5, "hidden": 7}
PER_TOKEN = {"tokens": 4}
FLAT = {"tokens": 4, "mode": "flat", "prefix_length": 3}
ONE = {"tokens": 1, "mode": "flat", "prefix_length": 3}


def network(**options):
    torch.manual_seed(3)
    built = TExplainNetwork(**ARGUMENTS, **options)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2)
    return built


def tokens(count, rows=3, dtype=torch.float32):
    return torch.randn(rows, count, 6, generator=torch.Generator().manual_seed(4), dtype=dtype)


@pytest.mark.parametrize("options", [PER_TOKEN, FLAT, ONE])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("training", [False, True])
def test_prefix_equals_the_formulas(options, activation, training):
    built = network(**options, activation=activation).train(training)
    x = tokens(options["tokens"])
    expected = texplain_prefix(
        built.state_dict(),
        x,
        per_token=built.mode == "per_token",
        prefix_length=built.prefix_length,
        activation=activation,
        training=training,
    )
    torch.testing.assert_close(built({"encoder": x}).double(), expected, atol=2e-5, rtol=1e-4)


def test_without_a_nonlinearity_it_is_affine_in_evaluation():
    built, x, y = network(**FLAT).eval(), tokens(4), tokens(4).flip(0)
    middle = built({"encoder": (x + y) / 2})
    torch.testing.assert_close(middle, (built({"encoder": x}) + built({"encoder": y})) / 2)


def test_per_token_treats_all_tokens_alike():
    built, x = network(**PER_TOKEN).eval(), tokens(4)
    torch.testing.assert_close(built({"encoder": x.flip(1)}), built({"encoder": x}).flip(1))


@pytest.mark.parametrize("options", [PER_TOKEN, FLAT])
def test_rows_do_not_touch_one_another_in_evaluation(options):
    built, x = network(**options).eval(), tokens(4)
    order = torch.tensor([2, 0, 1])
    whole = built({"encoder": x})
    torch.testing.assert_close(built({"encoder": x[order]}), whole[order])
    torch.testing.assert_close(torch.cat([built({"encoder": row[None]}) for row in x]), whole)


@pytest.mark.parametrize("options", [PER_TOKEN, FLAT])
def test_gradients_in_float64(options):
    built, x = network(**options, activation="gelu").double(), tokens(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: built({"encoder": t}), x.requires_grad_())


def test_the_papers_size():
    with torch.device("meta"):
        built = TExplainNetwork({"encoder": 768}, 768)
        assert built({"encoder": torch.empty(2, 577, 768)}).shape == (2, 577, 768)
    assert sum(p.numel() for p in built.parameters()) == 3 * (768**2 + 768) + 2 * 2 * 768


@pytest.mark.parametrize("options", [PER_TOKEN, FLAT, ONE])
def test_config_builds_the_same_network(options):
    built = network(**options, activation="relu")
    assert TExplainNetwork(**built.config).config == built.config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": {"a": 6, "b": 6}}, "one layer, not 2"),
        ({"tokens": 4, "prefix_length": 3}, "one prefix vector a token, 4 here"),
        ({"tokens": 4, "mode": "flat"}, "positive prefix_length"),
        ({"mode": "flat", "prefix_length": 0}, "positive prefix_length"),
        ({"mode": "deep", "prefix_length": 2}, "mode='deep'"),
        ({"activation": "tanh"}, "activation='tanh'"),
        ({"tokens": 0}, "positive sizes"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TExplainNetwork(**{**ARGUMENTS, **options})

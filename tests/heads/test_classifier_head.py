"""The head and its features are found by numbers, on models that were never named to the finder."""

import pytest
import torch
from head_checks import check, images, neck_of, read_back, scores, trained_looking
from torch import nn
from torch.nn import functional as F

from torchnle.heads.classifier_head import find_head
from torchnle.heads.neck import Neck
from torchnle.heads.trace import difference, trace
from torchnle.vision.taps import record_with_output


class Small(nn.Module):
    """A small classifier whose way from map to logits the tests write themselves."""

    def __init__(self, finish, classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, classes)
        self.finish = finish

    def forward(self, x):
        return self.finish(self, self.conv(x))


SMALL = {"head_name": "fc", "pooling": "mean", "locations": (4, 6), "size": (9, 13)}


class TestWaysToPool:
    def test_a_module(self):
        check(Small(lambda m, x: m.fc(m.pool(m.act(x)).flatten(1))), tap="act", **SMALL)

    def test_a_function(self):
        check(Small(lambda m, x: m.fc(m.act(x).mean((2, 3)))), tap="act", **SMALL)

    def test_an_activation_by_function_before_a_pooling_module(self):
        check(Small(lambda m, x: m.fc(m.pool(F.elu(x)).flatten(1))), tap="pool:input", at="input", **SMALL)

    def test_an_activation_that_runs_twice(self):
        model = Small(lambda m, x: m.fc(m.pool(m.act(m.act(x) - 0.1)).flatten(1)))
        check(model, tap="pool:input", at="input", **SMALL)

    @pytest.mark.parametrize(("function", "module"), [(F.relu, nn.ReLU), (F.silu, nn.SiLU)])
    def test_activation_and_mean_both_by_function(self, function, module):
        head = check(Small(lambda m, x: m.fc(function(x).mean((2, 3)))), tap="conv", **SMALL)
        assert isinstance(head.branches[0].views[0].pointwise, module)
        assert f"after {module.__name__}" in head.summary

    def test_channel_last_maps(self):
        class Last(nn.Sequential):
            def forward(self, x):
                return self[2](self[1](self[0](x).permute(0, 2, 3, 1)).mean((1, 2)))

        model = Last(nn.Conv2d(3, 8, 3, stride=2), nn.LayerNorm(8), nn.Linear(8, 5))
        head = check(model, head_name="2", tap="1", pooling="mean", locations=(4, 6), size=(9, 13))
        assert head.layout == "NHWC"

    def test_dropout_and_norm_between_mean_and_head(self):
        model = Small(lambda m, x: m.fc(m.norm(m.drop(m.pool(m.act(x)).flatten(1))))).train()
        head = check(model, tap="act", **SMALL)
        assert [type(step) for step in neck_of(head).steps] == [nn.BatchNorm1d]
        assert "through BatchNorm1d (exact for whole images" in head.summary
        assert all(module.training for module in model.modules())

    def test_a_convolution_on_the_map_is_a_head_too(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        check(model, head_name="1", tap="0", pooling="mean", locations=(4, 6), size=(9, 13))

    @pytest.mark.parametrize("prefix", [0, 1, 5])
    def test_tokens_averaged_behind_others(self, prefix):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.norm, self.fc = (
                    nn.Conv2d(3, 8, 8, stride=8),
                    nn.LayerNorm(8),
                    nn.Linear(8, 5),
                )

            def forward(self, x):
                x = self.embed(x).flatten(2).transpose(1, 2)
                front = x[:, :prefix] * 2 if prefix else x[:, :0]
                return self.fc(self.norm(torch.cat([front, x], 1))[:, prefix:].mean(1))

        head = check(Tokens(), head_name="fc", tap="norm", pooling="mean", locations=(6, 8), size=(48, 64))
        assert head.num_prefix_tokens == prefix

    def test_a_class_token(self):
        class Token(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.norm, self.fc = (
                    nn.Conv2d(3, 8, 8, stride=8),
                    nn.LayerNorm(8),
                    nn.Linear(8, 5),
                )

            def forward(self, x):
                x = self.embed(x).flatten(2).transpose(1, 2)
                return self.fc(self.norm(torch.cat([x.square().mean(1, keepdim=True), x], 1))[:, 0])

        head = check(Token(), head_name="fc", tap="norm", pooling="token", locations=(6, 8), size=(48, 64))
        assert "It receives the first of the 49 tokens" in head.summary


class TestHeadsThatAreNotOneLayer:
    def test_a_scaled_layer(self):
        model = Small(lambda m, x: m.fc(m.act(x).mean((2, 3))) * 2)
        head = check(model, tap="act", **SMALL)
        torch.testing.assert_close(head.weight, 2 * model.fc.weight)

    def test_layers_on_one_vector_become_one(self):
        class Two(Small):
            def __init__(self):
                super().__init__(lambda m, x: (m.fc(x.mean((2, 3))) + 3 * m.other(x.mean((2, 3)))) / 4)
                self.other = nn.Linear(8, 5, bias=False)

        model = Two()
        head = check(
            model, head_name="fc + other", tap="conv", pooling="mean", locations=(4, 6), size=(9, 13)
        )
        torch.testing.assert_close(head.weight, (model.fc.weight + 3 * model.other.weight) / 4)
        torch.testing.assert_close(head.bias, model.fc.bias / 4)

    @pytest.mark.parametrize("unit_weight", [False, True])
    @pytest.mark.parametrize("biased", [False, True])
    def test_a_scaled_cosine(self, unit_weight, biased):
        """The head that class prompts make of CLIP: 100 times the cosine of image and text."""

        def finish(m, x):
            weight = F.normalize(m.fc.weight, dim=1) if unit_weight else m.fc.weight
            logits = 100 * F.normalize(x.mean((2, 3)), dim=1) @ weight.T
            return logits + m.fc.bias if biased else logits

        head = check(
            Small(finish), head_name="fc.weight", tap="conv", pooling="mean", locations=(4, 6), size=(9, 13)
        )
        assert [type(step).__name__ for step in neck_of(head).steps] == ["Unit"]
        assert (head.bias is None) != biased

    def test_a_matrix_the_other_way_round(self):
        class Texts(nn.Module):
            def __init__(self):
                super().__init__()
                self.tower = Small(lambda m, x: m.act(x).mean((2, 3)) @ m.proj)
                self.tower.proj = nn.Parameter(torch.randn(8, 6))
                self.register_buffer("texts", torch.randn(6, 5))

            def forward(self, x):
                return 7 * self.tower(x) @ self.texts

        head = check(
            Texts(), head_name="texts", tap="tower.act", pooling="mean", locations=(4, 6), size=(9, 13)
        )
        assert [(type(s).__name__, s.name) for s in neck_of(head).steps] == [("Product", "tower.proj")]

    def test_clipped_at_every_place(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        head = check(model, head_name="1", tap="0", pooling="mean", locations=(4, 6), size=(9, 13))
        assert head.clipped
        assert "negative scores become zero" in head.summary

    def test_parts_that_read_different_layers_are_refused(self):
        class Deep(Small):
            def __init__(self):
                super().__init__(lambda m, x: m.fc(x.mean((2, 3))) + m.other(m.late(x).mean((2, 3))))
                self.late, self.other = nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

        with pytest.raises(ValueError, match="come from 'fc \\+ other', reading different layers"):
            find_head(Deep(), images((9, 13)))


class TestFillingTheImage:
    """A location is repeated at all locations if neither a mean nor a token is read."""

    def filled(self, model, head, example, location):
        """The slow way: the model's own layers on a map that is everywhere as at one location."""
        with torch.no_grad():
            (activation,), _ = record_with_output(model, [head.tap], example)
            return activation[..., location[0], location[1]][..., None, None].expand_as(activation)

    def test_flattened_maps(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
        head = check(model, head_name="3", tap="1", pooling="all", locations=(6, 6), size=(8, 8))
        example = images((8, 8))
        expected = model[3](model[2](self.filled(model, head, example, (2, 5))))
        given = scores(head, read_back(model, head, example, (2, 5))[0])
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("positions", [False, True])
    def test_attention(self, positions):
        class Attention(nn.Module):
            """Attends to all locations from their mean, as CLIP's ResNets do."""

            def __init__(self):
                super().__init__()
                self.inner = nn.MultiheadAttention(8, 2, batch_first=True)
                self.position = nn.Parameter(torch.randn(24, 8) if positions else torch.zeros(1, 8))

            def forward(self, x):
                tokens = x.flatten(2).transpose(1, 2)
                tokens = tokens + self.position[: tokens.shape[1]]
                return self.inner(tokens.mean(1, keepdim=True), tokens, tokens)[0][:, 0]

        model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), Attention(), nn.LayerNorm(8), nn.Linear(8, 5))
        head = check(
            model, head_name="3", tap="1:input", pooling="all", locations=(4, 6), at="input", size=(9, 13)
        )
        assert head.branches[0].views[0].count == (24 if positions else 1)
        example = images((9, 13))
        expected = model[3](model[2](model[1](self.filled(model, head, example, (3, 1)))))
        given = scores(head, read_back(model, head, example, (3, 1))[0])
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)


class TestWithoutPlaces:
    @pytest.mark.parametrize(
        "finish",
        [
            lambda m, x: m.fc(x.amax((2, 3))),
            lambda m, x: m.fc((x * x.softmax(1)).sum((2, 3))),
            lambda m, x: m.fc(x[:, :, 0, 0]),
        ],
    )
    def test_other_pooling_falls_back_to_the_vector_and_says_so(self, finish):
        head = check(
            Small(finish), head_name="fc", tap="fc:input", at="input", pooling="none", locations=None
        )
        assert "only whole images can be read" in head.summary
        assert neck_of(head) is None

    def test_an_example_too_small_to_have_places(self):
        model = Small(lambda m, x: m.fc(m.pool(m.act(x)).flatten(1)))
        check(model, head_name="fc", tap="fc:input", at="input", pooling="none", locations=None, size=(3, 3))


class TestRefusals:
    def test_another_number_of_class_names(self):
        model = Small(lambda m, x: m.fc(x.mean((2, 3))))
        assert find_head(model, images(), 5).weight.shape == (5, 8)
        with pytest.raises(ValueError, match=r"'fc' has 5 classes, but 7 class names"):
            find_head(model, images(), 7)

    def test_logits_that_no_layer_gives(self):
        with pytest.raises(ValueError, match="no linear layer of Small gives its 5 logits, by itself"):
            find_head(Small(lambda m, x: m.fc(x.mean((2, 3))).tanh()), images())

    def test_the_layers_of_that_size_are_named(self):
        model = nn.ModuleDict({"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)})
        model.forward = lambda x: torch.maximum(model["a"](x.mean((2, 3))), model["b"](x.amax((2, 3))))
        with pytest.raises(ValueError, match=r"layers of that size: a, b"):
            find_head(model, images())

    def test_outputs_that_are_no_logits(self):
        with pytest.raises(ValueError, match=r"no 1x1 convolution of Conv2d"):
            find_head(nn.Conv2d(3, 4, 3), images())

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_scripted_models(self):
        with pytest.raises(RuntimeError, match="TorchScript"):
            find_head(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))), images((2, 2)))

    def test_no_hook_survives(self):
        model = Small(lambda m, x: m.fc(x.mean((2, 3))))
        for example in (images(), images(channels=4)):
            try:
                find_head(model, example)
            except ValueError:
                assert example.shape[1] == 4
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class TestNeck:
    def test_rows_take_the_shapes_of_the_model(self):
        torch.manual_seed(0)
        norm, conv = nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 1)
        rows = torch.randn(6, 4)
        expected = torch.cat([conv(norm(row.view(1, 4, 1, 1))).view(1, 3) for row in rows])
        torch.testing.assert_close(Neck([norm, conv], [(4, 1, 1), (4, 1, 1)])(rows), expected)

    def test_it_leaves_the_rows_alone(self):
        rows = torch.tensor([[-1.0, 2.0]])
        assert Neck([nn.ReLU(inplace=True)], [(2,)])(rows).tolist() == [[0, 2]]
        assert rows.tolist() == [[-1, 2]]

    def test_it_never_trains(self):
        norm = nn.BatchNorm1d(2).train()
        assert torch.allclose(Neck([norm], [(2,)])(torch.ones(1, 2)), torch.ones(1, 2), atol=1e-4)
        assert norm.training
        assert norm.num_batches_tracked == 0


def test_difference_is_relative_and_knows_zeros():
    zeros = torch.zeros(3)
    assert difference(zeros, zeros) == 0
    assert difference(torch.ones(3), zeros) > 1e30
    assert difference(torch.tensor([2.0, 1.0]), torch.tensor([4.0, 1.0])) == 0.5


def test_half_precision_models():
    model = Small(lambda m, x: m.fc(m.norm(m.pool(m.act(x)).flatten(1))))
    head = find_head(trained_looking(model).to(torch.bfloat16), images().to(torch.bfloat16))
    assert (head.tap.name, head.pooling) == ("act", "mean")
    assert len(neck_of(head).steps) == 1


def test_a_trace_is_one_forward_without_gradients():
    model = Small(lambda m, x: m.fc(m.act(x).mean((2, 3))))
    runs = []
    model.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    assert [call.name for call in trace(model, images()).calls][-1] == "fc"
    assert runs == [False]

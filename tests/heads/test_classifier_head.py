"""The head and its features are found by numbers, on models that were never named to the finder."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchnle.heads.classifier_head import find_head
from torchnle.heads.neck import Neck
from torchnle.heads.trace import difference, trace
from torchnle.vision.features import Features
from torchnle.vision.layouts import hints_for
from torchnle.vision.taps import first_tensor, record_with_output, resolve

SIZE = (96, 128)


def images(size=SIZE, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def trained_looking(model):
    """Untrained models have heads of zeros and statistics of nothing; these are neither."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def read_back(model, head, example, where=None):
    """What the head receives, by a second forward and the public path alone; and the model's logits."""
    features, logits = features_at(model, head, example)
    with torch.no_grad():
        return head.read(features, where), logits


def features_at(model, head, example):
    with torch.no_grad():
        (activation,), output = record_with_output(model, [head.tap], example)
    features = Features.from_activation(
        activation,
        head.tap.name,
        batch_size=len(example),
        input_size=tuple(example.shape[2:]),
        layout=head.layout,
        num_prefix_tokens=head.num_prefix_tokens,
        hints=hints_for(model, head.tap.module, head.tap.at),
    )
    return features, first_tensor(getattr(output, "logits", output))


def neck_of(head):
    return head.branches[0].neck if head.branches else None


def scores(head, features):
    return F.linear(features.rows, head.weight, head.bias)


def check(model, *, head_name, tap, pooling, locations, at="output", size=SIZE):
    """Find the head, compare what was chosen, and check by numbers that it gives the logits."""
    example = images(size)
    head = find_head(trained_looking(model), example)
    assert (head.head_name, head.tap.name, head.tap.at, head.pooling) == (head_name, tap, at, pooling)
    assert resolve(model, head.tap.name) == [head.tap]
    features, logits = features_at(model, head, example)
    assert logits.abs().max() > 0
    close = {"rtol": 1e-4, "atol": 1e-5 * float(logits.abs().max())}
    with torch.no_grad():
        torch.testing.assert_close(head.logits(features), logits, **close)
    if not head.clipped:
        torch.testing.assert_close(scores(head, read_back(model, head, example)[0]), logits, **close)
    if locations is not None:
        everywhere = read_back(model, head, example, "all")[0]
        assert everywhere.grid == locations
        if pooling == "mean" and neck_of(head) is None and not head.clipped:
            mean = scores(head, everywhere).view(*logits.shape[:1], -1, logits.shape[1]).mean(1)
            torch.testing.assert_close(mean, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
    assert f"'{head_name}'" in head.summary
    return head


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


def torchvision(name, **kwargs):
    return lambda: getattr(pytest.importorskip("torchvision.models"), name)(num_classes=7, **kwargs)


def timm(name, **kwargs):
    return lambda: pytest.importorskip("timm").create_model(name, num_classes=7, **kwargs)


def transformers(name, config, **kwargs):
    def build():
        library = pytest.importorskip("transformers")
        return getattr(library, name)(getattr(library, config)(num_labels=7, **kwargs))

    return build


def efficientnet_lite():
    return pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")


TINY_VIT = {"image_size": (64, 96), "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 2}
TINY_VIT |= {"num_attention_heads": 2, "intermediate_size": 64}
TINY_CONV = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
#: id -> how to build it, what is found: head, features, pooling, locations, the neck's modules, at, size.
MODELS = {
    "tv resnet18": (torchvision("resnet18"), "fc", "layer4", "mean", (3, 4)),
    "tv mobilenet_v3_small": (
        torchvision("mobilenet_v3_small"), "classifier.3", "features", "mean", (3, 4), ["Linear", "Hardswish"]
    ),
    "tv efficientnet_b0": (torchvision("efficientnet_b0"), "classifier.1", "features", "mean", (3, 4)),
    "tv convnext_tiny": (
        torchvision("convnext_tiny"), "classifier.2", "features", "mean", (3, 4), ["LayerNorm2d"]
    ),
    "tv densenet121": (torchvision("densenet121"), "classifier", "features", "mean", (3, 4)),
    "tv regnet_y_400mf": (torchvision("regnet_y_400mf"), "fc", "trunk_output", "mean", (3, 4)),
    "tv shufflenet": (torchvision("shufflenet_v2_x0_5"), "fc", "conv5", "mean", (3, 4)),
    "tv swin_t": (torchvision("swin_t"), "head", "permute", "mean", (3, 4)),
    "tv vit_b_16": (
        torchvision("vit_b_16", image_size=64),
        "heads.head", "encoder", "token", (4, 4), [], "output", (64, 64),
    ),
    "tv vgg11": (
        torchvision("vgg11", init_weights=False),
        "classifier.6", "avgpool", "all", (7, 7), ["Filled", "Linear", "ReLU", "Linear", "ReLU"],
    ),
    "tv squeezenet1_1": (torchvision("squeezenet1_1"), "classifier.1", "features", "mean", (5, 7)),
    "timm deit distilled": (
        timm("deit_tiny_distilled_patch16_224", img_size=SIZE), "head + head_dist", "norm", "token", (6, 8)
    ),
    "timm levit": (
        timm("levit_128s"), "head.linear + head_dist.linear", "stages", "mean", (4, 4), ["BatchNorm1d"],
        "output", (224, 224),
    ),
    "timm efficientformer": (
        timm("efficientformer_l1"), "head + head_dist", "norm", "mean", (7, 7), [], "output", (224, 224)
    ),
    "timm caformer": (
        timm("caformer_s18"), "head.fc.fc2", "stages", "mean", (3, 4),
        ["LayerNorm2d", "Linear", "SquaredReLU", "LayerNorm"],
    ),
    "hf dinov2": (
        transformers("Dinov2ForImageClassification", "Dinov2Config", **TINY_VIT | {"image_size": 64}),
        "classifier", "dinov2.layernorm", "tokens", (4, 4), [], "output", (64, 64),
    ),
    "timm resnet18": (timm("resnet18"), "fc", "layer4", "mean", (3, 4)),
    "timm vit_tiny": (timm("vit_tiny_patch16_224", img_size=SIZE), "head", "norm", "token", (6, 8)),
    "timm vit_tiny averaged": (
        timm("vit_tiny_patch16_224", img_size=SIZE, global_pool="avg"),
        "head", "blocks", "mean", (6, 8), ["LayerNorm"],
    ),
    "timm convnext_atto": (timm("convnext_atto"), "head.fc", "stages", "mean", (3, 4), ["LayerNorm2d"]),
    "timm swin_tiny": (
        timm("swin_tiny_patch4_window7_224", img_size=SIZE), "head.fc", "norm", "mean", (3, 4)
    ),
    "timm mobilenetv3_small": (
        timm("mobilenetv3_small_050"), "classifier", "blocks", "mean", (3, 4), ["Conv2d", "Hardswish"]
    ),
    "timm efficientnet_lite0": (timm("efficientnet_lite0"), "classifier", "bn2", "mean", (3, 4)),
    "timm bit resnet": (timm("resnetv2_50x1_bit"), "head.fc", "norm", "mean", (3, 4)),
    "hf resnet": (
        transformers("ResNetForImageClassification", "ResNetConfig", embedding_size=8, **TINY_CONV),
        "classifier.1", "resnet.encoder.stages.3", "mean", (3, 4),
    ),
    "hf vit": (
        transformers("ViTForImageClassification", "ViTConfig", **TINY_VIT),
        "classifier", "vit.layernorm", "token", (4, 6), [], "output", (64, 96),
    ),
    "hf convnextv2": (
        transformers("ConvNextV2ForImageClassification", "ConvNextV2Config", **TINY_CONV),
        "classifier", "convnextv2.encoder.stages.3", "mean", (3, 4), ["LayerNorm"],
    ),
    "hf swin": (
        transformers(
            "SwinForImageClassification", "SwinConfig",
            image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4,
        ),
        "classifier", "swin.layernorm", "mean", (8, 8), [], "output", (64, 64),
    ),
    "efficientnet-lite0": (efficientnet_lite, "_fc", "_avg_pooling:input", "mean", (3, 4), [], "input"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_in_the_wild(name):
    build, head_name, tap, pooling, locations, *rest = MODELS[name]
    neck, at, size = (*rest, *([], "output", SIZE)[len(rest) :])
    head = check(
        build(), head_name=head_name, tap=tap, pooling=pooling, locations=locations, at=at, size=size
    )
    assert [type(step).__name__ for step in (neck_of(head).steps if neck_of(head) else [])] == neck


def test_densenet_applies_its_last_relu_by_function():
    head = find_head(torchvision("densenet121")(), images())
    assert isinstance(head.branches[0].views[0].pointwise, nn.ReLU)


def test_the_embedded_default_has_49_places_at_its_own_size():
    head = find_head(efficientnet_lite(), images((224, 224)), 1000)
    assert head.weight.shape == (1000, 1280)
    assert "over the 7x7 locations of the input of '_avg_pooling'" in head.summary

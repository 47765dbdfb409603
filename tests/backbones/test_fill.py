"""Checkpoints of other networks: messages name the architecture that fits, or the number of classes."""

from __future__ import annotations

import pytest
import timm
import torch
from torchvision import models

from torchnle.backbones.checkpoint import load_checkpoint
from torchnle.backbones.fill import fitting_architectures

NAMES = [f"thing {i}" for i in range(12)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("own") / "own.pt"
    torch.save(timm.create_model("resnet26", num_classes=12).state_dict(), file)
    return file


def test_the_architecture_that_fits_is_named(file):
    with pytest.raises(ValueError, match=r"not hold the weights of timm:resnet18\. They fit timm:resnet26"):
        load_checkpoint(file, "timm:resnet18", NAMES)


def test_another_number_of_classes_is_told(file):
    with pytest.raises(ValueError, match="a network with 12 classes, and 3 class names were given"):
        load_checkpoint(file, "timm:resnet26", NAMES[:3])


def test_one_of_no_similar_name_is_listed(file):
    with pytest.raises(ValueError, match="Pass the architecture that it was trained with"):
        load_checkpoint(file, "timm:vit_tiny_patch16_224", NAMES)


def test_architectures_of_torchvision_are_compared_without_downloads(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    state = models.resnet34(num_classes=12).state_dict()
    assert fitting_architectures(state, "torchvision:resnet18") == ["torchvision:resnet34"]


@pytest.mark.parametrize(
    ("name", "meant"), [("timm:resnet81", "resnet18"), ("torchvision:resnet81", "resnet18")]
)
def test_a_misspelt_architecture(file, name, meant):
    with pytest.raises(ValueError, match=f"has no model 'resnet81'. Nearest: .*{meant}"):
        load_checkpoint(file, name, NAMES)

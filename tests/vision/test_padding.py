"""Detectors that pad images at one side are refused for such images, and read for others."""

from __future__ import annotations

import pytest
import torch

from torchnle.vision.reading import read
from torchnle.vision.taps import resolve


def detector():
    torchvision = pytest.importorskip("torchvision")
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    torch.manual_seed(0)
    return build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=128).eval()


@pytest.mark.parametrize("size", [(64, 100), (100, 64), (70, 110)])
def test_padded_images_are_refused(size):
    model = detector()
    with pytest.raises(ValueError, match="pads them right and below"):
        read(model, resolve(model, "backbone.body.16"), torch.rand(1, 3, *size))


def test_images_that_fit_are_read():
    model = detector()
    (features,) = read(model, resolve(model, "backbone.body.16"), torch.rand(1, 3, 64, 96))
    assert features.grid == (2, 3)
